//! The same five tables in each store, behind one trait.
//!
//! ```text
//!   revisions     (oid, tid) -> number of the data      objects  oid -> tid of the newest revision
//!   data          number -> count and bytes             refs     number -> oids
//!   transactions  tid -> user and description
//! ```

mod fjall;
mod lmdb;
mod redb;
mod sqlite;

use std::fmt::Debug;
use std::path::Path;

/// A change of one row.
pub enum Op {
    /// Oid, tid, number of the data.
    Revision(u64, u64, u64),
    /// Oid, tid.
    Object(u64, u64),
    /// Number, bytes. The count is 1.
    Data(u64, Vec<u8>),
    /// Number, oids of 8 bytes each.
    Refs(u64, Vec<u8>),
    /// Tid, user and description.
    Transaction(u64, Vec<u8>),
    DropRevision(u64, u64),
    /// With the references of the data.
    DropData(u64),
}

pub type Res<T> = Result<T, String>;

/// A newest revision: its tid and its bytes.
pub type Loaded = Option<(u64, Vec<u8>)>;

pub trait Store: Send + Sync {
    /// Makes all changes in one durable commit.
    fn apply(&self, ops: &[Op]) -> Res<()>;

    /// A reader for one thread.
    fn reader(&self) -> Res<Box<dyn Reader + '_>>;

    /// Gives back the room that the store can give back.
    fn compact(&mut self) -> Res<()>;

    /// Waits for work in the background.
    fn settle(&self) {}
}

pub trait Reader {
    /// Loads the newest revision of an object, in a read transaction of its own.
    fn load(&mut self, oid: u64) -> Res<Loaded>;
}

/// The stores, and ways to set them up.
pub const NAMES: &[&str] = &["redb", "redb-shared", "fjall", "fjall-small", "lmdb", "sqlite"];

/// Opens a store, or makes it.
pub fn open(name: &str, path: &Path, cache_bytes: usize) -> Res<Box<dyn Store>> {
    Ok(match name {
        "redb" => Box::new(redb::Redb::open(path, cache_bytes, redb::Mode::Alone)?),
        "redb-shared" => Box::new(redb::Redb::open(path, cache_bytes, redb::Mode::Shared)?),
        "fjall" => Box::new(fjall::Fjall::open(path, cache_bytes, false)?),
        "fjall-small" => Box::new(fjall::Fjall::open(path, cache_bytes, true)?),
        "lmdb" => Box::new(lmdb::Lmdb::open(path)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(path, cache_bytes)?),
        other => return Err(format!("there is no store {other}; there are {}", NAMES.join(", "))),
    })
}

/// Opens redb's file for reading only, while another process writes. None: the store has no such way.
pub fn open_beside(name: &str, path: &Path) -> Option<Res<()>> {
    match name {
        "redb" => Some(redb::open_beside(path, redb::Mode::Alone)),
        "redb-shared" => Some(redb::open_beside(path, redb::Mode::Shared)),
        _ => None,
    }
}

fn said(error: impl Debug) -> String {
    format!("{error:?}")
}

/// The value of the table `data`.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [&1u64.to_le_bytes()[..], bytes].concat()
}

/// The key of the table `revisions`, in the order of its numbers.
fn pair(oid: u64, tid: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&oid.to_be_bytes());
    key[8..].copy_from_slice(&tid.to_be_bytes());
    key
}
