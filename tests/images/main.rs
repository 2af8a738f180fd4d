//! What attackers put into images, and what becomes of it: class T12 of
//! docs/attacks.md, and the bounds of docs/images.md.
//!
//! The corpus is generated: `layers` and `documents` are tables of images, each with
//! what must happen. `CAROB_CORPUS=DIR` writes their archives there, for other tools
//! and for the fuzzer.

mod bounds;
mod corpus;
mod documents;
mod image;
mod layers;
mod place;
#[path = "../shared/ran.rs"]
mod ran;
mod server;
mod tar;

use place::Place;

#[test]
fn hostile_layers() {
    corpus::run(layers::all);
}

#[test]
fn hostile_documents() {
    corpus::run(documents::all);
}

#[test]
fn a_layout_that_leads_outside() {
    let place = Place::new();
    let layout = documents::directory_with_links(&place);
    let outside = place.outside();
    place.carob(&["load", "-i", &layout]).fails(8, "openat2(");
    assert!(place.store().is_empty(), "{:?}", place.store());
    // Made by the program as it starts.
    let mut after = place.outside();
    after.retain(|path, _| outside.contains_key(path));
    assert_eq!(after, outside);
}

/// The same archives, for whoever wants them.
#[test]
fn the_corpus_is_written_where_it_is_asked_for() {
    let place = Place::new();
    let dir = std::env::var_os("CAROB_CORPUS").map_or_else(|| place.dir.join("corpus"), Into::into);
    std::fs::create_dir_all(&dir).unwrap();
    let mut list = String::new();
    for case in layers::all("/canary")
        .into_iter()
        .chain(documents::all("/canary"))
    {
        let must = match &case.want {
            corpus::Want::Refused(words) => format!("refused\t{words}"),
            corpus::Want::Made(looks) => format!("made\t{looks:?}"),
            corpus::Want::Merged(script, says) => format!("made\t{script}: {says}"),
        };
        let file = format!("{}.tar", case.name);
        std::fs::write(dir.join(&file), corpus::archive_of(&case)).unwrap();
        list.push_str(&format!("{file}\t{must}\n"));
    }
    std::fs::write(dir.join("LIST"), &list).unwrap();
    assert!(list.lines().count() > 150, "{}", list.lines().count());
}
