//! What the head of a program's file says: elf(5).

/// The bytes of a file that [`Elf::parse`] wants: linkers put the program headers and
/// the loader's path at the beginning.
pub(crate) const HEAD: usize = 4096;

const PT_INTERP: u64 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    /// In Go's words, as images have it; a number where it has none here.
    pub architecture: String,
    /// The loader's path: of a program that is linked dynamically.
    pub loader: Option<String>,
}

/// This machine's architecture, in Go's words.
pub(crate) fn host() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl Elf {
    /// `head` is the beginning of a file that anybody may have written.
    pub(crate) fn parse(head: &[u8]) -> Option<Elf> {
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let wide = *head.get(4)? == 2;
        let little = *head.get(5)? == 1;
        let file = Bytes { head, little };
        let machine = file.number(18, 2)?;
        let architecture = match machine {
            3 => "386".into(),
            8 => "mips".into(),
            21 if little => "ppc64le".into(),
            21 => "ppc64".into(),
            22 => "s390x".into(),
            40 => "arm".into(),
            62 => "amd64".into(),
            183 => "arm64".into(),
            243 => "riscv64".into(),
            258 => "loong64".into(),
            other => format!("number {other} of elf(5)"),
        };
        let loader = file.loader(wide);
        Some(Elf {
            architecture,
            loader,
        })
    }
}

struct Bytes<'a> {
    head: &'a [u8],
    little: bool,
}

impl Bytes<'_> {
    fn number(&self, at: usize, width: usize) -> Option<u64> {
        let bytes = self.head.get(at..at.checked_add(width)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(match self.little {
            true => bytes.iter().rev().fold(0, add),
            false => bytes.iter().fold(0, add),
        })
    }

    fn loader(&self, wide: bool) -> Option<String> {
        let place = |at, width| usize::try_from(self.number(at, width)?).ok();
        let (headers, size, count) = match wide {
            true => (place(32, 8)?, place(54, 2)?, place(56, 2)?),
            false => (place(28, 4)?, place(42, 2)?, place(44, 2)?),
        };
        for i in 0..count {
            let header = headers.checked_add(i.checked_mul(size)?)?;
            if self.number(header, 4)? != PT_INTERP {
                continue;
            }
            let (start, length) = match wide {
                true => (
                    place(header.checked_add(8)?, 8)?,
                    place(header.checked_add(32)?, 8)?,
                ),
                false => (
                    place(header.checked_add(4)?, 4)?,
                    place(header.checked_add(16)?, 4)?,
                ),
            };
            let path = self.head.get(start..start.checked_add(length)?)?;
            let path = path.split(|b| *b == 0).next()?;
            return Some(String::from_utf8_lossy(path).into_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_has_this_machine_s_architecture_and_a_loader() {
        let mut head = std::fs::read("/proc/self/exe").unwrap();
        head.truncate(HEAD);
        let elf = Elf::parse(&head).unwrap();
        assert_eq!(elf.architecture, host());
        if let Some(loader) = &elf.loader {
            assert!(loader.starts_with('/'), "{loader}");
        }
        head[18..20].copy_from_slice(&183_u16.to_le_bytes());
        assert_eq!(Elf::parse(&head).unwrap().architecture, "arm64");
        head[18..20].copy_from_slice(&0xcafe_u16.to_le_bytes());
        assert_eq!(
            Elf::parse(&head).unwrap().architecture,
            "number 51966 of elf(5)"
        );
    }

    #[test]
    fn a_loader_s_path_is_found_in_both_widths_and_byte_orders() {
        // One program header behind the file's header, then the path.
        let mut narrow = vec![0_u8; 52 + 32];
        narrow[..6].copy_from_slice(b"\x7fELF\x01\x02");
        narrow[18..20].copy_from_slice(&8_u16.to_be_bytes());
        narrow[28..32].copy_from_slice(&52_u32.to_be_bytes());
        narrow[42..44].copy_from_slice(&32_u16.to_be_bytes());
        narrow[44..46].copy_from_slice(&1_u16.to_be_bytes());
        narrow[52..56].copy_from_slice(&3_u32.to_be_bytes());
        narrow[56..60].copy_from_slice(&84_u32.to_be_bytes());
        narrow[68..72].copy_from_slice(&12_u32.to_be_bytes());
        narrow.extend(b"/lib/ld.so.1\0");
        let elf = Elf::parse(&narrow).unwrap();
        assert_eq!(elf.architecture, "mips");
        assert_eq!(elf.loader.as_deref(), Some("/lib/ld.so.1"));
    }

    #[test]
    fn damaged_heads_say_nothing() {
        let mut head = std::fs::read("/proc/self/exe").unwrap();
        head.truncate(HEAD);
        for length in 0..300 {
            let _ = Elf::parse(&head[..length]);
        }
        // Offsets and counts beyond every file.
        head[32..64].fill(0xff);
        assert_eq!(Elf::parse(&head).unwrap().loader, None);
    }
}
