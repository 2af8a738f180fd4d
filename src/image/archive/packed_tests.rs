use std::process::{Command, Stdio};

use super::*;

/// What a program of that name makes of `data`.
pub(crate) fn pack(program: &str, options: &[&str], data: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}: hack/setup test installs it"));
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let feed = std::thread::spawn(move || io::Write::write_all(&mut stdin, &data));
    let out = child.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    assert!(out.status.success(), "{program} {options:?}");
    out.stdout
}

fn xz(options: &[&str], data: &[u8]) -> Vec<u8> {
    pack("xz", &[&["-c"], options].concat(), data)
}

pub(crate) fn bzip2(data: &[u8]) -> Vec<u8> {
    pack("bzip2", &["-c"], data)
}

fn read_within(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    open(bytes, limits)?.read_to_end(&mut plain)?;
    Ok(plain)
}

fn read(bytes: &[u8]) -> Result<Vec<u8>> {
    read_within(bytes, &Limits::default())
}

/// Some of it compresses and some does not.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..length)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match i / 1000 % 2 {
                0 => (i % 251) as u8,
                _ => (state >> 24) as u8,
            }
        })
        .collect()
}

#[test]
fn archives_are_told_by_their_first_bytes() {
    for (bytes, packing) in [
        (xz(&[], b"x"), Some(Packing::Xz)),
        (bzip2(b"x"), Some(Packing::Bzip2)),
        (bzip2(b""), Some(Packing::Bzip2)),
        (b"BZh9 is a name of a tar's first member".to_vec(), None),
        (b"BZh".to_vec(), None),
        (Vec::new(), None),
    ] {
        assert_eq!(Packing::detect(&bytes), packing, "{bytes:?}");
        assert_eq!(is_packed(&bytes), packing.is_some());
    }
}

#[test]
fn xz_and_bzip2_are_read_in_every_form() {
    let data = sample(1_500_000);
    for options in [
        &["-0"][..],
        &["-9"],
        &["-1", "--check=none"],
        &["-1", "--check=crc32"],
        &["-1", "--check=sha256"],
        &["-1", "-T2", "--block-size=200000"],
        &["--x86", "--lzma2=preset=1"],
        &["--delta=dist=4", "--lzma2=preset=1"],
    ] {
        assert!(read(&xz(options, &data)).unwrap() == data, "{options:?}");
    }
    assert!(read(&bzip2(&data)).unwrap() == data);
    assert_eq!(read(&xz(&[], b"")).unwrap(), b"");
    assert_eq!(read(&bzip2(b"")).unwrap(), b"");
}

#[test]
fn streams_concatenate() {
    let one = |data: &[u8]| xz(&["-0"], data);
    let zeros = |n| vec![0; n];
    let two = [one(b"one "), zeros(8), one(b""), one(b"two"), zeros(4)].concat();
    assert_eq!(read(&two).unwrap(), b"one two");
    let two = [bzip2(b"one "), bzip2(b""), bzip2(b"two")].concat();
    assert_eq!(read(&two).unwrap(), b"one two");
}

#[test]
fn empty_streams_of_bzip2_are_bounded_in_number() {
    let empty = bzip2(b"");
    let most = usize::try_from(MAX_STREAMS).unwrap();
    // The lowest level has the smallest tables.
    let small = pack("bzip2", &["-c", "-1"], b"");
    assert_eq!(read(&small.repeat(most)).unwrap(), b"");
    let e = read(&[small.repeat(most), empty].concat()).unwrap_err();
    let text = "bzip2: the archive has more than 100000 streams";
    assert!(e.to_string().contains(text), "{e}");
}

#[track_caller]
fn refused(bytes: &[u8], text: &str) {
    let e = read(bytes).unwrap_err();
    assert!(e.to_string().contains(text), "{text}: {e}");
}

#[test]
fn garbage_truncation_and_damage_are_errors() {
    let data = sample(20_000);
    for (name, good) in [("xz", xz(&["-0"], &data)), ("bzip2", bzip2(&data))] {
        let damaged = format!("{name}: the archive is damaged: ");
        let cut = format!("{name}: the archive is cut short");
        refused(&[&good[..], b"garbage"].concat(), &damaged);
        for end in [good.len() - 1, good.len() - 5, good.len() / 2, 20] {
            refused(&good[..end], &cut);
        }
        // In the middle of the data: by the checksum, if by nothing before.
        let mut spoilt = good.clone();
        spoilt[good.len() / 2] ^= 0x10;
        refused(&spoilt, &damaged);
    }
    // The checksums themselves: of xz's block, before its index (20 bytes) and footer
    // (12); of bzip2's whole stream, at its end.
    let mut spoilt = xz(&["-0", "--check=crc64"], b"x");
    let at = spoilt.len() - 12 - 8 - 1;
    spoilt[at] ^= 1;
    refused(
        &spoilt,
        "xz: the archive is damaged: invalid block checksum",
    );
    let mut spoilt = bzip2(b"x");
    let at = spoilt.len() - 3;
    spoilt[at] ^= 1;
    refused(&spoilt, "bzip2: the archive is damaged: ");
    // Zeros after xz's end are padding by fours alone.
    refused(&[xz(&[], b"x"), vec![0; 5]].concat(), "multiple of 4");
}

/// No damage makes a decoder panic, run for ever, or give other bytes than were packed.
#[test]
fn every_flipped_bit_is_found() {
    let data = sample(3000);
    for good in [xz(&["-0"], &data), bzip2(&data)] {
        let mut spoilt = good.clone();
        for at in 0..good.len() {
            let bit = 1 << (at % 8);
            spoilt[at] ^= bit;
            let plain = read(&spoilt);
            // The magic's own bytes make it another kind of file.
            assert!(
                at < 10 || plain.as_ref().is_err() || plain.unwrap() == data,
                "{at}"
            );
            spoilt[at] ^= bit;
        }
        for end in 10..good.len() {
            read(&good[..end]).unwrap_err();
        }
    }
}

#[test]
fn dictionaries_are_bounded() {
    let within = |bytes: &[u8], dictionary: u64| {
        let limits = Limits {
            xz_dictionary: dictionary,
            ..Limits::default()
        };
        read_within(bytes, &limits)
    };
    for (option, size) in [
        ("--lzma2=dict=4KiB", 4 << 10),
        ("--lzma2=dict=1MiB", 1 << 20),
        ("-9", 64 << 20),
        ("--lzma2=dict=1536MiB", 1536 << 20),
    ] {
        let packed = xz(&[option], b"x");
        assert_eq!(within(&packed, size).unwrap(), b"x", "{option}");
        let e = within(&packed, size - 1).unwrap_err();
        let bound = format!("xz-dictionary={} allows", size - 1);
        assert!(e.to_string().contains(&bound), "{e}");
        assert!(e.get_hint().unwrap().contains("--limit xz-dictionary="));
    }
    // A later stream's counts as much.
    let two = [xz(&["-0"], b"x"), xz(&["-9"], b"y")].concat();
    within(&two, 1 << 20).unwrap_err();
    assert_eq!(within(&two, 64 << 20).unwrap(), b"xy");
    let default = Limits::default().xz_dictionary;
    assert_eq!(within(&xz(&["-9e"], b"x"), default).unwrap(), b"x");
}

#[test]
fn layers_may_not_be_so() {
    for (name, bytes) in [("xz", xz(&[], b"x")), ("bzip2", bzip2(b"x"))] {
        let e = compression::open(&bytes[..]).err().unwrap();
        assert!(
            e.to_string().contains(&format!("compressed with {name}")),
            "{e}"
        );
    }
}
