//! Layers and blobs that are there, that are not, and that came half.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::image::Limits;
use crate::image::archive::compression::tests::gzip;
use crate::image::archive::tar::tests::Builder;
use crate::image::layer::fetch::PARALLEL;
use crate::image::load::tests::{Root, Sample, tar_of};
use crate::image::manifest::{Document, parse, parse_config};

/// The layers of a sample, of which each ends in an error where it is told to.
struct Source {
    layers: Vec<Vec<u8>>,
    breaks: Vec<Option<usize>>,
    /// Who was asked, from where.
    asked: Mutex<Vec<(usize, u64)>>,
}

impl Source {
    fn new(sample: &Sample) -> Self {
        Source {
            layers: sample.layers.iter().map(|l| gzip(l)).collect(),
            breaks: vec![None; sample.layers.len()],
            asked: Mutex::default(),
        }
    }

    fn asked(&self) -> Vec<(usize, u64)> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }
}

impl LayerSource for Source {
    fn open_layer(&self, i: usize) -> Result<Box<dyn Read + '_>> {
        self.open_layer_at(i, 0)
    }
    fn open_layer_at(&self, i: usize, offset: u64) -> Result<Box<dyn Read + '_>> {
        self.asked.lock().unwrap().push((i, offset));
        let at = offset as usize;
        let layer = &self.layers[i];
        Ok(match self.breaks[i] {
            Some(end) => Box::new(layer[at..end].chain(Broken)),
            None => Box::new(&layer[at..]),
        })
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the line is cut"))
    }
}

