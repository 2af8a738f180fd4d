//! Which device nodes the processes of a cgroup may make and open.
//!
//! One meaning for both kernels: a request (make, read, write, or several) is
//! allowed when for *each* of its bits the last rule that matches device and bit
//! allows; no rule means denied. On v1 the rules become writes to
//! `devices.deny` and `devices.allow`
//! (Documentation/admin-guide/cgroup-v1/devices.rst); on v2, where no such files
//! exist, a `BPF_PROG_TYPE_CGROUP_DEVICE` program
//! (Documentation/admin-guide/cgroup-v2.rst, "Device controller").
//!
//! Never makes a device node.

use std::fmt::Write as _;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::{Controllers, Hierarchies};
use crate::sys::bpf::{self, Insn};
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    All,
    Char,
    Block,
}

/// Bits of access, numbered as the kernel's program context numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    pub const MKNOD: Access = Access(1);
    pub const READ: Access = Access(2);
    pub const WRITE: Access = Access(4);
    pub const ALL: Access = Access(7);

    /// From OCI's letters, as in `rwm`.
    pub fn parse(letters: &str) -> Result<Access> {
        let mut bits = 0;
        for c in letters.chars() {
            bits |= match c {
                'm' => Self::MKNOD.0,
                'r' => Self::READ.0,
                'w' => Self::WRITE.0,
                _ => {
                    return Err(Error::invalid(format!(
                        "device access {letters:?}: only the letters r, w and m are known"
                    )));
                }
            };
        }
        match bits {
            0 => Err(Error::invalid("device access: empty")),
            bits => Ok(Access(bits)),
        }
    }

    fn letters(self) -> &'static str {
        ["", "m", "r", "rm", "w", "wm", "rw", "rwm"][self.0 as usize & 7]
    }
}

/// One rule; a missing number stands for every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub allow: bool,
    pub kind: DeviceKind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: Access,
}

impl DeviceRule {
    pub const DENY_ALL: DeviceRule = Self::every(false);
    pub const ALLOW_ALL: DeviceRule = Self::every(true);

    const fn every(allow: bool) -> DeviceRule {
        DeviceRule {
            allow,
            kind: DeviceKind::All,
            major: None,
            minor: None,
            access: Access::ALL,
        }
    }

    const fn char(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule {
            allow: true,
            kind: DeviceKind::Char,
            major: Some(major),
            minor,
            access: Access::ALL,
        }
    }

    const fn mknod(kind: DeviceKind) -> DeviceRule {
        DeviceRule {
            allow: true,
            kind,
            major: None,
            minor: None,
            access: Access::MKNOD,
        }
    }

    /// Of rules for one kind each: every device of `other` is one of this.
    fn covers(&self, other: &DeviceRule) -> bool {
        let within = |a: Option<u32>, b| a.is_none() || a == b;
        self.kind == other.kind
            && within(self.major, other.major)
            && within(self.minor, other.minor)
    }

    /// Likewise: some device is of both.
    fn overlaps(&self, other: &DeviceRule) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    /// Decides every request by itself, whatever came before it.
    fn is_total(&self) -> bool {
        self.kind == DeviceKind::All
            && self.major.is_none()
            && self.minor.is_none()
            && self.access == Access::ALL
    }
}

/// What other runtimes allow every container: making any node, but opening only
/// the harmless ones that `/dev` of a container holds. Not `/dev/net/tun` (runc
/// dropped it in 1.2) and not the host's terminals.
pub(crate) fn default_device_rules() -> Vec<DeviceRule> {
    const MEM: u32 = 1; // null 3, zero 5, full 7, random 8, urandom 9
    const TTY_AUX: u32 = 5; // tty 0, console 1, ptmx 2
    const PTS: u32 = 136;
    let mut rules = vec![
        DeviceRule::DENY_ALL,
        DeviceRule::mknod(DeviceKind::Char),
        DeviceRule::mknod(DeviceKind::Block),
    ];
    rules.extend([3, 5, 7, 8, 9].map(|minor| DeviceRule::char(MEM, Some(minor))));
    rules.extend([0, 1, 2].map(|minor| DeviceRule::char(TTY_AUX, Some(minor))));
    rules.push(DeviceRule::char(PTS, None));
    rules
}

