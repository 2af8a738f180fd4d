//! Runs every case: `carob load` of its archive, `carob pull` of the same blobs from
//! a registry on loopback, and after each a look at what is outside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::image::Oci;
use crate::place::{Is, Place};
use crate::ran::Ran;
use crate::server::Server;

#[derive(Clone)]
pub(crate) struct Case {
    pub name: &'static str,
    pub content: Content,
    pub want: Want,
}

#[derive(Clone)]
pub(crate) enum Content {
    /// Loaded and pulled.
    Oci(Oci),
    /// Loaded; its image, if it has one, is `localhost/corpus/<name>:1`.
    Archive(Vec<u8>),
}

#[derive(Clone)]
pub(crate) enum Want {
    /// By exit code 8, with these words.
    Refused(&'static str),
    /// The topmost layer looks like this.
    Made(Vec<(Vec<u8>, Is)>),
    /// A shell sees this in all its layers together.
    Merged(&'static str, &'static str),
}

pub(crate) fn image_name(case: &Case) -> String {
    format!("localhost/corpus/{}:1", case.name)
}

pub(crate) fn archive_of(case: &Case) -> Vec<u8> {
    match &case.content {
        Content::Oci(oci) => oci.archive(&image_name(case)),
        Content::Archive(bytes) => bytes.clone(),
    }
}

/// Each of them waits for the disk mostly, so that several are at it, each in a place
/// of its own.
const THREADS: usize = 4;

/// `cases` are told where the canary is.
pub(crate) fn run(cases: impl Fn(&str) -> Vec<Case> + Sync) {
    let names: Vec<&str> = cases("/canary").iter().map(|c| c.name).collect();
    let distinct: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "names that are there twice");
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let cases = &cases;
        let threads: Vec<_> = (0..THREADS)
            .map(|n| scope.spawn(move || run_part(cases, n)))
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        names.len()
    );
}

/// Every `THREADS`th case from the `n`th on; the names of those that fail.
fn run_part(cases: &impl Fn(&str) -> Vec<Case>, n: usize) -> Vec<&'static str> {
    let place = Place::new();
    // What every call makes is there before anything is compared.
    let first = Oci::new(&[crate::tar::tar().file("f", "").end()]);
    let first = place.write("image", &first.archive("localhost/first:1"));
    place.carob(&["load", "-i", &first]).ok();
    let server = Server::start();
    let mut failed = Vec::new();
    for case in cases(&place.canary()).iter().skip(n).step_by(THREADS) {
        let image = image_name(case);
        let file = place.write("image", &archive_of(case));
        // All of them, not the first that fails.
        let done = catch_unwind(AssertUnwindSafe(|| {
            let load = |p: &Place| p.carob(&["load", "-i", &file]);
            judge(&place, case, "load", &image, load);
            if let Content::Oci(oci) = &case.content {
                let pulled = server.serve(case.name, oci);
                let pull = |p: &Place| p.carob(&["pull", "-q", &pulled]);
                judge(&place, case, "pull", &pulled, pull);
            }
        }));
        if done.is_err() {
            failed.push(case.name);
        }
    }
    failed
}

fn judge(place: &Place, case: &Case, verb: &str, image: &str, act: impl Fn(&Place) -> Ran) {
    let about = format!("{} ({verb})", case.name);
    let (outside, store) = (place.outside(), place.store());
    let ran = act(place);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(
        place.outside(),
        outside,
        "{about}: something outside was changed: {said}"
    );
    assert!(!said.contains('\x1b'), "{about}: {said:?}");
    if let Want::Refused(words) = &case.want {
        assert_eq!(ran.code, 8, "{about}: {said}");
        assert!(said.contains(words), "{about}: no {words:?} in: {said}");
        assert_eq!(place.store(), store, "{about}: something is left: {said}");
        place.carob(&["system", "check"]).ok();
        return;
    }
    assert_eq!(ran.code, 0, "{about}: {said}");
    place.carob(&["system", "check"]).ok();
    let layers: Vec<PathBuf> = place.layers(image);
    match &case.want {
        Want::Made(looks) => {
            for (path, is) in looks {
                is.check(&about, layers.last().unwrap(), path);
            }
        }
        Want::Merged(script, says) => {
            assert_eq!(place.merged(&layers, script), *says, "{about}");
        }
        Want::Refused(_) => {}
    }
    place.carob(&["rmi", image]).ok();
    assert_eq!(place.store(), store, "{about}: rmi leaves something");
    assert_eq!(
        place.outside(),
        outside,
        "{about}: rmi changed something outside"
    );
}