/// Layers that are large enough to come in parts, compressed or not.
fn sample() -> Sample {
    let mut x = 88_172_645_463_325_252u64;
    let noise: Vec<u8> = (0..200_000)
        .map(|_| {
            // Marsaglia's xorshift.
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect();
    let layers = vec![
        Builder::default().file("a", &noise).end(),
        Builder::default().file("b", &noise[7..]).end(),
    ];
    Sample::with("x", layers)
}

fn wanted(sample: &Sample, name: &str) -> Wanted {
    let files = sample.oci(name, gzip);
    let manifest =
        files
            .iter()
            .map(|(_, bytes)| bytes)
            .find_map(|b| match parse(b, "", &Limits::default()) {
                Ok(Document::Manifest(m)) => Some((b.clone(), m)),
                _ => None,
            });
    let (bytes, manifest) = manifest.unwrap();
    Wanted {
        config: parse_config(&sample.config, &Limits::default()).unwrap(),
        config_bytes: sample.config.clone(),
        layers: Some(manifest.layers),
        digest: Some(Digest::of(&bytes)),
        documents: vec![bytes],
        names: vec![name.parse().unwrap()],
    }
}

fn take(root: &Root, wanted: &Wanted, source: &Source) -> Result<Image> {
    let transaction = Transaction::begin(&root.1)?;
    ingest(&transaction, wanted, source, &mut |_| {})
}

fn blob(root: &Root, bytes: &[u8]) -> PathBuf {
    root.1.blobs().join(Digest::of(bytes).hex())
}

#[test]
fn blobs_are_kept_as_they_came() {
    let root = Root::new("kept");
    let sample = Sample::new("a");
    let files = sample.oci("a:1", gzip);
    root.load("i", &tar_of(&files)).unwrap();
    for (name, bytes) in files.iter().filter(|(n, _)| n.starts_with("blobs/")) {
        assert_eq!(&std::fs::read(root.images_dir().join(name)).unwrap(), bytes);
    }
    // From a docker-archive too, whose layers are plain.
    let other = Sample::with("b", vec![Builder::default().file("z", b"z").end()]);
    root.load("i", &other.docker("b:1")).unwrap();
    assert_eq!(
        std::fs::read(blob(&root, &other.layers[0])).unwrap(),
        other.layers[0]
    );
    assert_eq!(root.1.check(false, &|_| false).unwrap().faults, []);
    assert_eq!(std::fs::read_dir(root.1.partial()).unwrap().count(), 0);
}

#[test]
fn only_what_is_missing_is_made() {
    let root = Root::new("missing");
    let sample = sample();
    let source = Source::new(&sample);
    let wanted = wanted(&sample, "a:1");
    let image = take(&root, &wanted, &source).unwrap();
    assert_eq!(source.asked(), [(0, 0), (1, 0)]);
    take(&root, &wanted, &source).unwrap();
    assert_eq!(source.asked(), []);

    // A blob alone: the layer stays as it is.
    let witness = image.layers[0].join("witness");
    std::fs::write(&witness, b"").unwrap();
    let first = blob(&root, &source.layers[0]);
    std::fs::remove_file(&first).unwrap();
    take(&root, &wanted, &source).unwrap();
    assert_eq!(source.asked(), [(0, 0)]);
    assert!(witness.exists() && first.exists());

    // A layer alone: nobody is asked.
    std::fs::remove_dir_all(&image.layers[0]).unwrap();
    take(&root, &wanted, &source).unwrap();
    assert_eq!(source.asked(), []);
    assert!(!witness.exists() && image.layers[0].join("a").exists());

    // A layer whose blob has rotted: asked for, and both are sound again.
    std::fs::remove_dir_all(&image.layers[0]).unwrap();
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    take(&root, &wanted, &source).unwrap();
    assert_eq!(source.asked(), [(0, 0)]);
    assert_eq!(root.1.check(false, &|_| false).unwrap().faults, []);
}

#[test]
fn a_blob_is_gone_on_with() {
    let root = Root::new("resume");
    let sample = sample();
    let mut source = Source::new(&sample);
    let wanted = wanted(&sample, "a:1");
    // The first layer is whole, the second is cut.
    source.breaks[1] = Some(100_000);
    let single = |i: usize| Wanted {
        config_bytes: sample.config.clone(),
        config: parse_config(&sample.config, &Limits::default()).unwrap(),
        layers: wanted.layers.clone(),
        digest: None,
        documents: vec![],
        names: vec![[&"a:1", &"a:2"][i].parse().unwrap()],
    };
    let e = take(&root, &single(0), &source).unwrap_err();
    assert!(e.to_string().contains("the line is cut"), "{e}");
    let partial = root.1.partial().join(Digest::of(&source.layers[1]).hex());
    let have = partial.metadata().unwrap().len();
    assert!((1..=100_000).contains(&have), "{have}");
    source.asked();

    // Both go on; of the first perhaps nothing is left to do.
    source.breaks[1] = None;
    take(&root, &wanted, &source).unwrap();
    let asked = source.asked();
    assert!(asked.contains(&(1, have)), "{asked:?}");
    assert!(!partial.exists());

    // What is there is wrong: from the beginning then, once.
    let all = root.1.remove("a:1", true, &|_| false);
    all.unwrap();
    let wrong = vec![7u8; 1000];
    std::fs::write(&partial, &wrong).unwrap();
    let one = root.1.partial().join(Digest::of(&source.layers[0]).hex());
    let mut subtle = source.layers[0][..90_000].to_vec();
    subtle[80_000] ^= 1;
    std::fs::write(&one, subtle).unwrap();
    take(&root, &wanted, &source).unwrap();
    assert_eq!(source.asked(), [(0, 0), (0, 90_000), (1, 0), (1, 1000)]);
    assert_eq!(root.1.check(false, &|_| false).unwrap().faults, []);

    // And one that was whole already.
    root.1.remove("a:1", true, &|_| false).unwrap();
    std::fs::write(&partial, &source.layers[1]).unwrap();
    take(&root, &wanted, &source).unwrap();
    assert_eq!(source.asked(), [(0, 0)]);
}

#[test]
fn what_a_failed_pull_has_finished_is_kept() {
    let root = Root::new("failed");
    let mut sample = sample();
    // Several, so that some are done before the last one breaks.
    let more: Vec<Vec<u8>> = (0..6)
        .map(|i| Builder::default().file(&format!("f{i}"), b"x").end())
        .collect();
    sample.layers = [more, sample.layers].concat();
    let sample = Sample::with("x", sample.layers);
    let mut source = Source::new(&sample);
    let wanted = wanted(&sample, "a:1");
    source.breaks[7] = Some(100_000);
    take(&root, &wanted, &source).unwrap_err();
    // All but those that were at work.
    let least = sample.layers.len() - PARALLEL;
    assert!(root.layer_dirs() >= least, "{}", root.layer_dirs());
    assert!(root.1.list().unwrap().is_empty());
    source.asked();
    source.breaks[7] = None;
    take(&root, &wanted, &source).unwrap();
    assert!(source.asked().len() <= PARALLEL);

    // But not of an image that is wrong.
    let root = Root::new("failed-wrong");
    source.layers[7][100_000] ^= 1;
    let e = take(&root, &wanted, &source).unwrap_err();
    assert_eq!(e.kind(), Kind::Invalid, "{e}");
    assert_eq!(root.layer_dirs(), 0);
    assert_eq!(std::fs::read_dir(root.1.partial()).unwrap().count(), 0);
}

#[test]
fn two_at_the_same_blob() {
    let root = Root::new("two");
    let sample = sample();
    let source = Source::new(&sample);
    let wanted = wanted(&sample, "a:1");
    let other = Transaction::begin(&root.1).unwrap();
    let digest = Digest::of(&source.layers[0]);
    let held = crate::image::store::partial::Partial::open(&other, Some(&digest), 0).unwrap();
    take(&root, &wanted, &source).unwrap();
    assert_eq!(source.asked(), [(0, 0), (1, 0)]);
    held.remove();
    drop(other);
    assert_eq!(root.1.check(false, &|_| false).unwrap().faults, []);
}

#[test]
fn transactions_begin_while_others_end() {
    let root = Root::new("begin-end");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    drop(Transaction::begin(&root.1).unwrap());
                }
            });
        }
    });
    drop(Transaction::begin(&root.1).unwrap());
    let ingest = root.images_dir().join("ingest");
    assert_eq!(std::fs::read_dir(ingest).unwrap().count(), 0);
}
