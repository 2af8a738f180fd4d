//! Why execve(2) refused a program, and what its owner has to change, from what is known
//! about the file.
//!
//! This runs in the process that was refused: inside the container, as its user and with
//! its capabilities, without an fd of the host. It can read nothing that the container
//! could not. Only a regular file is opened, and [`elf::HEAD`] bytes of it are read; a FIFO
//! or a device that has taken the file's place in between does not block (O_NONBLOCK). Of
//! directories the first [`ENTRIES`] names are read.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::plan::DEFAULT_PATH;
use crate::linux::elf::{self, Elf};
use crate::linux::mount_table;
use crate::nearest::nearest;
use crate::{Error, Kind};

/// An image can have a directory with millions of names.
const ENTRIES: usize = 4096;

/// Names of a directory that a text lists.
const LISTED: usize = 8;

/// Names that only a shell knows (POSIX, Shell Command Language, 2.14).
const BUILTINS: &[&str] = &[
    ".", ":", "cd", "eval", "exec", "exit", "export", "set", "source", "ulimit", "umask", "unset",
];

const SHELLS: &[&str] = &["ash", "bash", "csh", "dash", "fish", "ksh", "zsh"];

/// `path` has a slash in it.
pub(super) fn explain(path: &str, errno: Errno) -> Error {
    // "exec", the name, and the error in lower case: what callers look for.
    let plain = match errno {
        Errno::ENOENT => ": no such file or directory",
        Errno::EACCES => ": permission denied",
        _ => "",
    };
    let call = format!("exec {path:?}{plain}: execve({path:?})");
    let error = Error::sys(call, errno).with_kind(Kind::StartFailed);
    let hint = match errno {
        Errno::ENOENT => missing_part(path),
        Errno::ENOTDIR => missing(path),
        Errno::ENOEXEC => no_program(path),
        Errno::EACCES => denied(path),
        Errno::ELOOP => "the links on the way to it lead in a circle".to_owned(),
        Errno::ETXTBSY => "the file is open for writing: close it before it is executed".to_owned(),
        Errno::E2BIG => {
            "command, args and env are longer than the kernel takes: one string at most 128 KiB, \
             all together a quarter of the stack's limit (RLIMIT_STACK)"
                .to_owned()
        }
        _ => return error,
    };
    error.hint(hint)
}

/// `name` is in no directory of `path`, the container's $PATH; or only as `refused`, which
/// this user may not execute.
pub(super) fn not_found(name: &str, path: &str, refused: Option<PathBuf>) -> Error {
    let (text, errno, hint) = match refused {
        Some(file) => (
            format!(
                "permission denied: found in $PATH as {}, but not executable",
                file.display()
            ),
            Errno::EACCES,
            denied(&file.to_string_lossy()),
        ),
        None => (
            format!("executable file not found in $PATH ({path})"),
            Errno::ENOENT,
            unknown_name(name, path),
        ),
    };
    Error::new(Kind::StartFailed, format!("exec {name:?}: {text}"))
        .with_errno(errno)
        .hint(hint)
}

fn unknown_name(name: &str, path: &str) -> String {
    if name.is_empty() {
        return "the first item of the command is empty: name a program there".into();
    }
    if let Some(hint) = words_hint(name) {
        return hint;
    }
    if BUILTINS.contains(&name) {
        return format!(
            "{name} is not a program, only a shell knows it: [\"sh\", \"-c\", \"{name} ...\"]"
        );
    }
    if is_program(Path::new(name)) {
        return format!(
            "a program of that name is in the working directory, which is not in $PATH: ./{name}"
        );
    }
    let dirs = || path.split(':').map(Path::new);
    if SHELLS.contains(&name)
        && let Some(shell) = in_dirs("sh", dirs())
    {
        return format!(
            "the image has no {name}, its shell is {}: write sh",
            shell.display()
        );
    }
    let names: Vec<String> = dirs().flat_map(names_in).collect();
    if names.is_empty() {
        return "none of these directories has a program, as in images without a shell \
                (distroless, scratch): give the whole path of the image's own program"
            .into();
    }
    match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => {
            format!("the command is not in the image; check its spelling: did you mean {near:?}?")
        }
        None => {
            "the command is not in the image; check its spelling, or give its whole path".into()
        }
    }
}

/// Whose file `path` is, to be changed there: the image's, or a volume's that is mounted
/// above it. Without a /proc nothing is known of volumes.
fn holder(path: &Path) -> String {
    let whole = whole(path);
    // The mount of a path that is not there is that of the directory where it would be.
    let there = whole.ancestors().find_map(|p| p.canonicalize().ok());
    let mounts = mount_table::of("self").unwrap_or_default();
    let points = mounts.iter().map(|mount| &mount.point);
    let point = there.and_then(|there| {
        let over = points.filter(|point| there.starts_with(point));
        over.max_by_key(|point| point.components().count())
    });
    match point {
        Some(point) if point != Path::new("/") => {
            format!("the volume mounted at {}", point.display())
        }
        _ => "the image".to_owned(),
    }
}

