//! Rules against their definition, by an interpreter of what each kernel would do.

use super::*;

fn evaluate(rules: &[DeviceRule], kind: DeviceKind, major: u32, minor: u32, bits: u8) -> bool {
    (0..3).map(|b| 1 << b).filter(|b| bits & b != 0).all(|bit| {
        let last = rules.iter().rev().find(|r| {
            (r.kind == DeviceKind::All || r.kind == kind)
                && r.major.is_none_or(|n| n == major)
                && r.minor.is_none_or(|n| n == minor)
                && r.access.0 & bit != 0
        });
        last.is_some_and(|r| r.allow)
    })
}

/// Runs the program as the kernel would, on one request.
fn run(program: &[Insn], kind: DeviceKind, major: u32, minor: u32, bits: u8) -> bool {
    let kind = if kind == DeviceKind::Block { 1 } else { 2 };
    let ctx = [(bits as u32) << 16 | kind, major, minor];
    let (mut reg, mut pc) = ([0u32; 11], 0usize);
    loop {
        let i = program[pc];
        let (dst, src) = ((i.regs & 15) as usize, (i.regs >> 4) as usize);
        let imm = i.imm as u32;
        pc += 1;
        let jump = match i.code {
            op::LDX_W => {
                reg[dst] = ctx[i.off as usize / 4];
                false
            }
            op::MOV32_IMM => {
                reg[dst] = imm;
                false
            }
            op::MOV32_REG => {
                reg[dst] = reg[src];
                false
            }
            op::AND32_IMM => {
                reg[dst] &= imm;
                false
            }
            op::RSH32_IMM => {
                reg[dst] >>= imm;
                false
            }
            op::JA => true,
            op::JNE32_IMM => reg[dst] != imm,
            op::JSET32_IMM => reg[dst] & imm != 0,
            op::EXIT => return reg[0] == 1,
            c => panic!("opcode {c:#x}"),
        };
        if jump {
            pc += i.off as usize;
        }
    }
}

#[test]
fn the_program_means_what_the_rules_mean() {
    let mut state = 7u64;
    let mut random = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(99);
        (state >> 33) % n
    };
    let kinds = [DeviceKind::All, DeviceKind::Char, DeviceKind::Block];
    for _ in 0..300 {
        let rules: Vec<DeviceRule> = (0..random(8))
            .map(|_| DeviceRule {
                allow: random(2) == 0,
                kind: kinds[random(3) as usize],
                major: (random(3) > 0).then(|| random(3) as u32),
                minor: (random(3) > 0).then(|| random(3) as u32),
                access: Access(1 + random(7) as u8),
            })
            .collect();
        let program = plan_v2(&rules);
        for kind in [DeviceKind::Char, DeviceKind::Block] {
            for (major, minor) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))) {
                for bits in 1..8 {
                    assert_eq!(
                        run(&program, kind, major, minor, bits),
                        evaluate(&rules, kind, major, minor, bits),
                        "{rules:?} {kind:?} {major}:{minor} {bits}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_default_rules_as_v1_writes() {
    let writes = plan_v1(&default_device_rules()).unwrap();
    let text: Vec<String> = writes.iter().map(|(f, t)| format!("{f} {t}")).collect();
    assert_eq!(text[0], "devices.deny a");
    assert_eq!(text[1], "devices.allow c *:* m");
    assert_eq!(text[2], "devices.allow b *:* m");
    // Making any node is said already.
    assert_eq!(text[3], "devices.allow c 1:3 rw");
    assert_eq!(text.last().unwrap(), "devices.allow c 136:* rw");
    assert_eq!(text.len(), 12);
}

#[test]
fn v1_starts_from_a_known_state() {
    let block = DeviceRule {
        allow: true,
        kind: DeviceKind::All,
        major: Some(8),
        minor: None,
        access: Access::READ,
    };
    let one = |rules: &[DeviceRule]| plan_v1(rules).unwrap();
    assert_eq!(one(&[block])[0], ("devices.deny", "a".to_owned()));
    assert_eq!(one(&[block])[2], ("devices.allow", "b 8:* r".to_owned()));
    // What stands before a rule on everything is dead.
    assert_eq!(
        one(&[block, DeviceRule::ALLOW_ALL]),
        [("devices.allow", "a".to_owned())]
    );
}

#[test]
fn v1_takes_back_what_it_can() {
    let null = DeviceRule::char(1, Some(3));
    let mem = DeviceRule::char(1, None);
    let not = |rule: DeviceRule| DeviceRule {
        allow: false,
        ..rule
    };
    let deny = ("devices.deny", "a".to_owned());
    assert_eq!(plan_v1(&[null, not(null)]), Some(vec![deny.clone()]));
    assert_eq!(plan_v1(&[null, not(mem)]), Some(vec![deny]));
    // A part of an exception cannot be.
    assert_eq!(plan_v1(&[mem, not(null)]), None);
    assert_eq!(plan_v1(&[DeviceRule::ALLOW_ALL, not(mem), null]), None);
}

/// What v1 takes means what the rules mean.
#[test]
fn v1_plans_mean_what_the_rules_mean() {
    let mut state = 3u64;
    let mut random = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(99);
        (state >> 33) % n
    };
    let kinds = [DeviceKind::All, DeviceKind::Char, DeviceKind::Block];
    let mut held = 0;
    for _ in 0..500 {
        let rules: Vec<DeviceRule> = (0..random(6))
            .map(|_| DeviceRule {
                allow: random(2) == 0,
                kind: kinds[random(3) as usize],
                major: (random(3) > 0).then(|| random(2) as u32),
                minor: (random(3) > 0).then(|| random(2) as u32),
                access: Access(1 + random(7) as u8),
            })
            .collect();
        let Some(writes) = plan_v1(&rules) else {
            continue;
        };
        held += 1;
        let mode = writes[0].0 == "devices.allow";
        for kind in [DeviceKind::Char, DeviceKind::Block] {
            let letter = if kind == DeviceKind::Char { "c" } else { "b" };
            for (major, minor) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
                for bits in [1u8, 2, 4, 6] {
                    // security/device_cgroup.c: one exception has to have all
                    // of the bits to allow, any of them to deny.
                    let excepted = writes[1..].iter().any(|(_, text)| {
                        let mut parts = text.split([' ', ':']);
                        let mut is =
                            |n: &str| matches!(parts.next(), Some(p) if p == n || p == "*");
                        let device = is(letter) && is(&major.to_string()) && is(&minor.to_string());
                        let mut access = || Access::parse(parts.next().unwrap()).unwrap().0;
                        device
                            && match mode {
                                true => access() & bits != 0,
                                false => access() & bits == bits,
                            }
                    });
                    assert_eq!(
                        mode != excepted,
                        evaluate(&rules, kind, major, minor, bits),
                        "{rules:?} {writes:?} {kind:?} {major}:{minor} {bits}"
                    );
                }
            }
        }
    }
    assert!(held > 100, "{held}");
}

#[test]
fn access_letters() {
    assert_eq!(Access::parse("rwm").unwrap(), Access::ALL);
    assert_eq!(Access::parse("mr").unwrap().letters(), "rm");
    assert!(Access::parse("rx").is_err());
    assert!(Access::parse("").is_err());
}