/// The writes that give a v1 cgroup these rules: file and text, in order. `None` if
/// v1 cannot hold them.
///
/// A v1 cgroup holds a mode (deny or allow by default) and exceptions to it. The
/// kernel changes the mode only for the rule on everything, which it wants as a
/// lone `a`, and takes back an exception only as a whole: "all of c 1:*, but not
/// c 1:3" does not exist there, and would be taken in silence for "all of c 1:*".
/// So the exceptions are worked out here and not by the kernel.
///
/// A request to read and write needs, in the mode that denies, one exception for
/// both: what a wider one has is said again.
///
/// Between the writes the cgroup holds an intermediate state; harmless before the
/// first process is in it.
pub(crate) fn plan_v1(rules: &[DeviceRule]) -> Option<Vec<(&'static str, String)>> {
    const OPEN: u8 = Access::READ.0 | Access::WRITE.0;
    let start = rules.iter().rposition(DeviceRule::is_total);
    let mode = start.is_some_and(|i| rules[i].allow);
    let mut exceptions: Vec<DeviceRule> = Vec::with_capacity(rules.len());
    for rule in &rules[start.map_or(0, |i| i + 1)..] {
        // The kernel ignores numbers behind an `a`: both kinds instead.
        let kinds: &[DeviceKind] = match rule.kind {
            DeviceKind::All => &[DeviceKind::Char, DeviceKind::Block],
            DeviceKind::Char => &[DeviceKind::Char],
            DeviceKind::Block => &[DeviceKind::Block],
        };
        for kind in kinds {
            let rule = DeviceRule {
                kind: *kind,
                ..*rule
            };
            if rule.allow == mode {
                for e in &mut exceptions {
                    match e.access.0 & rule.access.0 {
                        common if common != 0 && rule.covers(e) => e.access.0 &= !common,
                        common if common != 0 && rule.overlaps(e) => return None,
                        _ => {}
                    }
                }
                continue;
            }
            let mut access = rule.access.0;
            let mut known = false;
            for e in exceptions.iter_mut().filter(|e| e.overlaps(&rule)) {
                let differ = (e.access.0 ^ rule.access.0) & OPEN;
                if e.covers(&rule) {
                    known |= rule.access.0 & !e.access.0 == 0;
                    access = if mode {
                        access
                    } else {
                        access | e.access.0 & OPEN
                    };
                    access &= !(e.access.0 & Access::MKNOD.0);
                } else if mode || differ == 0 {
                } else if rule.covers(e) {
                    e.access.0 |= rule.access.0 & OPEN;
                } else {
                    return None;
                }
            }
            if access != 0 && !known {
                let access = Access(access);
                exceptions.push(DeviceRule { access, ..rule });
            }
        }
    }
    let file = |allow| match allow {
        true => "devices.allow",
        false => "devices.deny",
    };
    let mut writes = vec![(file(mode), "a".to_owned())];
    for e in exceptions.iter().filter(|e| e.access.0 != 0) {
        let kind = if e.kind == DeviceKind::Char { 'c' } else { 'b' };
        let mut text = format!("{kind} ");
        for (number, end) in [(e.major, ':'), (e.minor, ' ')] {
            match number {
                Some(n) => write!(text, "{n}{end}").unwrap_or_default(),
                None => {
                    text.push('*');
                    text.push(end);
                }
            }
        }
        text.push_str(e.access.letters());
        writes.push((file(!mode), text));
    }
    Some(writes)
}

/// eBPF opcodes that the program is made of (Documentation/bpf/standardization).
mod op {
    pub(super) const LDX_W: u8 = 0x61;
    pub(super) const MOV32_IMM: u8 = 0xb4;
    pub(super) const MOV32_REG: u8 = 0xbc;
    pub(super) const AND32_IMM: u8 = 0x54;
    pub(super) const RSH32_IMM: u8 = 0x74;
    pub(super) const JA: u8 = 0x05;
    pub(super) const JNE32_IMM: u8 = 0x56;
    pub(super) const JSET32_IMM: u8 = 0x46;
    pub(super) const EXIT: u8 = 0x95;
}

