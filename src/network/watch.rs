//! Notifications of nftables, for a monitor that wants to know when the rules of its
//! Pod have gone: `nft flush ruleset`, a firewall's reload or start.
//!
//! Only what can take effect from a Pod wakes the monitor: deleted tables, chains and
//! rules, and new or changed chains, whose policy may be to drop. That is decided by a
//! program of classic BPF on the socket, since on a busy host rules and elements of
//! sets come and go all the time, and a root may have hundreds of monitors. What roots
//! of carob do to their own tables wakes nobody, but for the deletion of this root's.

use std::os::fd::{AsFd, BorrowedFd};

use libc::sock_filter;

use crate::linux::netlink::{Events, Family};
use crate::store::Layout;
use crate::{Error, Result, sys};

const NFNLGRP_NFTABLES: i32 = 7;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Watch(Events);

impl Watch {
    /// Of the network namespace that the caller is in; for good.
    pub(crate) fn open(layout: &Layout) -> Result<Self> {
        let events = Events::open(Family::Netfilter)?;
        sys::netlink::attach_filter(&events, &filter(&super::table_of(layout)))
            .map_err(|e| Error::sys("setsockopt(SOL_SOCKET, SO_ATTACH_FILTER)", e))?;
        events.subscribe(NFNLGRP_NFTABLES)?;
        Ok(Watch(events))
    }

    /// Forgets what has come.
    pub(crate) fn drain(&self) {
        self.0.drain();
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// enum nf_tables_msg_types
const DELTABLE: u32 = 2;
const NEWCHAIN: u32 = 3;
const DELCHAIN: u32 = 5;
const DELRULE: u32 = 8;

/// Messages of one datagram that are looked at; more of them count as a change.
const MESSAGES: usize = 8;

const LITTLE: bool = cfg!(target_endian = "little");
/// In a message: the two low bytes of its length, and the low byte of its type.
const LENGTH_LOW: u32 = if LITTLE { 0 } else { 3 };
const LENGTH_HIGH: u32 = if LITTLE { 1 } else { 2 };
const KIND: u32 = if LITTLE { 4 } else { 5 };
/// Behind struct nlmsghdr, struct nfgenmsg and the head of the first attribute, which
/// is the name of the table.
const NAME: u32 = 24;

/// X is the offset of a message. A load beyond the datagram ends the program with 0.
fn filter(table: &str) -> Vec<sock_filter> {
    use libc::*;
    let op = |code: u32, k: u32| sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let byte = |at: u32| op(BPF_LD | BPF_B | BPF_IND, at);
    let word = |at: u32| op(BPF_LD | BPF_W | BPF_IND, at);
    let ret = |n: u32| op(BPF_RET | BPF_K, n);
    let equal = |k: u32, jt: usize, jf: usize| sock_filter {
        code: (BPF_JMP | BPF_JEQ | BPF_K) as u16,
        jt: jt as u8,
        jf: jf as u8,
        k,
    };
    // The name with its NUL and the attribute's padding, as big-endian words.
    let mut name = table.as_bytes().to_vec();
    name.push(0);
    name.resize(name.len().next_multiple_of(4), 0);
    let name: Vec<u32> = name
        .chunks_exact(4)
        .map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
        .collect();

    // Lengths of the parts of one message's block, for jumps over them.
    let own = 2 * name.len() + 2;
    let mut block = vec![
        byte(KIND),
        equal(NEWCHAIN, 3, 0),
        equal(DELCHAIN, 2, 0),
        equal(DELTABLE, 1, 0),
        equal(DELRULE, 0, 4 + own + 1),
        word(NAME),
        equal(u32::from_be_bytes(*b"caro"), 0, 2 + own),
        byte(NAME + 4),
        equal(u32::from(b'b'), 0, own),
    ];
    for (i, w) in name.iter().enumerate() {
        block.push(word(NAME + 4 * i as u32));
        // To the next message if it is another name.
        block.push(equal(*w, 0, 2 * (name.len() - 1 - i) + 3));
    }
    block.extend([
        byte(KIND),
        equal(DELTABLE, 0, 1),
        ret(u32::MAX),
        // X += length, rounded up to 4.
        byte(LENGTH_HIGH),
        op(BPF_ALU | BPF_LSH | BPF_K, 8),
        op(BPF_ST, 0),
        byte(LENGTH_LOW),
        op(BPF_STX, 1),
        op(BPF_LDX | BPF_MEM, 0),
        op(BPF_ALU | BPF_ADD | BPF_X, 0),
        op(BPF_ALU | BPF_ADD | BPF_K, 3),
        op(BPF_ALU | BPF_AND | BPF_K, !3),
        op(BPF_LDX | BPF_MEM, 1),
        op(BPF_ALU | BPF_ADD | BPF_X, 0),
        op(BPF_MISC | BPF_TAX, 0),
        op(BPF_LD | BPF_W | BPF_LEN, 0),
        sock_filter {
            code: (BPF_JMP | BPF_JGT | BPF_X) as u16,
            jt: 1,
            jf: 0,
            k: 0,
        },
        ret(0),
    ]);
    let mut program = vec![op(BPF_LDX | BPF_IMM, 0)];
    for _ in 0..MESSAGES {
        program.extend_from_slice(&block);
    }
    program.push(ret(u32::MAX));
    program
}
