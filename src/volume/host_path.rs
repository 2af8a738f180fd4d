//! hostPath: what is there, checked for its type.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::spec::HostPathKind;
use crate::{Context, Error, Kind, Result};

/// What makes a hostPath that is not there.
fn absent(path: &Path, kind: HostPathKind) -> String {
    let path = path.display();
    match kind {
        HostPathKind::Directory => {
            format!("make it on the host: mkdir -p {path}; or set hostPath.type: DirectoryOrCreate")
        }
        HostPathKind::File => {
            format!("make it on the host: touch {path}; or set hostPath.type: FileOrCreate")
        }
        HostPathKind::Socket => format!(
            "start the program that listens at {path}, or correct the path: the Pod starts when \
             the socket is there"
        ),
        _ => "make it on the host, or choose another hostPath.type".into(),
    }
}

/// hostPath's `type`, as the API reference defines each.
pub(super) fn make(path: &Path, kind: HostPathKind) -> Result<()> {
    let found = std::fs::metadata(path).ok().map(|m| m.file_type());
    let wrong = |what: &str| {
        let message = match found {
            None => format!("hostPath {}: does not exist", path.display()),
            Some(_) => format!("hostPath {}: is not {what}", path.display()),
        };
        let hint = match found {
            None => return Err(Error::new(Kind::Invalid, message).hint(absent(path, kind))),
            Some(t) if t.is_dir() => {
                "it is a directory: set hostPath.type: Directory, or correct the path"
            }
            Some(t) if t.is_file() => "it is a file: set hostPath.type: File, or correct the path",
            Some(_) => "choose another hostPath.type, or leave it out",
        };
        Err(Error::new(Kind::Invalid, message).hint(hint))
    };
    match (kind, found) {
        (HostPathKind::Unset, Some(_)) => Ok(()),
        (HostPathKind::DirectoryOrCreate | HostPathKind::Unset, None) => {
            std::fs::create_dir_all(path).with_context(|| format!("mkdir({})", path.display()))
        }
        (HostPathKind::FileOrCreate, None) => std::fs::File::create_new(path)
            .map(drop)
            .with_context(|| format!("open({}, O_CREAT|O_EXCL)", path.display())),
        (HostPathKind::Directory | HostPathKind::DirectoryOrCreate, found) => match found {
            Some(t) if t.is_dir() => Ok(()),
            _ => wrong("a directory"),
        },
        (HostPathKind::File | HostPathKind::FileOrCreate, found) => match found {
            Some(t) if t.is_file() => Ok(()),
            _ => wrong("a regular file"),
        },
        (HostPathKind::Socket, found) => match found {
            Some(t) if t.is_socket() => Ok(()),
            _ => wrong("a socket"),
        },
        (HostPathKind::CharDevice, found) => match found {
            Some(t) if t.is_char_device() => Ok(()),
            _ => wrong("a character device"),
        },
        (HostPathKind::BlockDevice, found) => match found {
            Some(t) if t.is_block_device() => Ok(()),
            _ => wrong("a block device"),
        },
    }
}
