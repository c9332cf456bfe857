//! fjall, with its own settings or with small buffers. Its compression is off: the others have none.

use std::path::Path;
use std::time::Duration;

use fjall::config::CompressionPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::{Loaded, Op, Reader, Res, Store, counted, pair, said};

pub struct Fjall {
    db: Database,
    rev: Keyspace,
    obj: Keyspace,
    dat: Keyspace,
    rfs: Keyspace,
    tra: Keyspace,
}
impl Fjall {
    pub fn open(path: &Path, cache_bytes: usize, is_small: bool) -> Res<Fjall> {
        let mut b = Database::builder(path).cache_size(cache_bytes as u64);
        if is_small {
            b = b.max_journaling_size(64 << 20);
        }
        let db = b.open().map_err(said)?;
        let options = || {
            let o = KeyspaceCreateOptions::default();
            let o = if is_small { o.max_memtable_size(4 << 20) } else { o };
            o.data_block_compression_policy(CompressionPolicy::disabled())
        };
        Ok(Fjall {
            rev: db.keyspace("revisions", options).map_err(said)?,
            obj: db.keyspace("objects", options).map_err(said)?,
            dat: db.keyspace("data", options).map_err(said)?,
            rfs: db.keyspace("refs", options).map_err(said)?,
            tra: db.keyspace("transactions", options).map_err(said)?,
            db,
        })
    }
}
impl Store for Fjall {
    fn apply(&self, ops: &[Op]) -> Res<()> {
        let mut b = self.db.batch().durability(Some(PersistMode::SyncData));
        for op in ops {
            match op {
                Op::Revision(o, t, d) => b.insert(&self.rev, pair(*o, *t), d.to_be_bytes()),
                Op::Object(o, t) => b.insert(&self.obj, o.to_be_bytes(), t.to_be_bytes()),
                Op::Data(d, v) => b.insert(&self.dat, d.to_be_bytes(), counted(v)),
                Op::Refs(d, v) => b.insert(&self.rfs, d.to_be_bytes(), v.as_slice()),
                Op::Transaction(t, v) => b.insert(&self.tra, t.to_be_bytes(), v.as_slice()),
                Op::DropRevision(o, t) => b.remove(&self.rev, pair(*o, *t)),
                Op::DropData(d) => {
                    b.remove(&self.dat, d.to_be_bytes());
                    b.remove(&self.rfs, d.to_be_bytes());
                }
            }
        }
        b.commit().map_err(said)
    }
    fn reader(&self) -> Res<Box<dyn Reader + '_>> {
        Ok(Box::new(FjallReader(self)))
    }
    fn compact(&mut self) -> Res<()> {
        for k in [&self.rev, &self.obj, &self.dat, &self.rfs, &self.tra] {
            k.rotate_memtable_and_wait().map_err(said)?;
            k.major_compact().map_err(said)?;
        }
        self.settle();
        Ok(())
    }
    fn settle(&self) {
        let mut quiet = 0;
        while quiet < 10 {
            std::thread::sleep(Duration::from_millis(100));
            let is_quiet = self.db.outstanding_flushes() == 0 && self.db.active_compactions() == 0;
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }
}
struct FjallReader<'a>(&'a Fjall);
impl Reader for FjallReader<'_> {
    fn load(&mut self, oid: u64) -> Res<Loaded> {
        let f = self.0;
        let s = f.db.snapshot();
        let Some(tid) = s.get(&f.obj, oid.to_be_bytes()).map_err(said)? else { return Ok(None) };
        let tid = u64::from_be_bytes(tid[..].try_into().map_err(said)?);
        let id = s.get(&f.rev, pair(oid, tid)).map_err(said)?.ok_or("revision is missing")?;
        let d = s.get(&f.dat, &id).map_err(said)?.ok_or("data is missing")?;
        Ok(Some((tid, d[8..].to_vec())))
    }
}
