//! Header compression (RFC 7541). Written: literals alone, which need no table. Read:
//! everything, in bounds.

use std::collections::VecDeque;

use super::huffman;

/// Bytes of a list of header fields, counted as RFC 7541, 4.1 does.
pub(super) const LIST_MOST: usize = 64 << 10;
/// The dynamic table's size where no setting says otherwise; ours says nothing.
const TABLE_MOST: usize = 4096;
/// What each field counts beside its bytes.
const OVERHEAD: usize = 32;

pub(super) type Field = (Vec<u8>, Vec<u8>);

/// Adds a field that is not indexed, and not Huffman-coded.
pub(super) fn write(to: &mut Vec<u8>, name: &str, value: &str) {
    to.push(0);
    for text in [name, value] {
        write_length(to, text.len());
        to.extend_from_slice(text.as_bytes());
    }
}

/// An integer with a prefix of 7 bits, the first bit being 0.
fn write_length(to: &mut Vec<u8>, length: usize) {
    if length < 0x7f {
        return to.push(length as u8);
    }
    to.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

/// What one side of a connection needs to know to read the next block.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<Field>,
    size: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            table: VecDeque::new(),
            size: 0,
            limit: TABLE_MOST,
        }
    }
}

impl Decoder {
    /// The fields of a whole block.
    ///
    /// # Errors
    /// What is wrong with it. The connection is of no use then.
    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, &'static str> {
        let mut reader = Reader(block);
        let mut fields = Vec::new();
        let mut size = 0;
        while let Some(first) = reader.peek() {
            let field = match first {
                0x80.. => self.indexed(reader.integer(7)?)?,
                0x40.. => {
                    let field = self.literal(&mut reader, 6)?;
                    self.insert(field.clone());
                    field
                }
                0x20.. if !fields.is_empty() => {
                    return Err("a table size in the midst of header fields");
                }
                0x20.. => {
                    self.resize(reader.integer(5)?)?;
                    continue;
                }
                _ => self.literal(&mut reader, 4)?,
            };
            size += size_of_field(&field);
            if size > LIST_MOST {
                return Err("its header has more than 64 KiB");
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn literal(&self, reader: &mut Reader, prefix: u8) -> Result<Field, &'static str> {
        let name = match reader.integer(prefix)? {
            0 => reader.string()?,
            index => self.indexed(index)?.0,
        };
        Ok((name, reader.string()?))
    }

    fn indexed(&self, index: usize) -> Result<Field, &'static str> {
        const NONE: &str = "a header field of no table";
        let index = index.checked_sub(1).ok_or(NONE)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.table.get(index - STATIC.len()).cloned().ok_or(NONE)
    }

    fn insert(&mut self, field: Field) {
        let size = size_of_field(&field);
        self.evict(self.limit.saturating_sub(size));
        // One that has no room at all empties the table.
        if size <= self.limit {
            self.size += size;
            self.table.push_front(field);
        }
    }

    fn resize(&mut self, limit: usize) -> Result<(), &'static str> {
        if limit > TABLE_MOST {
            return Err("a table of header fields beyond what it may have");
        }
        self.limit = limit;
        self.evict(limit);
        Ok(())
    }

    /// Takes the oldest out until the rest has this size.
    fn evict(&mut self, most: usize) {
        while self.size > most
            && let Some(field) = self.table.pop_back()
        {
            self.size -= size_of_field(&field);
        }
    }
}

fn size_of_field((name, value): &Field) -> usize {
    name.len() + value.len() + OVERHEAD
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let (first, rest) = self.0.split_first().ok_or("a header that is cut off")?;
        self.0 = rest;
        Ok(*first)
    }

    /// RFC 7541, 5.1; at most 2^28, which is beyond all that is taken here.
    fn integer(&mut self, prefix: u8) -> Result<usize, &'static str> {
        let most = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number in a header without end")
    }

    fn string(&mut self) -> Result<Vec<u8>, &'static str> {
        let is_coded = self.peek().is_some_and(|b| b & 0x80 != 0);
        let length = self.integer(7)?;
        let bytes = self.0.get(..length).ok_or("a header that is cut off")?;
        self.0 = &self.0[length..];
        match is_coded {
            true => huffman::decode(bytes).ok_or("a header with a wrong Huffman code"),
            false => Ok(bytes.to_vec()),
        }
    }
}

/// RFC 7541, Appendix A; the first has the index 1.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
#[path = "hpack_tests.rs"]
mod tests;
