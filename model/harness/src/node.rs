//! The objects of the histories: a number, and references to others.
//!
//! They are real records, two pickles as ZODB's, so that any storage can collect garbage among them; but so plain that
//! the harness reads them back without a pickle machine, and never has to believe the engine's.

use std::fmt;

use bytes::Bytes;
use vellum_storage::Oid;

/// The contents of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// Whether changes made at the same time can be merged: see [`merge`].
    pub counter: bool,
    /// Something to tell one state from another by.
    pub number: u8,
    /// References that keep objects.
    pub strong: Vec<Oid>,
    /// Weak references, which do not.
    pub weak: Vec<Oid>,
    /// References into another database, which do not either.
    pub foreign: Vec<Oid>,
    /// References of an unknown shape, `(oid, None, None)`: their meaning is unknown (rule 4.10).
    pub odd: Vec<Oid>,
    /// Whether it is of the class that has blobs, and which one comes with it.
    pub beside: Beside,
}

/// The blob beside a record (part 8 of the rules).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Beside {
    /// Nothing: it is no record of a blob.
    #[default]
    Nothing,
    /// Nothing, though it is the record of a blob. A record alone does not tell more.
    NoBlob,
    /// The blob with this number: see [`blob`].
    Blob(u8),
}

/// The bytes of the blob with this number: none for zero, else some that no other blob has.
pub fn blob(number: u8) -> Bytes {
    format!("blob {number}; ").repeat(usize::from(number) * 50).into()
}

/// The number of the blob that has these bytes.
pub fn blob_number(bytes: &[u8]) -> Option<u8> {
    (0..=u8::MAX).find(|number| blob(*number) == bytes)
}

const MODULE: &[u8] = b"vellum_peer";
const BLOB: &[u8] = b"ZODB.blob\nBlob\n";
const OTHER_DATABASE: &[u8] = b"other";

/// Merges as every resolver under test must: if the new one is a counter, as every record of a blob is, the result is
/// the new one with both sides' additions to its number; otherwise there is no result. Only nodes of the harness can be
/// merged.
pub fn merge(ancestor: &[u8], committed: &[u8], new: &[u8]) -> Option<Bytes> {
    let [ancestor, committed, new] = [ancestor, committed, new].map(Node::decode);
    let (ancestor, committed, new) = (ancestor?, committed?, new?);
    let number = committed.number.wrapping_add(new.number).wrapping_sub(ancestor.number);
    new.counter.then(|| Node { number, ..new }.encode())
}

impl Node {
    /// The record: the class's pickle, and the state's, protocol 3. The state is a tuple of the number and the three
    /// lists; a reference is a persistent id as ZODB writes it. If there are references of an unknown shape, they are a
    /// fourth list. The record of a blob is of the class of blobs.
    pub fn encode(&self) -> Bytes {
        let mut out = b"\x80\x03c".to_vec();
        if self.beside == Beside::Nothing {
            out.extend_from_slice(MODULE);
            out.extend_from_slice(if self.counter { b"\nCounter\n" } else { b"\nPlain\n" });
        } else {
            out.extend_from_slice(BLOB);
        }
        out.extend_from_slice(b".\x80\x03(K");
        out.push(self.number);
        let list = |out: &mut Vec<u8>, oids: &[Oid], write: &dyn Fn(&mut Vec<u8>, Oid)| {
            out.extend_from_slice(b"](");
            for oid in oids {
                write(out, *oid);
                out.push(b'Q');
            }
            out.push(b'e');
        };
        list(&mut out, &self.strong, &|out, oid| text(out, &oid.to_bytes()));
        list(&mut out, &self.weak, &|out, oid| {
            out.extend_from_slice(b"](X\x01\0\0\0w");
            text(out, &oid.to_bytes());
            out.extend_from_slice(b"\x85e");
        });
        list(&mut out, &self.foreign, &|out, oid| {
            out.extend_from_slice(b"](X\x01\0\0\0nX");
            out.extend_from_slice(&(OTHER_DATABASE.len() as u32).to_le_bytes());
            out.extend_from_slice(OTHER_DATABASE);
            text(out, &oid.to_bytes());
            out.extend_from_slice(b"\x86e");
        });
        if !self.odd.is_empty() {
            list(&mut out, &self.odd, &|out, oid| {
                text(out, &oid.to_bytes());
                out.extend_from_slice(b"NN\x87");
            });
        }
        out.extend_from_slice(b"t.");
        out.into()
    }

