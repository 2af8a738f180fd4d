//! What rules are made of: the expressions of nf_tables, and what `nft` calls
//! statements and matches. Each adds to the rule that is being written.

use super::super::Subnet;
use super::NFPROTO_IPV4;
use crate::linux::netlink::Body;

/// NFTA_LIST_ELEM, NFTA_EXPR_NAME, NFTA_EXPR_DATA and NFTA_DATA_VALUE: the frame
/// of every list, expression and datum.
pub(super) const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

/// Registers of 4 bytes: NFT_REG32_00 and on.
pub(super) const R0: u32 = 8;
pub(super) const R1: u32 = 9;
pub(super) const R2: u32 = 10;

pub(super) fn value(m: &mut Body, bytes: &[u8]) {
    m.bytes(DATA_VALUE, bytes);
}

pub(super) fn expression(rule: &mut Body, name: &str, fill: impl FnOnce(&mut Body)) {
    rule.nest(LIST_ELEM, |m| {
        m.text(EXPR_NAME, name).nest(EXPR_DATA, fill);
    });
}

/// Offsets in the IPv4 header.
pub(super) const SOURCE: u32 = 12;
pub(super) const DESTINATION: u32 = 16;

fn payload(rule: &mut Body, base: i32, offset: u32, length: u32, to: u32) {
    expression(rule, "payload", |m| {
        m.be32(1, to)
            .be32(2, base as u32)
            .be32(3, offset)
            .be32(4, length);
    });
}

pub(super) fn network_header(rule: &mut Body, offset: u32, to: u32) {
    payload(rule, libc::NFT_PAYLOAD_NETWORK_HEADER, offset, 4, to);
}

fn meta(rule: &mut Body, key: i32, to: u32) {
    expression(rule, "meta", |m| {
        m.be32(1, to).be32(2, key as u32);
    });
}

fn compare(rule: &mut Body, operator: i32, bytes: &[u8]) {
    expression(rule, "cmp", |m| {
        m.be32(1, R0)
            .be32(2, operator as u32)
            .nest(3, |m| value(m, bytes));
    });
}

/// R0 := R0 & mask.
fn mask(rule: &mut Body, bytes: [u8; 4]) {
    expression(rule, "bitwise", |m| {
        m.be32(1, R0)
            .be32(2, R0)
            .be32(3, 4)
            .nest(4, |m| value(m, &bytes))
            .nest(5, |m| value(m, &[0; 4]));
    });
}

pub(super) fn address_in(rule: &mut Body, offset: u32, operator: i32, subnet: Subnet) {
    network_header(rule, offset, R0);
    mask(rule, subnet.mask().octets());
    compare(rule, operator, &subnet.address().octets());
}

pub(super) fn interface(rule: &mut Body, key: i32, operator: i32, name: &str) {
    meta(rule, key, R0);
    let mut bytes = [0u8; libc::IFNAMSIZ];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    compare(rule, operator, &bytes);
}

/// `fib daddr type local`.
pub(super) fn to_this_host(rule: &mut Body) {
    const RESULT_ADDRTYPE: u32 = 3;
    const F_DADDR: u32 = 2;
    expression(rule, "fib", |m| {
        m.be32(1, R0).be32(2, RESULT_ADDRTYPE).be32(3, F_DADDR);
    });
    compare(
        rule,
        libc::NFT_CMP_EQ,
        &u32::from(libc::RTN_LOCAL).to_ne_bytes(),
    );
}

/// `ct status dnat`.
pub(super) fn was_redirected(rule: &mut Body) {
    const IPS_DST_NAT: u32 = 1 << 5;
    expression(rule, "ct", |m| {
        m.be32(1, R0).be32(2, libc::NFT_CT_STATUS as u32);
    });
    mask(rule, IPS_DST_NAT.to_ne_bytes());
    compare(rule, libc::NFT_CMP_NEQ, &[0; 4]);
}

/// `ct state established,related`.
pub(super) fn is_answer(rule: &mut Body) {
    expression(rule, "ct", |m| {
        m.be32(1, R0).be32(2, libc::NFT_CT_STATE as u32);
    });
    mask(rule, (STATE_ESTABLISHED | STATE_RELATED).to_ne_bytes());
    compare(rule, libc::NFT_CMP_NEQ, &[0; 4]);
}

/// NF_CT_STATE_BIT, uapi/linux/netfilter/nf_conntrack_common.h; of xtables too.
const STATE_ESTABLISHED: u32 = 1 << 1;
const STATE_RELATED: u32 = 1 << 2;

/// `-m conntrack --ctstate RELATED,ESTABLISHED,DNAT`, revision 3: struct
/// xt_conntrack_mtinfo3 of uapi/linux/netfilter/xt_conntrack.h, all zeros but for
/// `match_flags` and `state_mask`.
pub(super) fn xt_answer_or_redirected(rule: &mut Body) {
    const SIZE: usize = 164;
    const MATCH_FLAGS: usize = 146;
    const STATE_MASK: usize = 150;
    const XT_CONNTRACK_STATE: u16 = 1;
    const XT_CONNTRACK_STATE_DNAT: u32 = 1 << 7;
    let states = (STATE_ESTABLISHED | STATE_RELATED | XT_CONNTRACK_STATE_DNAT) as u16;
    let mut info = [0_u8; SIZE];
    info[MATCH_FLAGS..][..2].copy_from_slice(&XT_CONNTRACK_STATE.to_ne_bytes());
    info[STATE_MASK..][..2].copy_from_slice(&states.to_ne_bytes());
    expression(rule, "match", |m| {
        m.text(1, "conntrack").be32(2, 3).bytes(3, &info);
    });
}

pub(super) fn counter(rule: &mut Body) {
    expression(rule, "counter", |_| {});
}

/// `meta l4proto . th dport`. A packet without ports is looked up with what
/// stands in their place, in vain: no element has its protocol.
pub(super) fn protocol_and_port(rule: &mut Body, protocol: u32, port: u32) {
    meta(rule, libc::NFT_META_L4PROTO, protocol);
    payload(rule, libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, port);
}

/// `dnat to <key from R0> map @map`; a miss goes on to the next rule.
pub(super) fn redirect(rule: &mut Body, map: &str) {
    expression(rule, "lookup", |m| {
        m.text(1, map).be32(2, R0).be32(3, R0);
    });
    expression(rule, "nat", |m| {
        m.be32(1, libc::NFT_NAT_DNAT as u32)
            .be32(2, u32::from(NFPROTO_IPV4))
            .be32(3, R0)
            .be32(5, R1);
    });
}

pub(super) fn verdict(rule: &mut Body, code: i32, chain: Option<&str>) {
    expression(rule, "immediate", |m| {
        m.be32(1, 0).nest(2, |m| {
            m.nest(2, |m| {
                m.be32(1, code as u32);
                if let Some(chain) = chain {
                    m.text(2, chain);
                }
            });
        });
    });
}