/// Absolute, as it is from the working directory.
fn whole(path: &Path) -> PathBuf {
    match std::env::current_dir() {
        Ok(dir) => dir.join(path).components().collect(),
        Err(_) => path.to_owned(),
    }
}

/// A whole command line in the place of the program's name.
fn words_hint(name: &str) -> Option<String> {
    let words: Vec<&str> = name.split_whitespace().collect();
    (words.len() > 1).then(|| {
        format!(
            "each word has to be an item of its own: {words:?}, or let a shell split it: {:?}",
            ["sh", "-c", name]
        )
    })
}

/// ENOENT: the file is not there, or what executes it is not.
fn missing_part(path: &str) -> String {
    if std::fs::metadata(path).is_err() {
        return missing(path);
    }
    let head = head(path).unwrap_or_default();
    if let Some(line) = first_line(&head) {
        if line.ends_with('\r') {
            return format!(
                "the script's first line ends in CRLF: save it with Unix line ends (dos2unix, or \
                 sed -i 's/\\r$//' {path})"
            );
        }
        let interpreter = line.split_whitespace().next().unwrap_or_default();
        return match self::head(interpreter).and_then(|head| Elf::parse(&head)) {
            Some(elf) => format!(
                "the script's interpreter {interpreter:?} is there, but {}",
                no_loader(&elf)
            ),
            None => no_interpreter(interpreter),
        };
    }
    match Elf::parse(&head) {
        Some(elf) => format!("the program is there, but {}", no_loader(&elf)),
        None => "the file is there, but not the interpreter or loader that executes it".into(),
    }
}

fn no_interpreter(interpreter: &str) -> String {
    let name = Path::new(interpreter).file_name().unwrap_or_default();
    let has = in_dirs(
        &name.to_string_lossy(),
        DEFAULT_PATH.split(':').map(Path::new),
    );
    let holder = holder(Path::new(interpreter));
    let text = format!("the script's interpreter {interpreter:?} is not in {holder}");
    match has {
        Some(file) => format!(
            "{text}; {0} is there: begin the script with #!{0}",
            file.display()
        ),
        None => format!("{text}: install it there, or correct the script's first line"),
    }
}

fn no_loader(elf: &Elf) -> String {
    if elf.architecture != elf::host() {
        return foreign(&elf.architecture);
    }
    let Some(loader) = &elf.loader else {
        return "its loader (ld.so) is not in the image".into();
    };
    let libc = match loader.contains("ld-musl") {
        true => "musl, such as Alpine",
        false => "glibc, such as Debian (Alpine has musl)",
    };
    format!(
        "its loader {loader} is not in the image: link the program statically, or use an \
         image with {libc}"
    )
}

fn foreign(architecture: &str) -> String {
    let host = elf::host();
    format!(
        "the program is for the architecture {architecture}, this machine is {host}: use an image \
         for linux/{host}, or install what runs {architecture} here (qemu-user-static with \
         binfmt_misc)"
    )
}

/// ENOEXEC.
fn no_program(path: &str) -> String {
    if std::fs::metadata(path).is_ok_and(|m| m.len() == 0) {
        let holder = holder(Path::new(path));
        return format!("the file is empty: write the program into it, in {holder}");
    }
    let Some(head) = head(path) else {
        return "neither a program nor a script that begins with #!".into();
    };
    match Elf::parse(&head) {
        Some(elf) if elf.architecture == elf::host() => {
            let holder = holder(Path::new(path));
            format!("the program's file is damaged or cut off: copy it into {holder} anew")
        }
        Some(elf) => foreign(&elf.architecture),
        None if head.starts_with(b"#!") => {
            "the script's first line names no interpreter: #!/bin/sh".into()
        }
        None => format!(
            "neither a program nor a script that begins with #!: begin a script with #!/bin/sh, or \
             run it by its interpreter: [\"sh\", {path:?}]"
        ),
    }
}

/// A part of `path` is not there, or is no directory.
fn missing(path: &str) -> String {
    if let Some(hint) = words_hint(path) {
        return hint;
    }
    if let Ok(target) = std::fs::read_link(path) {
        return format!(
            "it is a link to {target:?}, which is not in {}: correct the link, or name another \
             program",
            holder(&target_of(path, &target))
        );
    }
    let whole = whole(Path::new(path));
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    if let Some(file) = in_dirs(&name, DEFAULT_PATH.split(':').map(Path::new)) {
        return format!("the image has it as {}: correct the path", file.display());
    }
    // From the root: the first part that is not there.
    let mut parts: Vec<&Path> = whole.ancestors().collect();
    parts.reverse();
    let Some(gap) = parts.iter().find(|part| !part.exists()) else {
        return format!("no such file in {}: correct the path", holder(&whole));
    };
    let dir = gap.parent().unwrap_or(Path::new("/"));
    if !dir.is_dir() {
        return format!(
            "{} is a file, not a directory: correct the path",
            dir.display()
        );
    }
    let mut names = names_in(dir);
    let sought = gap.file_name().unwrap_or_default().to_string_lossy();
    let text = format!("{} has no {}", holder(gap), gap.display());
    if let Some(near) = nearest(&sought, names.iter().map(String::as_str)) {
        return format!("{text}: did you mean {}?", dir.join(near).display());
    }
    let more = if names.len() > LISTED { ", ..." } else { "" };
    names.truncate(LISTED);
    match names.is_empty() {
        true => format!("{text}, {} is empty: correct the path", dir.display()),
        false => format!(
            "{text}: correct the path; {} has {}{more}",
            dir.display(),
            names.join(", ")
        ),
    }
}