    /// Reads what [`Node::encode`] wrote; none for anything else.
    pub fn decode(record: &[u8]) -> Option<Node> {
        let mut rest = Reader(record);
        rest.skip(b"\x80\x03c")?;
        let beside = if rest.skip(BLOB).is_some() { Beside::NoBlob } else { Beside::Nothing };
        let mut counter = true;
        if beside == Beside::Nothing {
            rest.skip(MODULE)?;
            counter = rest.skip(b"\nCounter\n").is_some();
            if !counter {
                rest.skip(b"\nPlain\n")?;
            }
        }
        rest.skip(b".\x80\x03(K")?;
        let number = rest.take(1)?[0];
        let strong = rest.list(b"", b"")?;
        let weak = rest.list(b"](X\x01\0\0\0w", b"\x85e")?;
        let foreign = rest.list(b"](X\x01\0\0\0nX\x05\0\0\0other", b"\x86e")?;
        let odd = if rest.0.starts_with(b"]") { rest.list(b"", b"NN\x87")? } else { Vec::new() };
        rest.skip(b"t.")?;
        rest.0.is_empty().then_some(Node { counter, number, strong, weak, foreign, odd, beside })
    }

    /// The objects that a record keeps; none for a record that is not the harness's.
    pub fn references(record: &[u8]) -> Vec<u64> {
        Node::decode(record).map(|node| node.strong.iter().map(|oid| oid.0).collect()).unwrap_or_default()
    }

    /// The bytes of the blob that comes with it.
    pub fn blob(&self) -> Option<Bytes> {
        if let Beside::Blob(number) = self.beside { Some(blob(number)) } else { None }
    }

    /// The node that such a record and such a blob are; none if they are not the harness's.
    pub fn of(record: &[u8], blob: Option<&[u8]>) -> Option<Node> {
        let node = Node::decode(record)?;
        match blob {
            None => Some(node),
            Some(bytes) => Some(Node { beside: Beside::Blob(blob_number(bytes)?), ..node }),
        }
    }

    /// Whether a record may refer to more than that (rule 4.10).
    pub fn is_untold(record: &[u8]) -> bool {
        Node::decode(record).is_some_and(|node| !node.odd.is_empty())
    }
}

/// Short bytes, as pickles have them.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&[b'C', bytes.len() as u8]);
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn skip(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(bytes)?;
        Some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn list(&mut self, before: &[u8], after: &[u8]) -> Option<Vec<Oid>> {
        self.skip(b"](")?;
        let mut oids = Vec::new();
        while self.skip(b"e").is_none() {
            self.skip(before)?;
            self.skip(b"C\x08")?;
            oids.push(Oid::from_bytes(self.take(8)?.try_into().ok()?));
            self.skip(after)?;
            self.skip(b"Q")?;
        }
        Some(oids)
    }
}

/// `5`, `5+` for a counter; then what it refers to: ` -> 1 2 weak 3 foreign 4 odd 5`; then ` blob 7`, or ` no-blob`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, if self.counter { "+" } else { "" })?;
        let lists = [("->", &self.strong), ("weak", &self.weak), ("foreign", &self.foreign), ("odd", &self.odd)];
        for (word, oids) in lists {
            if !oids.is_empty() {
                write!(f, " {word}")?;
                oids.iter().try_for_each(|oid| write!(f, " {}", oid.0))?;
            }
        }
        match self.beside {
            Beside::Nothing => Ok(()),
            Beside::NoBlob => f.write_str(" no-blob"),
            Beside::Blob(number) => write!(f, " blob {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let oids = |oids: &[u64]| oids.iter().map(|&oid| Oid(oid)).collect::<Vec<_>>();
        let (strong, weak, foreign) = (oids(&[1, 0x2e65_0000]), oids(&[3]), oids(&[4, 5]));
        Node { counter: true, number: 7, strong, weak, foreign, odd: oids(&[6, 7]), ..Node::default() }
    }

    #[test]
    fn a_node_is_a_record_and_back() {
        for node in [node(), Node { odd: vec![], ..node() }, Node { beside: Beside::NoBlob, ..node() }, Node::default()]
        {
            assert_eq!(Node::decode(&node.encode()), Some(node.clone()));
        }
        assert_eq!(Node::references(&node().encode()), [1, 0x2e65_0000]);
        let record = node().encode();
        for cut in 0..record.len() {
            assert_eq!(Node::decode(&record[..cut]), None);
        }
    }

    #[test]
    fn a_blob_has_its_number() {
        for number in 0..=u8::MAX {
            let node = Node { beside: Beside::Blob(number), ..node() };
            assert_eq!(Node::of(&node.encode(), node.blob().as_deref()), Some(node));
        }
    }

    #[test]
    fn counters_add_up() {
        let of = |counter, number| Node { counter, number, ..Node::default() }.encode();
        assert_eq!(merge(&of(true, 1), &of(true, 3), &of(true, 6)), Some(of(true, 8)));
        assert_eq!(merge(&of(true, 1), &of(true, 3), &of(false, 6)), None);
    }
}
