//! Writes archives that no tool would, header by header.

const BLOCK: usize = 512;

#[derive(Clone, Default)]
pub(crate) struct Tar(pub Vec<u8>);

pub(crate) fn tar() -> Tar {
    Tar::default()
}

impl Tar {
    /// A header with a right checksum, and its content.
    pub(crate) fn raw(
        mut self,
        name: impl AsRef<[u8]>,
        kind: u8,
        content: &[u8],
        edit: impl Fn(&mut [u8]),
    ) -> Tar {
        let name = name.as_ref();
        let mut b = [0u8; BLOCK];
        b[..name.len()].copy_from_slice(name);
        b[100..108].copy_from_slice(b"0000644\0");
        b[108..116].copy_from_slice(b"0000000\0");
        b[116..124].copy_from_slice(b"0000000\0");
        b[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        b[136..148].copy_from_slice(b"00000001750\0");
        b[156] = kind;
        b[257..265].copy_from_slice(b"ustar\x0000");
        edit(&mut b);
        b[148..156].fill(b' ');
        let sum: u32 = b.iter().map(|b| u32::from(*b)).sum();
        b[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&b);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Tar {
        self.raw(name, b'0', content.as_ref(), |_| {})
    }

    pub(crate) fn mode(self, name: impl AsRef<[u8]>, kind: u8, mode: u32) -> Tar {
        self.raw(name, kind, b"", |b| {
            b[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        })
    }

    pub(crate) fn dir(self, name: impl AsRef<[u8]>) -> Tar {
        self.mode(name, b'5', 0o755)
    }

    pub(crate) fn link(self, name: impl AsRef<[u8]>, kind: u8, target: &str) -> Tar {
        let tar = match target.len() {
            0..=100 => self,
            _ => self.pax(&[("linkpath", target.as_bytes())]),
        };
        let shown = &target.as_bytes()[..target.len().min(100)];
        tar.raw(name, kind, b"", |b| {
            b[157..157 + shown.len()].copy_from_slice(shown);
        })
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: &str) -> Tar {
        self.link(name, b'2', target)
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: &str) -> Tar {
        self.link(name, b'1', target)
    }

    pub(crate) fn device(self, name: &str, kind: u8, major: u32, minor: u32) -> Tar {
        self.raw(name, kind, b"", |b| {
            b[329..337].copy_from_slice(format!("{major:07o}\0").as_bytes());
            b[337..345].copy_from_slice(format!("{minor:07o}\0").as_bytes());
        })
    }

    /// Records for the entry to come.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw("pax", b'x', &data, |_| {})
    }

    /// A file of this name, however long.
    pub(crate) fn named(self, path: impl AsRef<[u8]>) -> Tar {
        self.pax(&[("path", path.as_ref())]).file("short", "")
    }

    /// GNU's old form of a sparse file; at most four extents.
    pub(crate) fn sparse(
        self,
        name: &str,
        size: u64,
        extents: &[(u64, u64)],
        content: &[u8],
    ) -> Tar {
        self.raw(name, b'S', content, |b| {
            b[257..265].copy_from_slice(b"ustar  \0");
            for (i, (offset, length)) in extents.iter().enumerate() {
                let at = 386 + 24 * i;
                b[at..at + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
                b[at + 12..at + 24].copy_from_slice(format!("{length:011o}\0").as_bytes());
            }
            b[483] = 0x80;
            b[484..487].fill(0);
            b[487..495].copy_from_slice(&size.to_be_bytes());
        })
    }

    pub(crate) fn then(mut self, bytes: &[u8]) -> Tar {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.then(&[0; 2 * BLOCK]).0
    }
}
