//! The database, and its changes: records as of mails, made of a seed.

use crate::stores::{Op, Store};

/// Objects of the larger measurements.
pub const OBJECTS: u64 = 100_000;

/// Records of a small commit.
pub const SMALL: u64 = 5;

/// Bytes of a record, least and most.
#[derive(Clone, Copy)]
pub struct Length(pub u64, pub u64);

pub const MAIL: Length = Length(200, 2000);

/// Numbers that only look random (splitmix64).
pub struct Rng(pub u64);
impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

const WORDS: &[&str] = &[
    "from", "subject", "received", "the", "of", "and", "to", "meeting", "reply", "list", "message", "date", "thanks",
    "attached", "report", "please", "monday", "regards", "server", "python", "zope", "database", "object", "index",
];
/// A record as of a mail: words, and as many bytes that no compressor makes shorter.
pub fn record(oid: u64, round: u64, Length(low, high): Length) -> Vec<u8> {
    let mut r = Rng(oid.wrapping_mul(0xA24B_AED4_963E_E407) ^ round.wrapping_mul(0x9FB2_1C65_1E98_DF25));
    let len = (low + r.below(high - low + 1)) as usize;
    let mut out = Vec::with_capacity(len + 16);
    out.extend_from_slice(&oid.to_le_bytes());
    out.extend_from_slice(&round.to_le_bytes());
    while out.len() < len {
        out.extend_from_slice(WORDS[r.below(WORDS.len() as u64) as usize].as_bytes());
        out.push(b' ');
        out.extend_from_slice(&r.next().to_le_bytes()[..6]);
    }
    out.truncate(len);
    out
}
/// Three references of an object.
fn refs(oid: u64) -> Vec<u8> {
    let mut r = Rng(oid);
    (0..3).flat_map(|_| r.below(OBJECTS).to_be_bytes()).collect()
}
/// The rows of a new revision.
pub fn revision(ops: &mut Vec<Op>, oid: u64, tid: u64, id: u64, data: Vec<u8>) {
    ops.push(Op::Revision(oid, tid, id));
    ops.push(Op::Object(oid, tid));
    ops.push(Op::Data(id, data));
    ops.push(Op::Refs(id, refs(oid)));
}
/// User and description of a transaction.
pub fn meta(tid: u64) -> Vec<u8> {
    format!("user{} a description of transaction {tid}", tid % 17).into_bytes()
}

/// Writes so many objects in transactions of 10, a hundred of them in one durable commit. Returns the bytes of data.
pub fn fill(store: &dyn Store, objects: u64, length: Length) -> u64 {
    let (mut ops, mut bytes) = (Vec::new(), 0);
    for tid in 1..=objects / 10 {
        for oid in (tid - 1) * 10..tid * 10 {
            let data = record(oid, 0, length);
            bytes += data.len() as u64;
            revision(&mut ops, oid, tid, oid, data);
        }
        ops.push(Op::Transaction(tid, meta(tid)));
        if tid % 100 == 0 {
            store.apply(&ops).unwrap();
            ops.clear();
        }
    }
    store.apply(&ops).unwrap();
    bytes
}
/// A transaction of five records of old objects. `number` is the last number of data.
pub fn small(tid: u64, number: &mut u64) -> Vec<Op> {
    let mut ops = vec![Op::Transaction(tid, meta(tid))];
    let mut r = Rng(tid);
    for k in 0..SMALL {
        let oid = (r.below(OBJECTS / SMALL) * SMALL + k) % OBJECTS;
        revision(&mut ops, oid, tid, *number, record(oid, tid, MAIL));
        *number += 1;
    }
    ops
}
/// Objects that [`churning`] changes, round and round.
pub const CHURNED: u64 = 5_000;

/// Commit `n` of a process that is killed. Later ones also remove a transaction of long before, as a pack does.
pub fn churning(n: u64) -> Vec<Op> {
    let mut ops = vec![Op::Transaction(n, meta(n))];
    for k in 0..SMALL {
        let oid = (n * SMALL + k) % CHURNED;
        revision(&mut ops, oid, n, n * SMALL + k, record(oid, n, MAIL));
        if n > 2_000 {
            let old = n - 1_000;
            ops.push(Op::DropRevision((old * SMALL + k) % CHURNED, old));
            ops.push(Op::DropData(old * SMALL + k));
        }
    }
    ops
}
/// Commit `n` of a process that only adds objects.
pub fn adding(n: u64) -> Vec<Op> {
    let mut ops = vec![Op::Transaction(n, meta(n))];
    for k in 0..SMALL {
        revision(&mut ops, n * SMALL + k, n, n * SMALL + k, record(n * SMALL + k, n, MAIL))
    }
    ops
}
