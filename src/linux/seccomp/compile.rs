//! A profile to a classic BPF program.
//!
//! ```text
//!   load arch;  native? -> its tree;  next? -> ...;  else kill
//!   tree: load nr;  nr >= middle? right half : left half ... -> action
//!                                                         or -> argument tests
//! ```
//!
//! A search tree over ranges of numbers with the same fate: the default profile
//! takes nine comparisons instead of hundreds, and the kernel, which at
//! installation runs the program once per call to find those that are always
//! allowed, takes that much less too.
//!
//! The program is written from its end: a jump in BPF only goes forward, so that
//! every target stands when the jump to it is written, its distance is known, and
//! one that does not fit in the 8 bits of a conditional jump gets a `ja` of its
//! own in between.

use std::collections::HashMap;

use super::table::{self, X32_BIT};
use super::{Action, Arch, Arg, Op, Profile};
use crate::sys::seccomp::sock_filter;
use crate::{Error, Result};

/// BPF_MAXINSNS.
const LONGEST: usize = 4096;

mod op {
    pub(super) const LD_ABS: u16 = 0x20;
    pub(super) const JA: u16 = 0x05;
    pub(super) const JEQ: u16 = 0x15;
    pub(super) const JGT: u16 = 0x25;
    pub(super) const JGE: u16 = 0x35;
    pub(super) const AND: u16 = 0x54;
    pub(super) const RET: u16 = 0x06;
}

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// What a call's number alone decides: an action, or tests of its arguments.
#[derive(Clone, PartialEq)]
enum Fate {
    Act(Action),
    /// In order; if none holds, the default action.
    Test(Vec<(Action, Vec<Arg>)>),
}

/// Where a range of numbers leads.
#[derive(Clone, Copy, PartialEq)]
enum Leaf {
    Act(Action),
    At(Label),
}

/// An instruction's place, counted from the program's end.
type Label = usize;

#[derive(Default)]
struct Program {
    reversed: Vec<sock_filter>,
    /// The latest return of each value.
    returns: HashMap<u32, Label>,
}

