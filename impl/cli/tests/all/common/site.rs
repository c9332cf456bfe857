//! Databases of real records, made in a test, and a clock that goes by minutes.

use vellum_file::FileStorage;
use vellum_storage::{Bytes, Oid, Revision, Tid, TransactionMeta, Version};

use super::Sandbox;

/// A record with references; a weak one is a persistent id of its own.
pub fn record(class: &str, strong: &[u64], weak: &[u64], bytes: usize) -> Bytes {
    let mut record = b"\x80\x03cshop\n".to_vec();
    record.extend_from_slice(class.as_bytes());
    record.extend_from_slice(b"\n.\x80\x03](B");
    record.extend_from_slice(&(bytes as u32).to_le_bytes());
    record.resize(record.len() + bytes, b'-');
    for oid in strong {
        record.extend_from_slice(&[b"C\x08", &oid.to_be_bytes()[..], b"Q"].concat());
    }
    for oid in weak {
        record.extend_from_slice(&[b"](X\x01\0\0\0wC\x08", &oid.to_be_bytes()[..], b"\x85eQ"].concat());
    }
    record.extend_from_slice(b"e.");
    record.into()
}

/// A database, at 9 o'clock, a minute a transaction.
pub struct Site {
    pub storage: FileStorage,
    minute: u64,
}

/// A change of a transaction.
pub enum Change {
    Store(u64, Bytes),
    StoreIn(&'static str, u64, Bytes),
    Delete(u64),
    Undo(Tid),
    Commit(&'static str),
    /// A tombstone, as a copy writes it.
    Nothing(u64),
}
pub use Change::{Commit, Delete, Nothing, Store, StoreIn, Undo};

impl Site {
    pub fn new(sandbox: &Sandbox, name: &str) -> Site {
        Site { storage: FileStorage::create(sandbox.path(name)).unwrap(), minute: 0 }
    }

    pub fn commit(&mut self, user: &str, description: &str, changes: Vec<Change>) -> Tid {
        let first: u64 = Tid::at("2026-11-24T09:00:00Z".parse().unwrap()).0;
        // The high half of a tid counts minutes.
        let tid = Tid(first + (self.minute << 32));
        self.minute += 1;
        let meta = TransactionMeta::new().user(user.to_owned()).description(description.to_owned()).tid(tid);
        self.commit_with(meta, changes)
    }

    pub fn commit_with(&self, meta: TransactionMeta, changes: Vec<Change>) -> Tid {
        let mut change = self.storage.begin(meta).unwrap();
        let serial = |oid| match self.storage.newest_record(Oid(oid)).unwrap() {
            Some(record) => record.header.tid,
            None => Tid::ZERO,
        };
        let version = |name: &str| Version::named(name.to_owned());
        for one in changes {
            match one {
                Store(oid, data) => change.store(Oid(oid), serial(oid), data).unwrap(),
                StoreIn(name, oid, data) => {
                    change.store_in(&version(name), Oid(oid), serial(oid), data).unwrap();
                }
                Delete(oid) => change.delete(Oid(oid), serial(oid)).unwrap(),
                Nothing(oid) => {
                    let (oid, version) = (Oid(oid), Version::TRUNK);
                    let nothing = Revision { oid, version, data: None, blob: None, source: None, base: None };
                    change.restore(nothing).unwrap();
                }
                Undo(tid) => change.undo(tid).unwrap(),
                Commit(name) => {
                    change.commit_version(&version(name), &Version::TRUNK).unwrap();
                }
            }
        }
        self.storage.vote(change).unwrap().finish().unwrap()
    }
}
