//! A walk sends what the rules say, in their order.

use proptest::prelude::*;
use vellum_server::Walk;
use vellum_spec::{Begin, Change, Database, Limits};
use vellum_storage::{Draft, MemoryStorage, Oid, Tid, TransactionMeta};
use vellum_wire::Reach;

const OIDS: u64 = 8;

/// A record that refers to these objects; or, without any, one that cannot be read.
fn record(tag: u8, refers: &[u64]) -> Vec<u8> {
    if refers.is_empty() {
        return vec![b'(', tag];
    }
    let mut record = format!("cshop\nItem{tag}\n.(").into_bytes();
    for oid in refers {
        record.extend([&b"U\x08"[..], &oid.to_be_bytes(), b"Q"].concat());
    }
    record.extend_from_slice(b"t.");
    record
}

fn references(record: &[u8]) -> Vec<u64> {
    let parts = record.windows(11).filter(|part| part.starts_with(b"U\x08") && part.ends_with(b"Q"));
    parts.map(|part| u64::from_be_bytes(part[2..10].try_into().unwrap())).collect()
}

type Changes = Vec<(u64, Vec<u64>, bool)>;

/// The same history, as a storage and by the rules.
fn play(transactions: &[Changes]) -> (MemoryStorage, Database) {
    let (storage, mut db) = (MemoryStorage::new("memory"), Database::default());
    for (n, changes) in transactions.iter().enumerate() {
        let tid = db.last_transaction() + 10;
        let mut meta = TransactionMeta::new();
        meta.tid = Some(Tid(tid));
        let (mut draft, mut spec) = (Draft::new(meta), Vec::new());
        for (oid, refers, deletes) in changes {
            let serial = db.newest(*oid).map_or(0, |at| at.tid());
            if *deletes && serial > 0 {
                draft.push(vellum_storage::Change::Delete { oid: Oid(*oid), serial: Tid(serial) }).unwrap();
                spec.push(Change::Delete { oid: *oid, serial });
            } else {
                let data = record(n as u8, refers);
                draft.store(Oid(*oid), Tid(serial), data.clone().into()).unwrap();
                spec.push(Change::store(*oid, serial, &data));
            }
        }
        storage.vote(draft).unwrap().finish().unwrap();
        db = db.commit(Begin::at(tid), &spec, &|_| None).unwrap().0;
    }
    (storage, db)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Rule 9.3.
    #[test]
    fn a_walk_is_what_is_within_reach(
        transactions in prop::collection::vec(
            prop::collection::vec((0..OIDS, prop::collection::vec(0..OIDS, 0..4), prop::bool::weighted(0.1)), 1..4), 0..12),
        from in prop::collection::vec(0..OIDS, 1..4),
        moment in 0..13_u64,
        (depth, count, bytes) in (0..4_u32, 0..9_u32, 0..300_u64),
    ) {
        let (storage, db) = play(&transactions);
        let before = moment * 10 + 1;
        let limits = Limits { depth, count: count as usize, bytes: bytes as usize };
        let wanted = db.within_reach(&from, before, limits, &references);
        let wanted: Vec<_> = wanted.into_iter().map(|(oid, shown)| (oid, shown.data.to_vec(), shown.tid, shown.next)).collect();
        let from = from.into_iter().map(Oid).collect();
        let mut walk = Walk::new(from, Tid(before), Reach { depth, count, bytes });
        let mut found = Vec::new();
        while !walk.is_over() {
            for ahead in walk.go_on(|oid, before| storage.load_before(oid, before)).unwrap() {
                let revision = ahead.revision;
                found.push((ahead.oid.0, revision.data.to_vec(), revision.tid.0, revision.next.map(|next| next.0)));
            }
        }
        prop_assert_eq!(found, wanted);
    }
}
