//! LMDB. The kernel is its cache, so it has no setting for one.

use std::path::{Path, PathBuf};

use heed::byteorder::BE;
use heed::types::{Bytes, U64};

use super::{Loaded, Op, Reader, Res, Store, counted, pair, said};

type K = U64<BE>;
type Env = heed::Env<heed::WithoutTls>;
pub struct Lmdb {
    env: Env,
    path: PathBuf,
    rev: heed::Database<'static, Bytes, K>,
    obj: heed::Database<'static, K, K>,
    dat: heed::Database<'static, K, Bytes>,
    rfs: heed::Database<'static, K, Bytes>,
    tra: heed::Database<'static, K, Bytes>,
}
impl Lmdb {
    pub fn open(path: &Path) -> Res<Lmdb> {
        std::fs::create_dir_all(path).map_err(said)?;
        let mut o = heed::EnvOpenOptions::new().read_txn_without_tls();
        o.map_size(8 << 30).max_dbs(8).max_readers(64);
        // SAFETY: the file is ours, and nothing else changes it while it is mapped. Where `damage` breaks that, a child
        // process does it, and may die. Without read-ahead, a random load reads its own pages only.
        let env = unsafe {
            o.flags(heed::EnvFlags::NO_READ_AHEAD);
            o.open(path).map_err(said)?
        };
        let t = env.write_txn().map_err(said)?;
        let (rev, obj, dat, rfs, tra) = env
            .create_databases_and_commit(t, |o, t| {
                heed::Result::Ok(heed::CommitOrAbort::<_, ()>::Commit((
                    o.create_database(t, Some("revisions"))?,
                    o.create_database(t, Some("objects"))?,
                    o.create_database(t, Some("data"))?,
                    o.create_database(t, Some("refs"))?,
                    o.create_database(t, Some("transactions"))?,
                )))
            })
            .map_err(said)?
            .unwrap_commit();
        let s = Lmdb { rev, obj, dat, rfs, tra, path: path.into(), env: env.clone() };
        Ok(s)
    }
}
impl Store for Lmdb {
    fn apply(&self, ops: &[Op]) -> Res<()> {
        let mut t = self.env.write_txn().map_err(said)?;
        for op in ops {
            match op {
                Op::Revision(o, tid, d) => self.rev.put(&mut t, &pair(*o, *tid), d),
                Op::Object(o, tid) => self.obj.put(&mut t, o, tid),
                Op::Data(d, b) => self.dat.put(&mut t, d, &counted(b)),
                Op::Refs(d, b) => self.rfs.put(&mut t, d, b),
                Op::Transaction(tid, b) => self.tra.put(&mut t, tid, b),
                Op::DropRevision(o, tid) => self.rev.delete(&mut t, &pair(*o, *tid)).map(|_| ()),
                Op::DropData(d) => {
                    self.dat.delete(&mut t, d).map_err(said)?;
                    self.rfs.delete(&mut t, d).map(|_| ())
                }
            }
            .map_err(said)?;
        }
        t.commit().map_err(said)
    }
    fn reader(&self) -> Res<Box<dyn Reader + '_>> {
        Ok(Box::new(LmdbReader(self)))
    }
    fn compact(&mut self) -> Res<()> {
        let to = self.path.join("compact.mdb");
        self.env.copy_to_path(&to, heed::CompactionOption::Enabled).map_err(said)?;
        std::fs::rename(to, self.path.join("data.mdb")).map_err(said)
    }
}
struct LmdbReader<'a>(&'a Lmdb);
impl Reader for LmdbReader<'_> {
    fn load(&mut self, oid: u64) -> Res<Loaded> {
        let l = self.0;
        let t = l.env.read_txn().map_err(said)?;
        let Some(tid) = l.obj.get(&t, &oid).map_err(said)? else { return Ok(None) };
        let id = l.rev.get(&t, &pair(oid, tid)).map_err(said)?.ok_or("revision is missing")?;
        let d = l.dat.get(&t, &id).map_err(said)?.ok_or("data is missing")?;
        Ok(Some((tid, d[8..].to_vec())))
    }
}