impl Program {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code, jt, jf, k });
        self.reversed.len() - 1
    }

    /// How many instructions the next one would have to jump over.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - 1 - to
    }

    fn ret(&mut self, action: Action) -> Label {
        let value = action.value();
        match self.returns.get(&value) {
            // A return costs one instruction, like the `ja` to a distant one.
            Some(&label) if self.distance(label) < 200 => label,
            _ => {
                let label = self.push(op::RET, 0, 0, value);
                self.returns.insert(value, label);
                label
            }
        }
    }

    /// Brings a target within reach of the next conditional jump. Two to spare:
    /// the other branch may need a `ja` too.
    fn near(&mut self, to: Label) -> Label {
        match self.distance(to) {
            d if d <= u8::MAX as usize - 2 => to,
            d => self.push(op::JA, 0, 0, d as u32),
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    /// A statement before `next`, which it has to run into.
    fn before(&mut self, code: u16, k: u32, next: Label) -> Label {
        match self.distance(next) {
            0 => {}
            d => {
                self.push(op::JA, 0, 0, d as u32);
            }
        }
        self.push(code, 0, 0, k)
    }

    /// One word of an argument (its low or high half), maybe masked, then `next`.
    fn load(&mut self, arg: &Arg, high: bool, mask: Option<u32>, next: Label) -> Label {
        let second = high == cfg!(target_endian = "little");
        let offset = ARGS + 8 * arg.index as u32 + 4 * second as u32;
        let next = match mask {
            Some(mask) if mask != u32::MAX => self.before(op::AND, mask, next),
            _ => next,
        };
        self.before(op::LD_ABS, offset, next)
    }

    fn test(&mut self, arg: &Arg, narrow: bool, yes: Label, no: Label) -> Label {
        let (low, high) = (arg.value as u32, (arg.value >> 32) as u32);
        // For the four orders: by the high half if that differs, else by the low.
        let (code, yes, no) = match arg.op {
            Op::MaskedEq => return self.masked(arg, narrow, yes, no),
            Op::Eq => (op::JEQ, yes, no),
            Op::Ne => (op::JEQ, no, yes),
            Op::Gt => (op::JGT, yes, no),
            Op::Ge => (op::JGE, yes, no),
            Op::Lt => (op::JGE, no, yes),
            Op::Le => (op::JGT, no, yes),
        };
        let at = self.branch(code, low, yes, no);
        let low_test = self.load(arg, false, None, at);
        if narrow {
            return low_test;
        }
        let equal = self.branch(op::JEQ, high, low_test, no);
        let at = match code {
            op::JEQ => equal,
            _ => self.branch(op::JGT, high, yes, equal),
        };
        self.load(arg, true, None, at)
    }

    fn masked(&mut self, arg: &Arg, narrow: bool, yes: Label, no: Label) -> Label {
        let mut next = yes;
        for is_high in [false, true] {
            if is_high && narrow {
                break;
            }
            let half = |v: u64| if is_high { (v >> 32) as u32 } else { v as u32 };
            let (mask, want) = (half(arg.value), half(arg.value_two));
            if mask == 0 {
                // Nothing of this half is looked at: it is zero.
                if want != 0 {
                    next = no;
                }
                continue;
            }
            let at = self.branch(op::JEQ, want, next, no);
            // An impossible comparison after an impossible one leaves no branch.
            if at != no {
                next = self.load(arg, is_high, Some(mask), at);
            }
        }
        next
    }

    /// Tests of arguments, rule by rule; the default action if none holds.
    fn tests(&mut self, rules: &[(Action, Vec<Arg>)], default: Action, narrow: bool) -> Label {
        let mut otherwise = self.ret(default);
        for (action, args) in rules.iter().rev() {
            let mut next = self.ret(*action);
            for arg in args.iter().rev() {
                next = self.test(arg, narrow, next, otherwise);
            }
            otherwise = next;
        }
        otherwise
    }

    /// A return is written anew where the last one is out of reach; tests are too
    /// long for that.
    fn leaf(&mut self, leaf: Leaf) -> Label {
        match leaf {
            Leaf::Act(action) => self.ret(action),
            Leaf::At(label) => label,
        }
    }

    /// The tree over `ranges`, each from its number to the next one's.
    fn tree(&mut self, ranges: &[(u32, Leaf)]) -> Label {
        match ranges {
            [] => unreachable!("a tree has a range"),
            [(_, only)] => self.leaf(*only),
            // One number by itself among others.
            [(_, a), (n, b), (m, c)] if a == c && *m == n + 1 => {
                let (others, one) = (self.leaf(*a), self.leaf(*b));
                self.branch(op::JEQ, *n, one, others)
            }
            _ => {
                let (left, right) = ranges.split_at(ranges.len() / 2);
                let start = right[0].0;
                let right = self.tree(right);
                let left = self.tree(left);
                self.branch(op::JGE, start, right, left)
            }
        }
    }
}

/// Which calls of one architecture meet which fate.
fn fates(profile: &Profile, arch: Arch) -> HashMap<u32, Fate> {
    let mut fates: HashMap<u32, Fate> = HashMap::with_capacity(512);
    let default = profile.default_action;
    let mut add = |nr: u32, action: Action, args: &[Arg]| match (fates.get_mut(&nr), args) {
        (Some(Fate::Act(_)), _) => {}
        // Says nothing but that the profile knows the call.
        (None, _) if action == default => {
            fates.insert(nr, Fate::Test(Vec::new()));
        }
        (Some(_), _) if action == default => {}
        (_, []) => {
            fates.insert(nr, Fate::Act(action));
        }
        (Some(Fate::Test(rules)), args) => rules.push((action, args.to_vec())),
        (None, args) => {
            fates.insert(nr, Fate::Test(vec![(action, args.to_vec())]));
        }
    };
    for rule in &profile.rules {
        for name in &rule.names {
            if let Some(nr) = table::number(arch, name) {
                add(nr, rule.action, &rule.args);
            }
            // The arguments of a multiplexed call are behind a pointer: only a
            // rule without any can be kept there.
            if let (Some((nr, which)), true) =
                (table::multiplexed(arch, name), rule.args.is_empty())
            {
                let arg = Arg {
                    index: 0,
                    value: which,
                    value_two: 0,
                    op: Op::Eq,
                };
                add(nr, rule.action, &[arg]);
            }
        }
    }
    fates
}

/// The ranges of one architecture's numbers and their fates, in order, those of
/// the same fate joined. `floor` is the first number.
fn ranges(profile: &Profile, arch: Arch, floor: u32) -> Vec<(u32, Fate)> {
    let fates = fates(profile, arch);
    let default = Fate::Act(profile.default_action);
    let plain = |fate: Fate| match fate {
        Fate::Test(rules) if rules.is_empty() => default.clone(),
        fate => fate,
    };
    let mut known: Vec<(u32, Fate)> = fates.into_iter().map(|(n, f)| (n, plain(f))).collect();
    known.sort_unstable_by_key(|(nr, _)| *nr);
    let private = |nr: u32| arch == Arch::Arm && nr >= table::ARM_PRIVATE;
    let newest = known
        .iter()
        .rev()
        .map(|(nr, _)| *nr)
        .find(|nr| !private(*nr));
    // What lies beyond the newest call that the profile knows.
    let permissive = matches!(
        profile.default_action,
        Action::Allow | Action::Log | Action::Trace(_)
    );
    let beyond = match newest {
        Some(_) if !permissive => Fate::Act(ENOSYS),
        _ => default.clone(),
    };

    let mut out: Vec<(u32, Fate)> = Vec::with_capacity(known.len());
    let mut push = |start: u32, fate: &Fate| match out.last() {
        Some((_, last)) if last == fate => {}
        _ => out.push((start, fate.clone())),
    };
    let mut next = floor;
    for (nr, fate) in &known {
        if *nr > next {
            let newer = newest.is_some_and(|n| next > n);
            push(next, if newer { &beyond } else { &default });
        }
        push(*nr, fate);
        next = nr + 1;
    }
    push(next, &beyond);
    out
}

/// Makes the program. Fails only if it would be longer than the kernel takes.
pub(crate) fn compile(profile: &Profile) -> Result<Vec<sock_filter>> {
    let mut archs = vec![Arch::NATIVE];
    for arch in &profile.architectures {
        if !archs.contains(arch) {
            archs.push(*arch);
        }
    }
    let x32 = archs.contains(&Arch::X32);
    // x32 is a part of x86_64's numbers, not an architecture to the kernel.
    if x32 && !archs.contains(&Arch::X86_64) {
        archs.push(Arch::X86_64);
    }
    archs.retain(|a| *a != Arch::X32);

    let mut program = Program::default();
    let mut entries = Vec::new();
    // The native one last, so that it stands first and near the dispatch.
    for arch in archs.iter().rev() {
        let mut fates = ranges(profile, *arch, 0);
        if *arch == Arch::X86_64 {
            match x32 {
                true => fates.extend(ranges(profile, Arch::X32, X32_BIT)),
                false => fates.push((X32_BIT, Fate::Act(ENOSYS))),
            }
        }
        // Tests of arguments first, that is at the end: they are the longest.
        // Calls with the same tests share them.
        let mut written: Vec<(bool, &Vec<_>, Label)> = Vec::new();
        let mut leaves: Vec<(u32, Leaf)> = Vec::with_capacity(fates.len());
        for (start, fate) in &fates {
            let is_x32 = *arch == Arch::X86_64 && *start >= X32_BIT;
            let narrow = is_x32 || arch.is_32_bit();
            let leaf = match fate {
                Fate::Act(action) => Leaf::Act(*action),
                Fate::Test(rules) => {
                    let same = |(n, r, _): &&(bool, _, _)| (*n, *r) == (narrow, rules);
                    match written.iter().find(same) {
                        Some((_, _, label)) => Leaf::At(*label),
                        None => {
                            let label = program.tests(rules, profile.default_action, narrow);
                            written.push((narrow, rules, label));
                            Leaf::At(label)
                        }
                    }
                }
            };
            leaves.push((*start, leaf));
        }
        let tree = program.tree(&leaves);
        entries.push((*arch, program.before(op::LD_ABS, NR, tree)));
    }
    let mut otherwise = program.ret(Action::KillProcess);
    for (arch, entry) in entries {
        otherwise = program.branch(op::JEQ, arch.audit(), entry, otherwise);
    }
    program.before(op::LD_ABS, ARCH, otherwise);
    program.reversed.reverse();
    match program.reversed.len() {
        n if n > LONGEST => Err(Error::unsupported(format!(
            "seccomp: the profile needs {n} instructions, the kernel takes {LONGEST}"
        ))
        .hint("fewer rules with arguments, or fewer architectures")),
        _ => Ok(program.reversed),
    }
}
