//! Bombs, and what the largest honest images cost: time and memory as numbers.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::image::{Oci, digest};
use crate::place::Place;
use crate::ran::Ran;
use crate::server::Server;
use crate::tar::{Tar, tar};

/// Whatever the image: docs/images.md.
const MAX_MEMORY: u64 = 64 << 20;

struct Measured {
    ran: Ran,
    /// The most memory that it had at once.
    memory: u64,
    time: Duration,
}

/// Runs it below time(1), which tells the peak of its memory.
fn measure(place: &Place, args: &[&str]) -> Measured {
    let report = place.dir.join("time");
    let command = place.command(args);
    let start = Instant::now();
    let out = std::process::Command::new("time")
        .args(["-f", "%M", "-o"])
        .arg(&report)
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("CAROB_ROOT")
        .stdin(Stdio::null())
        .output()
        .expect("time must be installed (Debian's package time)");
    let time = start.elapsed();
    let text = std::fs::read_to_string(&report).unwrap();
    let kib: u64 = text.lines().last().unwrap().trim().parse().unwrap();
    let memory = kib << 10;
    assert!(memory < MAX_MEMORY, "{args:?}: {memory} bytes of memory");
    Measured {
        ran: out.into(),
        memory,
        time,
    }
}

/// The space that the place takes on the disk.
fn disk(place: &Place) -> u64 {
    fn sum(dir: &std::path::Path) -> u64 {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .map(|e| match e.file_type() {
                Ok(t) if t.is_dir() => sum(&e.path()),
                _ => e.metadata().map_or(0, |m| m.blocks() * 512),
            })
            .sum()
    }
    sum(&place.dir.join("root"))
}

#[track_caller]
fn refused(place: &Place, args: &[&str], bound: &str) {
    let seen = measure(place, &[args, &["-o", "json"]].concat());
    let error: Value = serde_json::from_str(seen.ran.stderr.lines().last().unwrap()).unwrap();
    let error = &error["error"];
    assert_eq!(error["exitCode"], 8, "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&format!("{bound}=")), "{bound}: {message}");
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("--limit {bound}=")), "{hint}");
    assert!(place.store().is_empty(), "{:?}", place.store());
    assert!(disk(place) < 1 << 20, "{} bytes are left", disk(place));
}

/// A tar of one file of 5 GB of zeros, by fifty members or frames of the same bytes.
fn bomb(pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let header = tar().raw("zeros", b'0', b"", |b| {
        b[124..136].copy_from_slice(b"45201371000\0"); // 5000000000
    });
    let zeros = pack(&vec![0; 100_000_000]);
    [pack(&header.0), zeros.repeat(50)].concat()
}

