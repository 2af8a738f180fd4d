//! The Huffman code of header fields (RFC 7541, 5.2 and Appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their
//! symbols, and a longer code begins where the shorter ones have ended. The lengths are
//! therefore the whole code.

/// The symbol that ends a string: only its first bits may be sent, as padding.
const END: u16 = 256;
const SYMBOLS: usize = 257;
const LONGEST: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

struct Code {
    /// The first code of each length, and how many there are.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    /// Where the symbols of each length begin in `symbols`.
    start: [usize; LONGEST + 1],
    symbols: [u16; SYMBOLS],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut code = Code {
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
        symbols: [0; SYMBOLS],
    };
    let (mut next, mut sorted, mut length) = (0, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.start[length] = sorted;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                code.symbols[sorted] = symbol as u16;
                sorted += 1;
                code.count[length] += 1;
                next += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
}

/// `None`: it is not of this code.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    // No code is shorter than 5 bits.
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut bits, mut length) = (0u32, 0);
    for byte in bytes {
        for shift in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> shift & 1);
            length += 1;
            let first = CODE.first.get(length)?;
            let index = bits.checked_sub(*first);
            let Some(index) = index.filter(|i| *i < CODE.count[length]) else {
                continue;
            };
            match CODE.symbols[CODE.start[length] + index as usize] {
                END => return None,
                symbol => text.push(symbol as u8),
            }
            (bits, length) = (0, 0);
        }
    }
    // The padding is less than a byte, of ones.
    (length < 8 && bits == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_whole() {
        // Every string of bits begins with exactly one symbol's code.
        let space: u64 = LENGTHS.iter().map(|n| 1u64 << (LONGEST as u8 - n)).sum();
        assert_eq!(space, 1 << LONGEST);
        // Some of Appendix B.
        for (symbol, code, length) in [
            (b'0' as usize, 0x0, 5),
            (b'a' as usize, 0x3, 5),
            (b'Z' as usize, 0xfd, 8),
            (b'~' as usize, 0x1ffd, 13),
            (0, 0x1ff8, 13),
            (255, 0x3ffffee, 26),
            (256, 0x3fffffff, 30),
        ] {
            let at = CODE.symbols.iter().position(|s| *s as usize == symbol);
            let index = at.unwrap() - CODE.start[length];
            assert_eq!(LENGTHS[symbol] as usize, length, "{symbol}");
            assert_eq!(CODE.first[length] + index as u32, code, "{symbol}");
        }
    }

    #[test]
    fn strings() {
        let www = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decode(&www).unwrap(), b"www.example.com");
        assert_eq!(decode(&[]).unwrap(), b"");
        // A whole byte of padding, padding with a zero, and the end's own code.
        assert_eq!(decode(&[0xff]), None);
        assert_eq!(decode(&[0x1f, 0xff]), None);
        assert_eq!(decode(&[0x1e]), None);
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode(&[0x1f]).unwrap(), b"a");
    }
}
