//! redb, alone with its file or shared with readers.

use std::path::Path;

use redb::{Builder, ConcurrencyMode, Database, ReadableDatabase, TableDefinition};

use super::{Loaded, Op, Reader, Res, Store, said};

const REV: TableDefinition<(u64, u64), u64> = TableDefinition::new("revisions");
const OBJ: TableDefinition<u64, u64> = TableDefinition::new("objects");
const DAT: TableDefinition<u64, &[u8]> = TableDefinition::new("data");
const REF: TableDefinition<u64, &[u8]> = TableDefinition::new("refs");
const TRA: TableDefinition<u64, &[u8]> = TableDefinition::new("transactions");

/// Whether other processes may read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// redb's default: one sync for each commit, and a repair that reads the whole file after a kill.
    Alone,
    /// Readers beside the writer, and a short repair. Each commit has two syncs.
    Shared,
}

pub struct Redb {
    db: Database,
    mode: Mode,
}

impl Redb {
    pub fn open(path: &Path, cache_bytes: usize, mode: Mode) -> Res<Redb> {
        let db = builder(mode).set_cache_size(cache_bytes).create(path).map_err(said)?;
        let store = Redb { db, mode };
        // Makes the tables.
        store.apply(&[])?;
        Ok(store)
    }
}

fn builder(mode: Mode) -> Builder {
    let mut builder = Builder::new();
    if mode == Mode::Shared {
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    }
    builder
}

pub fn open_beside(path: &Path, mode: Mode) -> Res<()> {
    builder(mode).open_read_only(path).map(drop).map_err(said)
}

impl Store for Redb {
    fn apply(&self, ops: &[Op]) -> Res<()> {
        let mut t = self.db.begin_write().map_err(said)?;
        if self.mode == Mode::Shared {
            t.set_quick_repair(true);
        }
        {
            let mut rev = t.open_table(REV).map_err(said)?;
            let mut obj = t.open_table(OBJ).map_err(said)?;
            let mut dat = t.open_table(DAT).map_err(said)?;
            let mut rfs = t.open_table(REF).map_err(said)?;
            let mut tra = t.open_table(TRA).map_err(said)?;
            for op in ops {
                match op {
                    Op::Revision(o, t, d) => drop(rev.insert((*o, *t), *d).map_err(said)?),
                    Op::Object(o, t) => drop(obj.insert(*o, *t).map_err(said)?),
                    Op::Data(d, b) => {
                        let mut v = dat.insert_reserve(*d, 8 + b.len()).map_err(said)?;
                        let v = v.as_mut();
                        v[..8].copy_from_slice(&1u64.to_le_bytes());
                        v[8..].copy_from_slice(b);
                    }
                    Op::Refs(d, b) => drop(rfs.insert(*d, b.as_slice()).map_err(said)?),
                    Op::Transaction(t, b) => drop(tra.insert(*t, b.as_slice()).map_err(said)?),
                    Op::DropRevision(o, t) => drop(rev.remove((*o, *t)).map_err(said)?),
                    Op::DropData(d) => {
                        drop(dat.remove(*d).map_err(said)?);
                        drop(rfs.remove(*d).map_err(said)?);
                    }
                }
            }
        }
        t.commit().map_err(said)
    }
    fn reader(&self) -> Res<Box<dyn Reader + '_>> {
        Ok(Box::new(RedbReader(&self.db)))
    }
    fn compact(&mut self) -> Res<()> {
        self.db.compact().map_err(said)?;
        Ok(())
    }
}
struct RedbReader<'a>(&'a Database);
impl Reader for RedbReader<'_> {
    fn load(&mut self, oid: u64) -> Res<Loaded> {
        let t = self.0.begin_read().map_err(said)?;
        let obj = t.open_table(OBJ).map_err(said)?;
        let Some(tid) = obj.get(oid).map_err(said)? else { return Ok(None) };
        let tid = tid.value();
        let rev = t.open_table(REV).map_err(said)?;
        let id = rev.get((oid, tid)).map_err(said)?.ok_or("revision is missing")?.value();
        let dat = t.open_table(DAT).map_err(said)?;
        let d = dat.get(id).map_err(said)?.ok_or("data is missing")?;
        Ok(Some((tid, d.value()[8..].to_vec())))
    }
}