/// The v2 program for these rules.
///
/// From the last rule to the first. `LEFT` holds the requested bits that no later
/// rule has decided: an allowing rule takes its bits out, and with none left the
/// answer is yes; a denying rule that meets one is a no; the end is a no.
pub(crate) fn plan_v2(rules: &[DeviceRule]) -> Vec<Insn> {
    const RESULT: u8 = 0;
    const CTX: u8 = 1;
    const KIND: u8 = 2;
    const LEFT: u8 = 3;
    const MAJOR: u8 = 4;
    const MINOR: u8 = 5;
    fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
        let regs = match cfg!(target_endian = "little") {
            true => dst | src << 4,
            false => dst << 4 | src,
        };
        Insn {
            code,
            regs,
            off,
            imm,
        }
    }
    let verdict = |allow: bool| {
        [
            insn(op::MOV32_IMM, RESULT, 0, 0, allow as i32),
            insn(op::EXIT, 0, 0, 0, 0),
        ]
    };

    // struct bpf_cgroup_dev_ctx { access << 16 | kind, major, minor }
    let mut program = vec![
        insn(op::LDX_W, KIND, CTX, 0, 0),
        insn(op::MOV32_REG, LEFT, KIND, 0, 0),
        insn(op::AND32_IMM, KIND, 0, 0, 0xffff),
        insn(op::RSH32_IMM, LEFT, 0, 0, 16),
        insn(op::LDX_W, MAJOR, CTX, 4, 0),
        insn(op::LDX_W, MINOR, CTX, 8, 0),
    ];
    for rule in rules.iter().rev() {
        if rule.is_total() {
            program.extend(verdict(rule.allow));
            return program;
        }
        let mut tests = Vec::with_capacity(3);
        match rule.kind {
            DeviceKind::All => {}
            DeviceKind::Block => tests.push((KIND, 1)),
            DeviceKind::Char => tests.push((KIND, 2)),
        }
        tests.extend(rule.major.map(|n| (MAJOR, n)));
        tests.extend(rule.minor.map(|n| (MINOR, n)));

        let bits = rule.access.0 as i32;
        let mut body = Vec::with_capacity(5);
        if rule.allow {
            body.push(insn(op::AND32_IMM, LEFT, 0, 0, !bits & 7));
            body.push(insn(op::JNE32_IMM, LEFT, 0, 2, 0));
        } else {
            body.push(insn(op::JSET32_IMM, LEFT, 0, 1, bits));
            // Not met: over the answer, to the next rule.
            body.push(insn(op::JA, 0, 0, 2, 0));
        }
        body.extend(verdict(rule.allow));
        // Each failed test jumps behind the body.
        for (i, (reg, n)) in tests.iter().enumerate() {
            let over = tests.len() - 1 - i + body.len();
            program.push(insn(op::JNE32_IMM, *reg, 0, over as i16, *n as i32));
        }
        program.extend(body);
    }
    program.extend(verdict(false));
    program
}

/// Whether device rules take CAP_NET_ADMIN, which this process lacks: on cgroup v2 older
/// kernels (6.1 is one) want it of a process that asks for a cgroup's programs
/// (bpf_prog_query() in kernel/bpf/syscall.c).
pub(crate) fn lack_net_admin() -> bool {
    let Ok(h) = Hierarchies::detect() else {
        return false;
    };
    let (None, Some(v2)) = (h.v1_with(Controllers::DEVICES), h.v2()) else {
        return false;
    };
    let dir = std::fs::File::open(v2.point());
    dir.is_ok_and(|dir| bpf::prog_query(&dir, bpf::ATTACH_CGROUP_DEVICE) == Err(Errno::EPERM))
}

/// Puts the rules in force on the v2 cgroup `dir` (opened for reading: bpf(2)
/// refuses `O_PATH`). Rules that were there are replaced in one step; by a kernel
/// before 5.6, or if there were several programs, the new one first, so that the
/// cgroup is never without one.
pub(crate) fn apply_v2(dir: BorrowedFd<'_>, rules: &[DeviceRule]) -> Result<()> {
    let call = |e, call: &str| {
        let error = Error::sys(format_args!("bpf({call}, CGROUP_DEVICE)"), e);
        match e {
            Errno::EPERM => error.hint(
                "device rules on cgroup v2 need CAP_SYS_ADMIN, and with older kernels, \
                 such as 6.1, CAP_NET_ADMIN as well",
            ),
            Errno::EINVAL | Errno::ENOSYS => error
                .with_kind(crate::Kind::Unsupported)
                .hint("the kernel needs CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF"),
            _ => error,
        }
    };
    let at = bpf::ATTACH_CGROUP_DEVICE;
    let old = bpf::prog_query(dir, at).map_err(|e| call(e, "BPF_PROG_QUERY"))?;
    let program = bpf::prog_load(
        bpf::PROG_TYPE_CGROUP_DEVICE,
        &plan_v2(rules),
        "carob_devices",
    )
    .map_err(|e| call(e, "BPF_PROG_LOAD"))?;
    if let [one] = old[..]
        && let Ok(one) = bpf::prog_by_id(one)
        && bpf::prog_replace(dir, &program, &one, at, bpf::F_ALLOW_MULTI).is_ok()
    {
        return Ok(());
    }
    bpf::prog_attach(dir, &program, at, bpf::F_ALLOW_MULTI)
        .map_err(|e| call(e, "BPF_PROG_ATTACH"))?;
    for id in old {
        // Whoever else removed it meanwhile has done what is wanted here.
        match bpf::prog_by_id(id).and_then(|p| bpf::prog_detach(dir, &p, at)) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(call(e, "BPF_PROG_DETACH")),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