/// What execve(2) may have met with EACCES, as far as this process can see it.
fn denied(path: &str) -> String {
    let Ok(file) = std::fs::metadata(path) else {
        return closed_directory(Path::new(path));
    };
    let mode = file.mode() & 0o7777;
    if file.is_dir() {
        return match names_in(Path::new(path))
            .into_iter()
            .find(|name| is_program(&Path::new(path).join(name)))
        {
            Some(name) => format!(
                "it is a directory, not a program: name the program in it, such as {}",
                Path::new(path).join(name).display()
            ),
            None => "it is a directory, not a program: name a program".into(),
        };
    }
    if !file.is_file() {
        return "it is not a regular file: name a program".into();
    }
    if mode & 0o111 == 0 {
        let by = match head(path)
            .as_deref()
            .map(|h| (first_line(h), Elf::parse(h)))
        {
            Some((_, Some(_))) => String::new(),
            Some((Some(line), _)) if line.starts_with('/') => {
                let words: Vec<&str> = line.split_whitespace().chain([path]).collect();
                format!(", or run the script by its interpreter: {words:?}")
            }
            _ => format!(", or run a script by its interpreter: [\"sh\", {path:?}]"),
        };
        return format!(
            "its mode is {mode:04o}, so nobody may execute it: chmod +x it in {}{by}",
            holder(Path::new(path))
        );
    }
    if is_executable(Path::new(path)).is_err() {
        let noexec = nix::sys::statvfs::statvfs(path)
            .is_ok_and(|fs| fs.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC));
        return match noexec {
            true => format!(
                "it is on a filesystem that is mounted noexec: put the program elsewhere, or run a \
                 script by its interpreter: [\"sh\", {path:?}]"
            ),
            false => closed("execute", Path::new(path), &file),
        };
    }
    "its mode allows it: a script's interpreter may not be executed, or a security module denies it"
        .into()
}

/// The directory on the way to `path` that this user may not search.
fn closed_directory(path: &Path) -> String {
    let mut dirs: Vec<&Path> = path.ancestors().skip(1).collect();
    dirs.reverse();
    // metadata(DIR) needs the right to search DIR's parents alone.
    let refused = dirs.iter().find_map(|dir| {
        let stat = std::fs::metadata(dir).ok()?;
        is_executable(dir).is_err().then_some((dir, stat))
    });
    match refused {
        Some((dir, stat)) => format!("{}: {}", dir.display(), closed("search", dir, &stat)),
        None => "a directory on the way to it may not be searched by this user".into(),
    }
}

/// The mode lets others do it, and not this user.
fn closed(what: &str, path: &Path, file: &std::fs::Metadata) -> String {
    let mode = file.mode() & 0o7777;
    let (owner, group) = (file.uid(), file.gid());
    let user = nix::unistd::geteuid();
    let group_may = match mode & 0o010 {
        0 => String::new(),
        _ => format!(", or add its group (supplementalGroups: [{group}])"),
    };
    format!(
        "its mode is {mode:04o} and its owner {owner}:{group}, so user {user} may not {what} it: \
         chmod o+rx it in {}{group_may}, or run as its owner (runAsUser: {owner})",
        holder(path)
    )
}

/// The beginning of a regular file; see the module's head.
fn head(path: &str) -> Option<Vec<u8>> {
    if !std::fs::metadata(path).is_ok_and(|m| m.is_file()) {
        return None;
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .ok()?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(elf::HEAD as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A script's first line without `#!`.
fn first_line(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim_start().to_owned())
}

/// Where a link leads that is at `path`.
fn target_of(path: &str, target: &Path) -> PathBuf {
    let dir = whole(Path::new(path));
    dir.parent().unwrap_or(Path::new("/")).join(target)
}

fn is_program(path: &Path) -> bool {
    path.is_file() && is_executable(path).is_ok()
}

fn in_dirs<'d>(name: &str, dirs: impl Iterator<Item = &'d Path>) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    dirs.map(|dir| dir.join(name)).find(|file| is_program(file))
}

/// Some names of a directory, sorted: the order of readdir(3) is another one on each
/// filesystem.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().take(ENTRIES);
    let names = entries.flatten().map(|entry| entry.file_name());
    // What a terminal would act on is not repeated.
    let mut names: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| !name.contains(char::is_control))
        .collect();
    names.sort_unstable();
    names
}

/// As execve(2) will see it: access(2) would leave out what only a capability allows.
pub(super) fn is_executable(path: &Path) -> nix::Result<()> {
    use nix::fcntl::AtFlags;
    use nix::unistd::{AccessFlags, faccessat};
    let cwd = nix::fcntl::AT_FDCWD;
    faccessat(cwd, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
}