fn best(data: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

/// What a program makes of `data`.
fn by(program: &str, options: &[&str], data: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new(program)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}: hack/setup test installs it"));
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(data).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

#[test]
fn bombs_are_refused_by_a_bound() {
    let place = Place::new();
    let plain: &[u8] = b"another";
    let bomb = bomb(best);
    assert!(bomb.len() < 6_000_000, "{}", bomb.len());
    let image = Oci::packed(&[(bomb.clone(), plain)], json!({}));
    let file = place.write("image", &image.archive("localhost/bomb:1"));
    let start = Instant::now();
    refused(&place, &["load", "-i", &file], "unpack-ratio");
    assert!(start.elapsed() < Duration::from_secs(20), "at its header");

    let small = self::bomb(|data| zstd::bulk::compress(data, 1).unwrap());
    let small = Oci::packed(&[(small, plain)], json!({}));
    let file = place.write("image", &small.archive("localhost/bomb:1"));
    refused(&place, &["load", "-i", &file], "unpack-ratio");

    // Many files, none of which says too much: by what has been unpacked.
    let mut name = 0;
    let many = std::iter::from_fn(|| {
        name += 1;
        (name < 100).then(|| tar().file(format!("{name}"), vec![0; 1 << 20]).0)
    });
    let many: Vec<u8> = many.flatten().collect();
    let low = ["--limit", "unpack-free=10Mi", "--limit", "unpack-ratio=50"];
    let image = Oci::packed(&[(best(&many), plain)], json!({}));
    let file = place.write("image", &image.archive("localhost/bomb:1"));
    refused(
        &place,
        &[&["load", "-i", &file][..], &low].concat(),
        "unpack-ratio",
    );

    // An archive that is the bomb itself.
    for packed in [
        best(&many),
        by("xz", &["-c", "-1"], &many),
        by("bzip2", &["-c"], &many),
    ] {
        let file = place.write("image", &packed);
        refused(
            &place,
            &[&["load", "-i", &file][..], &low].concat(),
            "unpack-ratio",
        );
    }

    // Bytes that a server promises, and does not send, buy less than they would.
    let server = Server::start();
    let mut image = Oci::packed(&[(bomb.clone(), plain)], json!({}));
    let claimed = 1u64 << 30;
    image = image.with_manifest(|m| m["layers"][0]["size"] = claimed.into());
    let pulled = server.serve("bomb", &image);
    let layer = format!("/v2/corpus/bomb/blobs/{}", digest(&bomb));
    server.put(&layer, "application/octet-stream", claimed, bomb);
    let low = ["--limit", "unpack-free=100Mi"];
    refused(
        &place,
        &[&["pull", "-q", &pulled][..], &low].concat(),
        "unpack-ratio",
    );
}

#[test]
fn documents_are_bounded_in_memory() {
    let place = Place::new();
    let honest = Oci::new(&[tar().file("f", "x").end()]);
    // 100 MB of manifest, in an archive and from a registry.
    let large = honest.clone().with_text(|t| t + &" ".repeat(100_000_000));
    let file = place.write("image", &large.archive("localhost/large:1"));
    refused(&place, &["load", "-i", &file], "manifest-size");
    let server = Server::start();
    let pulled = server.serve("large", &large);
    refused(&place, &["pull", "-q", &pulled], "manifest-size");
    // What fits the bound of bytes, and would be twenty times that in memory.
    let strings = format!(
        "{{\"config\":{{\"Env\":[{}\"\"]}}}}",
        "\"\",".repeat(2_700_000)
    );
    let many = honest.clone().with_config(strings.as_bytes());
    let file = place.write("image", &many.archive("localhost/many:1"));
    refused(&place, &["load", "-i", &file], "json-values");
    let deep = honest.with_config("[".repeat(8 << 20).as_bytes());
    let file = place.write("image", &deep.archive("localhost/deep:1"));
    refused(&place, &["load", "-i", &file], "json-depth");
}

/// The same large documents for image after image: each is read, none is kept. The
/// last one is wrong, so that nothing is made of them.
#[test]
fn images_of_one_archive_take_the_memory_of_one() {
    let place = Place::new();
    let load = |archive: Tar| {
        let file = place.write("image", &archive.end());
        let seen = measure(&place, &["load", "-q", "-i", &file]).ran;
        assert!(place.store().is_empty(), "{:?}", place.store());
        seen
    };
    let config = crate::image::config_of(&[], json!({})).to_string() + &" ".repeat(1 << 20);
    let mut list = vec![json!({"Config": "c.json"}); 100];
    list.push(json!({"Config": "none.json"}));
    let docker = tar()
        .file("c.json", &config)
        .file("manifest.json", Value::from(list).to_string());
    load(docker).fails(8, "the archive lacks \"none.json\"");

    let mut oci = Oci::new(&[]).with_config(config.as_bytes());
    oci = oci.with_text(|t| t + &" ".repeat(1 << 20));
    let mut tops = vec![oci.top.clone(); 100];
    tops.push(oci.top.clone());
    tops[100]["size"] = 1.into();
    let index = json!({"schemaVersion": 2, "manifests": tops});
    let mut archive = tar().file("index.json", index.to_string());
    for (digest, bytes) in &oci.blobs {
        archive = archive.file(digest.replace("sha256:", "blobs/sha256/"), bytes);
    }
    load(archive).fails(8, "has another size or content");
}

#[test]
fn bounds_can_be_set() {
    let place = Place::new();
    let layer = tar().file("a", [1; 3000]).file("b", "").file("c", "").end();
    let image = Oci::new(&[layer.clone(), tar().file("d", "").end()]);
    let file = place.write("image", &image.archive("localhost/image:1"));
    for (limit, bound) in [
        ("layers=1", "layers"),
        ("layer-entries=2", "layer-entries"),
        ("layer-size=2999", "layer-size"),
        ("image-size=2999", "image-size"),
        ("blob-size=50", "blob-size"),
        ("manifest-size=100", "manifest-size"),
        ("config-size=100", "config-size"),
        ("json-depth=2", "json-depth"),
        ("json-values=9", "json-values"),
    ] {
        refused(&place, &["load", "-i", &file, "--limit", limit], bound);
    }
    place
        .carob(&["load", "-i", &file, "--limit", "layer=1"])
        .fails(2, "no bound has the name \"layer\"");
    // The machine's own, and the command line's before it.
    std::fs::create_dir_all(place.dir.join("root/etc")).unwrap();
    let settings = place.dir.join("root/etc/images.toml");
    std::fs::write(&settings, "[limits]\nlayer-entries = 2\n").unwrap();
    refused(&place, &["load", "-i", &file], "layer-entries");
    std::fs::write(&settings, "[limits]\nlayer-entires = 2\n").unwrap();
    place
        .carob(&["load", "-i", &file])
        .fails(3, "images.toml: no bound has the name \"layer-entires\"");
    std::fs::write(&settings, "[limits]\nlayer-entries = 2\n").unwrap();
    place
        .carob(&["load", "-i", &file, "--limit", "layer-entries=3"])
        .ok();
    place.carob(&["system", "check"]).ok();
    // A bound that has become smaller spoils nothing that is there.
    std::fs::write(&settings, "[limits]\njson-depth = 1\nconfig-size = 1\n").unwrap();
    place.carob(&["system", "check"]).ok();
}

/// An archive's dictionary is not counted to the memory for its layers.
#[test]
fn dictionaries_of_archives_are_bounded() {
    let place = Place::new();
    let noise: Vec<u8> = (0..6u64 << 20).map(|n| (n.pow(2) >> 7) as u8).collect();
    let image = Oci::new(&[tar().file("noise", noise).end()]).archive("localhost/image:1");
    let file = place.write("image", &by("xz", &["-c", "-2"], &image));
    let load = ["load", "-i", &file, "--limit"];
    // `xz -2` has 2 MiB.
    refused(
        &place,
        &[&load[..], &["xz-dictionary=1Mi"]].concat(),
        "xz-dictionary",
    );
    let seen = measure(&place, &[&load[..], &["xz-dictionary=2Mi"]].concat());
    seen.ran.ok();
}

/// Windows of zstd are what a layer keeps in memory; two of the widest at once.
#[test]
fn wide_windows_take_turns() {
    let place = Place::new();
    let mut noise = vec![0u8; 40 << 20];
    let mut state = 1u64;
    for b in noise.chunks_exact_mut(8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b.copy_from_slice(&state.to_be_bytes());
    }
    let layer = |i: usize| {
        noise[0] = i as u8;
        let plain = tar().file("noise", &noise).end();
        let mut e = zstd::Encoder::new(Vec::new(), 1).unwrap();
        e.window_log(25).unwrap();
        e.write_all(&plain).unwrap();
        (e.finish().unwrap(), plain)
    };
    let layers: Vec<_> = (0..2).map(layer).collect();
    let layers: Vec<_> = layers.iter().map(|(z, p)| (z.clone(), &p[..])).collect();
    let image = Oci::packed(&layers, json!({}));
    let file = place.write("image", &image.archive("localhost/wide:1"));
    let seen = measure(&place, &["load", "-i", &file]);
    let memory = seen.memory;
    seen.ran.ok();
    assert!(memory > 32 << 20, "{memory}: the windows were not wide");
}

/// A layer of so many entries, the cheapest that are files of their own.
fn entries(n: u32) -> Oci {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut hash = <sha2::Sha256 as sha2::Digest>::new();
    let mut put = |bytes: &[u8]| {
        sha2::Digest::update(&mut hash, bytes);
        e.write_all(bytes).unwrap();
    };
    for i in 0..n {
        put(&Tar::default().file(format!("{}/.wh.{i}", i / 1000), "").0);
    }
    put(&[0; 1024]);
    let plain: String = sha2::Digest::finalize(hash)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let oci = Oci::packed(&[(e.finish().unwrap(), b"")], json!({}));
    let config = crate::image::config_of(&[format!("sha256:{plain}")], json!({}));
    oci.with_config(config.to_string().as_bytes())
}

/// The memory for each number of entries has to be the same, the time in proportion.
fn grows_with(numbers: [u32; 2]) {
    let place = Place::new();
    let mut seen = Vec::new();
    for n in [100, numbers[0], numbers[1]] {
        let file = place.write("image", &entries(n).archive("localhost/entries:1"));
        let m = measure(&place, &["load", "-i", &file]);
        m.ran.ok();
        println!("{n} entries: {:?}, {} KiB", m.time, m.memory >> 10);
        seen.push((m.time, m.memory));
        place.carob(&["rmi", "localhost/entries:1"]).ok();
    }
    let [(_, small), (less, _), (more, large)] = seen[..] else {
        unreachable!()
    };
    assert!(large < small + (4 << 20), "{small} and {large} bytes");
    // Ten, where nobody else writes to the disk meanwhile.
    let most = less * 30 + Duration::from_secs(5);
    assert!(more < most, "{less:?} and {more:?}");
}

#[test]
fn entries_cost_time_in_proportion_and_no_memory() {
    grows_with([3_000, 30_000]);
}

#[test]
#[ignore = "a number for a quiet machine: a million files, minutes on a busy one"]
fn timing_a_million_entries() {
    grows_with([100_000, 1_000_000]);
}
