//! The rows of persistent objects: beside ZODB's, and beside maps from oids to records in memory.
//!
//! The map is the bare limit. It shows bytes where we and ZODB make objects of them: each look copies the record.
//!
//! The times are those of the processor, in one thread: nothing here waits, and another program on the machine counts
//! less in them. Reads from the page cache are part of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use vellum_file::FileStorage;
use vellum_object::{Connection, Database, Generic, Options, Persistent, Ref};
use vellum_storage::{CopyOptions, MemoryStorage, Oid, Storage, TidRange, copy};

use super::message::Message;
use super::rows::Rows;
use super::table::Line;
use super::{Row, Trouble};
use crate::venv;

/// Ghosts that are made.
const GHOSTS: u64 = 1_000_000;
/// Messages that are loaded.
const MESSAGES: usize = 10_000;
/// Bytes of loaded objects during a walk: about the 5,000 objects that ZODB keeps.
const WALK_BYTES: u64 = 20 << 20;

impl Rows<'_> {
    /// A row of objects. Their memory has none.
    pub fn objects(&self, row: Row) -> Result<Line, Trouble> {
        match row {
            Row::ObjectGhosts => self.ghosts(),
            Row::ObjectWalk => self.walk(),
            row => self.activate(row == Row::ObjectActivateMemory),
        }
    }

    /// The peer's answer.
    fn of_python(&self, what: &str, more: &[&str]) -> Result<Json, Trouble> {
        let mut command = Command::new(self.python);
        let output = command.arg(venv::script("objects_bench.py")).arg(what).arg(self.path).args(more).output()?;
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn seconds_of_python(&self, what: &str, more: &[&str]) -> Result<Duration, Trouble> {
        Ok(Duration::from_secs_f64(self.of_python(what, more)?["seconds"].as_f64().ok_or("no seconds")?))
    }

    /// The best of several rounds, in which the three take turns.
    fn rounds(
        &self,
        mut ours: impl FnMut() -> Result<Duration, Trouble>,
        mut peer: impl FnMut() -> Result<Duration, Trouble>,
        mut limit: impl FnMut() -> Duration,
    ) -> Result<[Duration; 3], Trouble> {
        let mut best = [Duration::MAX; 3];
        for _ in 0..self.rounds {
            for (best, took) in best.iter_mut().zip([ours()?, peer()?, limit()]) {
                *best = took.min(*best);
            }
        }
        Ok(best)
    }

    fn ghosts(&self) -> Result<Line, Trouble> {
        let count = GHOSTS.to_string();
        let ours = || {
            let connection = Database::open(MemoryStorage::new("ghosts"))?.connect()?;
            let mut made: Vec<Ref<Generic>> = Vec::with_capacity(GHOSTS as usize);
            let started = processor();
            made.extend((0..GHOSTS).map(|n| connection.get(Oid((1 << 40) + n))));
            Ok(processor() - started)
        };
        let limit = || {
            let started = processor();
            black_box((0..GHOSTS).map(|n| ((1 << 40) + n, 0)).collect::<HashMap<u64, u32>>());
            processor() - started
        };
        let [ours, peer, limit] = self.rounds(ours, || self.seconds_of_python("ghosts", &[&count]), limit)?;
        let limit = Some((limit, "put the oids into a HashMap"));
        Ok(Line { what: format!("make {GHOSTS} ghosts"), ours, peer: Some(peer), limit, notes: Vec::new() })
    }

    /// The oids of messages, in an order of chance, and the file that lists them.
    fn messages(&self, storage: &FileStorage) -> Result<(Vec<Oid>, PathBuf), Trouble> {
        let path = self.folder.join("messages.txt");
        let mut all = Vec::new();
        for record in storage.current_records(Oid::ROOT) {
            let record = record?;
            if record.data.starts_with(b"\x80\x03cmail\nMessage\n") {
                all.push(record.oid);
            }
        }
        let mut dice = 1_u64;
        for at in (1..all.len()).rev() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            all.swap(at, (dice >> 33) as usize % (at + 1));
        }
        all.truncate(MESSAGES);
        std::fs::write(&path, all.iter().map(|oid| format!("{oid}\n")).collect::<String>())?;
        Ok((all, path))
    }

    fn activate(&self, in_memory: bool) -> Result<Line, Trouble> {
        let file = FileStorage::open_read_only(self.path)?;
        let (oids, list) = self.messages(&file)?;
        let (hashed, sorted) = maps(&file)?;
        let storage: Arc<dyn Storage> = if in_memory {
            let memory = MemoryStorage::new("mail");
            copy(&file, &memory, TidRange::ALL, CopyOptions::default(), &mut |_| {})?;
            Arc::new(memory)
        } else {
            Arc::new(file)
        };
        let ours = || {
            // A connection of its own, without objects.
            let options = Options { bytes_max: u64::MAX, pool_max: 0, ..Options::default() };
            let connection = Database::with(Arc::clone(&storage), options)?.connect()?;
            let handles: Vec<Ref<Message>> = oids.iter().map(|oid| connection.get(*oid)).collect();
            let started = processor();
            handles.iter().try_for_each(|message| message.view().map(drop))?;
            Ok(processor() - started)
        };
        let peer = || {
            let what = if in_memory { "in-memory" } else { "activate" };
            self.seconds_of_python(what, &["0", &list.display().to_string()])
        };
        let mut of_btree = Duration::MAX;
        let limit = || {
            let of_hash = timed(|| oids.iter().for_each(|oid| drop(black_box(hashed[&oid.0].clone()))));
            let of_tree = timed(|| oids.iter().for_each(|oid| drop(black_box(sorted[&oid.0].clone()))));
            of_btree = of_btree.min(of_tree);
            of_hash
        };
        let [ours, peer, limit] = self.rounds(ours, peer, limit)?;
        let place = if in_memory { "memory" } else { "the file" };
        let second = |took: Duration| oids.len() as f64 / took.as_secs_f64() / 1e3;
        let note = format!(
            "messages loaded from {place}: {:.0} thousand a second, {:.1} times as many as ZODB ({:.1} thousand; aim: 30 times); \
             copied out of a HashMap {:.0}, out of a BTreeMap {:.0}",
            second(ours),
            peer.as_secs_f64() / ours.as_secs_f64(),
            second(peer),
            second(limit),
            second(of_btree)
        );
        let what = format!("load {} messages from {place}", oids.len());
        Ok(Line { what, ours, peer: Some(peer), limit: Some((limit, "copy out of a HashMap")), notes: vec![note] })
    }

    fn walk(&self) -> Result<Line, Trouble> {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::open_read_only(self.path)?);
        let (hashed, sorted) = maps(&FileStorage::open_read_only(self.path)?)?;
        let (mut found, mut of_python) = (0, 0);
        let options = Options { bytes_max: WALK_BYTES, pool_max: 0, ..Options::default() };
        let ours = || {
            let connection = Database::with(Arc::clone(&storage), options)?.connect()?;
            let started = processor();
            found = walk_all(&connection)?;
            Ok(processor() - started)
        };
        let peer = || {
            let said = self.of_python("walk", &[])?;
            of_python = said["count"].as_u64().unwrap_or(0);
            Ok(Duration::from_secs_f64(said["seconds"].as_f64().ok_or("no seconds")?))
        };
        let mut of_btree = Duration::MAX;
        let limit = || {
            of_btree = of_btree.min(timed(|| sorted.values().for_each(|data| drop(black_box(data.clone())))));
            timed(|| hashed.values().for_each(|data| drop(black_box(data.clone()))))
        };
        let [ours, peer, limit] = self.rounds(ours, peer, limit)?;
        if found != of_python {
            return Err(format!("the walk found {found} objects, and ZODB's {of_python}").into());
        }
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        let note = format!(
            "a walk over {found} objects: the records copied out of a HashMap {:.1} ms, out of a BTreeMap {:.1} ms",
            ms(limit),
            ms(of_btree)
        );
        let limit = Some((limit, "copy all out of a HashMap"));
        Ok(Line { what: "load all objects from the root".to_owned(), ours, peer: Some(peer), limit, notes: vec![note] })
    }

    /// The bytes of a ghost and of a loaded message, ours and ZODB's, as sentences.
    pub fn memory_of_objects(&self) -> Result<String, Trouble> {
        let (_, list) = self.messages(&FileStorage::open_read_only(self.path)?)?;
        let ghosts = GHOSTS.to_string();
        let mut command = Command::new(venv::program("object-memory")?);
        let output = command.arg(self.path).arg(&ghosts).arg(&list).output()?;
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let ours: Json = serde_json::from_slice(&output.stdout)?;
        let peer = self.of_python("memory", &[&ghosts, &list.display().to_string()])?;
        let number = |from: &Json, name: &str| from[name].as_f64().unwrap_or_default();
        let record = number(&ours, "record");
        Ok(format!(
            "bytes of a ghost, of {GHOSTS}: {:.2} (aim: at most 16); ZODB {:.1}\n\
             bytes of a loaded message beside its ghost, with a record of {record:.0}: {:.0}, {:.2} of its record (aim: at \
             most 1.5); ZODB {:.0}, {:.2} of it; an entry of a HashMap {:.0}",
            number(&ours, "ghost"),
            number(&peer, "ghost"),
            number(&ours, "message"),
            number(&ours, "message") / record,
            number(&peer, "message"),
            number(&peer, "message") / number(&peer, "record"),
            number(&ours, "map"),
        ))
    }
}

/// The current records by oid: the bare limit.
type Maps = (HashMap<u64, Vec<u8>>, BTreeMap<u64, Vec<u8>>);

fn maps(storage: &FileStorage) -> Result<Maps, Trouble> {
    let mut hashed = HashMap::new();
    for record in storage.current_records(Oid::ROOT) {
        let record = record?;
        hashed.insert(record.oid.0, record.data.to_vec());
    }
    let sorted = hashed.iter().map(|(oid, data)| (*oid, data.clone())).collect();
    Ok((hashed, sorted))
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = processor();
    work();
    processor() - started
}

/// The time that this thread has had of the processor.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Loads every object that can be reached from the root, and counts them.
fn walk_all(connection: &Connection) -> Result<u64, Trouble> {
    let root = connection.root::<Generic>();
    let mut seen = HashSet::from([Oid::ROOT]);
    let (mut next, mut count) = (vec![root], 0);
    while let Some(here) = next.pop() {
        count += 1;
        here.view()?.trace(&mut |raw| {
            let to = raw.object();
            if to.oid().is_some_and(|oid| seen.insert(oid)) {
                next.push(to);
            }
        });
    }
    Ok(count)
}
