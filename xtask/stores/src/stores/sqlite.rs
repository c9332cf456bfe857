//! SQLite, with a write-ahead log that each commit syncs.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Loaded, Op, Reader, Res, Store, said};

pub struct Sqlite {
    path: PathBuf,
    cache: usize,
    writer: Mutex<Connection>,
}
fn sqlite(path: &Path, cache: usize) -> Res<Connection> {
    let c = Connection::open(path).map_err(said)?;
    c.execute_batch(&format!(
        "pragma journal_mode=wal; pragma synchronous=full; pragma cache_size=-{}; pragma busy_timeout=10000;",
        cache / 1024
    ))
    .map_err(said)?;
    c.set_prepared_statement_cache_capacity(32);
    Ok(c)
}
impl Sqlite {
    pub fn open(path: &Path, cache: usize) -> Res<Sqlite> {
        let c = sqlite(path, cache)?;
        c.execute_batch(
            "create table if not exists revisions(oid integer, tid integer, data integer, primary key(oid, tid)) without rowid;
             create table if not exists objects(oid integer primary key, tid integer);
             create table if not exists data(id integer primary key, count integer, bytes blob);
             create table if not exists refs(id integer primary key, oids blob);
             create table if not exists transactions(tid integer primary key, meta blob);",
        )
        .map_err(said)?;
        Ok(Sqlite { path: path.into(), cache, writer: c.into() })
    }
}
impl Store for Sqlite {
    fn apply(&self, ops: &[Op]) -> Res<()> {
        let mut c = self.writer.lock().map_err(said)?;
        let t = c.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(said)?;
        for op in ops {
            match op {
                Op::Revision(o, tid, d) => t
                    .prepare_cached("insert into revisions values(?,?,?)")
                    .map_err(said)?
                    .execute(params![*o as i64, *tid as i64, *d as i64]),
                Op::Object(o, tid) => t
                    .prepare_cached("insert or replace into objects values(?,?)")
                    .map_err(said)?
                    .execute(params![*o as i64, *tid as i64]),
                Op::Data(d, b) => {
                    t.prepare_cached("insert into data values(?,1,?)").map_err(said)?.execute(params![*d as i64, b])
                }
                Op::Refs(d, b) => {
                    t.prepare_cached("insert into refs values(?,?)").map_err(said)?.execute(params![*d as i64, b])
                }
                Op::Transaction(tid, b) => t
                    .prepare_cached("insert into transactions values(?,?)")
                    .map_err(said)?
                    .execute(params![*tid as i64, b]),
                Op::DropRevision(o, tid) => t
                    .prepare_cached("delete from revisions where oid=? and tid=?")
                    .map_err(said)?
                    .execute(params![*o as i64, *tid as i64]),
                Op::DropData(d) => {
                    t.prepare_cached("delete from data where id=?")
                        .map_err(said)?
                        .execute(params![*d as i64])
                        .map_err(said)?;
                    t.prepare_cached("delete from refs where id=?").map_err(said)?.execute(params![*d as i64])
                }
            }
            .map_err(said)?;
        }
        t.commit().map_err(said)
    }
    fn reader(&self) -> Res<Box<dyn Reader + '_>> {
        Ok(Box::new(SqliteReader(sqlite(&self.path, self.cache)?)))
    }
    fn compact(&mut self) -> Res<()> {
        self.writer.lock().map_err(said)?.execute_batch("vacuum; pragma wal_checkpoint(truncate);").map_err(said)
    }
}
struct SqliteReader(Connection);
impl Reader for SqliteReader {
    fn load(&mut self, oid: u64) -> Res<Loaded> {
        self.0
            .prepare_cached("select o.tid, d.bytes from objects o join revisions r on r.oid=o.oid and r.tid=o.tid join data d on d.id=r.data where o.oid=?")
            .map_err(said)?
            .query_row(params![oid as i64], |r| Ok((r.get::<_, i64>(0)? as u64, r.get(1)?)))
            .optional()
            .map_err(said)
    }
}
