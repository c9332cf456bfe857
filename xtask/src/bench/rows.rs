//! The rows of the table: what the engine does, what ZODB does, and what the bare machine does.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use vellum_file::{Durability, FileStorage, Options};
use vellum_pickle::{JsonOptions, Record, RenderOptions};
use vellum_storage::{
    Bulk, CopyOptions, Oid, Order, Revision, Status, Storage, Tid, TidRange, TransactionMeta, TransactionRecord,
    Version, copy,
};

use super::Row;
use super::table::{self, Line};
use crate::{Outcome, venv};

const LOADS: usize = 100_000;
const COMMITS: usize = 2_000;
const STATES: usize = 50_000;

/// All of a state.
const ALL: RenderOptions = RenderOptions { bytes_max: usize::MAX >> 1, depth_max: usize::MAX >> 1, width: 96 };

/// The ground of all rows.
pub struct Rows<'a> {
    pub python: &'a Path,
    pub path: &'a Path,
    pub folder: &'a Path,
    pub rounds: usize,
    /// Print four decimals.
    pub exact: bool,
}

/// Something to be timed from outside.
type Task<'a> = &'a mut dyn FnMut() -> Outcome;

/// Objects to be loaded, in random order, and where their records are.
struct Loads {
    oids: Vec<Oid>,
    positions: Vec<(u64, usize)>,
}

impl Rows<'_> {
    /// Measures these rows, and prints the table.
    pub fn measure(&self, wanted: &[Row]) -> Outcome {
        let storage = FileStorage::open_read_only(self.path)?;
        let (size, objects) = (storage.size(), storage.object_count());
        let oids = self.oids(&storage)?;
        let positions = self.positions(&storage, &oids)?;
        let loads = Loads { oids, positions };
        println!(
            "{}: {:.1} MB, {objects} objects\n",
            self.path.file_name().unwrap_or_default().display(),
            size as f64 / 1e6
        );
        let mut lines = Vec::new();
        for row in wanted {
            let line = self.row(*row, &storage, &loads).map_err(|error| format!("row {}: {error}", row.name()))?;
            lines.extend(line.map(|line| (*row, line)));
        }
        let time = |wanted: Row| lines.iter().find(|(row, _)| *row == wanted).map(|(_, line)| line.ours.as_secs_f64());
        let two_threads = time(Row::Load).zip(time(Row::Load2));
        let lines: Vec<Line> = lines.into_iter().map(|(_, line)| line).collect();
        table::print(&lines, self.exact);
        let memory = storage.index_memory();
        println!("\nindex: {memory} bytes, {:.2} bytes an object", memory as f64 / objects as f64);
        if let Some((one, two)) = two_threads {
            println!("loads on 2 threads: {:.2} times as fast as on one", one / two);
        }
        lines.iter().flat_map(|line| &line.notes).for_each(|note| println!("{note}"));
        if wanted.contains(&Row::PackMemory) {
            println!("{}", self.memory_of_pack()?);
        }
        if wanted.contains(&Row::ObjectMemory) {
            println!("{}", self.memory_of_objects()?);
        }
        Ok(())
    }

    /// One row of the table. The memory of a pack and that of objects have none.
    fn row(&self, row: Row, storage: &FileStorage, loads: &Loads) -> Result<Option<Line>, Box<dyn std::error::Error>> {
        let line = match row {
            Row::Open => self.open()?,
            Row::OpenIndex => self.open_with_index()?,
            Row::Load => self.load(storage, loads, 1)?,
            Row::Load2 => self.load(storage, loads, 2)?,
            Row::Iterate => self.iterate(storage)?,
            Row::StatesJson => self.states(storage, "JSON", |record| record.to_json(&JsonOptions::default()))?,
            Row::StatesText => self.states(storage, "text", |record| record.render(&ALL))?,
            Row::CommitRelaxed => self.commit(Durability::Relaxed, 1)?,
            Row::Commit => self.commit(Durability::Full, 1)?,
            Row::Commit8 => self.commit(Durability::Full, 8)?,
            Row::CommitJournal => self.commit_with_journal(1)?,
            Row::CommitJournal8 => self.commit_with_journal(8)?,
            Row::CommitJournalLongest => self.longest_with_journal()?,
            Row::Copy => self.copy(storage)?,
            Row::Pack => self.pack()?,
            Row::PackRemoving => self.pack_removing()?,
            Row::PackWait => self.wait_for_pack()?,
            Row::PackMemory => return Ok(None),
            Row::UndoLog => self.undo_log()?,
            Row::Versions => self.first_question_about_versions()?,
            Row::Version100 => self.commit_version(100)?,
            Row::Version1000 => self.commit_version(1000)?,
            Row::CacheHit | Row::CacheHit2 | Row::CacheHitFile | Row::CacheOpen => self.cache(row)?,
            Row::ObjectMemory => return Ok(None),
            Row::ObjectGhosts | Row::ObjectActivate | Row::ObjectActivateMemory | Row::ObjectWalk => {
                self.objects(row)?
            }
            Row::ObjectMail | Row::ObjectMailFull => self.object_mail(row)?,
            Row::ObjectTreeInsert | Row::ObjectTreeLookup | Row::ObjectTreeRange => self.object_tree(row)?,
            Row::ServeLoad
            | Row::ServeLoads8
            | Row::ServeCommit8
            | Row::ServeCommit8Full
            | Row::ServeCommit8Journal
            | Row::ServePrefetch50
            | Row::ServePrefetch1000
            | Row::ServeLarge
            | Row::ServePack
            | Row::ServeBlobStore
            | Row::ServeBlobStore8
            | Row::ServeBlobLoad
            | Row::ServeBlobLoad8
            | Row::ServeBlobStoreLarge
            | Row::ServeBlobStoreLarge8
            | Row::ServeBlobLoadLarge
            | Row::ServeBlobLoadLarge8
            | Row::ServeBlobMemory
            | Row::ClientLoad
            | Row::ClientStore
            | Row::ClientFetch
            | Row::ClientTree
            | Row::ClientTreeFar
            | Row::ClientLarge
            | Row::ClientWarm => self.of_server(row, storage, &loads.oids)?,
        };
        Ok(Some(line))
    }

    /// Oids of objects that are there, in an order that chance made; in a file too, for the peer.
    fn oids(&self, storage: &FileStorage) -> Result<Vec<Oid>, Box<dyn std::error::Error>> {
        let all: Vec<Oid> = storage.current_records(Oid::ROOT).map(|r| r.map(|r| r.oid)).collect::<Result<_, _>>()?;
        let mut dice = 1_u64;
        let oids: Vec<Oid> = (0..LOADS)
            .map(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                all[(dice >> 33) as usize % all.len()]
            })
            .collect();
        let text: String = oids.iter().map(|oid| format!("{oid}\n")).collect();
        std::fs::write(self.folder.join("oids.txt"), text)?;
        Ok(oids)
    }

    /// Where in the file the records of these objects are, with their headers.
    fn positions(&self, storage: &FileStorage, oids: &[Oid]) -> Result<Vec<(u64, usize)>, Box<dyn std::error::Error>> {
        let mut at = std::collections::HashMap::new();
        let file = vellum_disk::Disk::open(&vellum_disk::RealDisk, self.path, vellum_disk::Open::Read)?;
        let mut scanner = vellum_file::Scanner::new(&*file, storage.size());
        let mut position = vellum_file::format::START;
        while position < storage.size() {
            let header = scanner.transaction(position, |_, record| {
                at.insert(record.header.oid, (record.position, record.header.length().unwrap_or(0) as usize));
                Ok(())
            });
            position += header.map_err(|fault| fault.to_string())?.length + 8;
        }
        Ok(oids.iter().map(|oid| at[oid]).collect())
    }

    /// The script's result of one measurement of the peer.
    pub(super) fn peer(&self, what: &str, more: &[&str]) -> Result<Duration, Box<dyn std::error::Error>> {
        let mut command = Command::new(self.python);
        command.arg(venv::script("bench.py")).arg(self.path).args(["--what", what, "--k", "1", "--json"]).args(more);
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let line: Value = serde_json::from_slice(&output.stdout)?;
        Ok(Duration::from_secs_f64(line["seconds"].as_f64().ok_or("no seconds")?))
    }

    pub(super) fn best(
        &self,
        what: &str,
        peer: Option<(&str, &[&str])>,
        limit: Option<(&'static str, Task<'_>)>,
        ours: &mut dyn FnMut() -> Result<Duration, Box<dyn std::error::Error>>,
    ) -> Result<Line, Box<dyn std::error::Error>> {
        let mut line = Line { what: what.to_owned(), ours: Duration::MAX, peer: None, limit: None, notes: Vec::new() };
        let mut limit = limit;
        for _ in 0..self.rounds {
            line.ours = line.ours.min(ours()?);
            if let Some((doing, limit)) = &mut limit {
                let started = Instant::now();
                limit()?;
                let took = started.elapsed().min(line.limit.map_or(Duration::MAX, |(took, _)| took));
                line.limit = Some((took, doing));
            }
            if let Some((what, more)) = peer {
                line.peer = Some(self.peer(what, more)?.min(line.peer.unwrap_or(Duration::MAX)));
            }
        }
        eprintln!("{what}: done");
        Ok(line)
    }

    fn open(&self) -> Result<Line, Box<dyn std::error::Error>> {
        let path = self.path;
        self.best(
            "open without an index",
            Some(("open", &[])),
            Some(("read the file through", &mut || read_through(path))),
            &mut || {
                timed(|| {
                    black_box(FileStorage::open_read_only(path)?.object_count());
                    Ok(())
                })
            },
        )
    }

    fn open_with_index(&self) -> Result<Line, Box<dyn std::error::Error>> {
        // A link of another name, so that the index beside it is not the file's own.
        let link = self.folder.join("indexed.fs");
        let _ = std::fs::remove_file(&link);
        std::fs::hard_link(self.path, &link)?;
        drop(FileStorage::open(&link)?);
        let line = self.best("open with an index", Some(("open-index", &[])), None, &mut || {
            timed(|| {
                black_box(FileStorage::open_read_only(&link)?.object_count());
                Ok(())
            })
        });
        for suffix in ["", ".index", ".lock"] {
            let _ = std::fs::remove_file(self.folder.join(format!("indexed.fs{suffix}")));
        }
        line
    }

    fn load(
        &self,
        storage: &FileStorage,
        Loads { oids, positions }: &Loads,
        threads: usize,
    ) -> Result<Line, Box<dyn std::error::Error>> {
        let list = self.folder.join("oids.txt").display().to_string();
        let file = File::open(self.path)?;
        let what = if threads == 1 { "load" } else { "load2" };
        self.best(
            &format!("{LOADS} random loads, {threads} thread{}", if threads == 1 { "" } else { "s" }),
            Some((what, &["--oids", &list])),
            Some(("pread the same places", &mut || {
                share(positions, threads, |part| {
                    let mut buffer = vec![0; 1 << 20];
                    for &(at, length) in part {
                        file.read_exact_at(&mut buffer[..length], at)?;
                        black_box(&buffer);
                    }
                    Ok(())
                })
            })),
            &mut || {
                timed(|| {
                    share(oids, threads, |part| {
                        for &oid in part {
                            black_box(storage.load(oid, &Version::TRUNK)?);
                        }
                        Ok(())
                    })
                })
            },
        )
    }

    fn iterate(&self, storage: &FileStorage) -> Result<Line, Box<dyn std::error::Error>> {
        let path = self.path;
        self.best(
            "iterate over everything",
            Some(("iterate", &[])),
            Some(("read the file through", &mut || read_through(path))),
            &mut || {
                timed(|| {
                    for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
                        for revision in &transaction?.revisions {
                            black_box(&revision.data);
                        }
                    }
                    Ok(())
                })
            },
        )
    }

    /// Writes the states of the first records, which are in memory. The peer is zodb-json-codec: ZODB has no such
    /// thing.
    fn states(
        &self,
        storage: &FileStorage,
        what: &str,
        write: fn(&Record<'_>) -> String,
    ) -> Result<Line, Box<dyn std::error::Error>> {
        let mut records = Vec::new();
        for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
            records.extend(transaction?.revisions.into_iter().filter_map(|revision| revision.data));
            if records.len() >= STATES {
                break;
            }
        }
        records.truncate(STATES);
        let (count, bytes) = (STATES.to_string(), records.iter().map(Bytes::len).sum::<usize>());
        let mut line = self.best(
            &format!("{} states as {what}", records.len()),
            Some(("states", &["--count", &count])),
            None,
            &mut || {
                timed(|| {
                    for record in &records {
                        black_box(write(&Record::read(record)?));
                    }
                    Ok(())
                })
            },
        )?;
        let (ours, peer) = (line.ours.as_secs_f64(), line.peer.unwrap_or_default().as_secs_f64());
        line.notes.push(format!(
            "states as {what}, {:.1} MB of records: {:.1} us a record; zodb-json-codec, to JSON: {:.1} us, {:.2} times as long \
             (aim: at least 1)",
            bytes as f64 / 1e6,
            ours / records.len() as f64 * 1e6,
            peer / records.len() as f64 * 1e6,
            peer / ours
        ));
        Ok(line)
    }

    fn copy(&self, storage: &FileStorage) -> Result<Line, Box<dyn std::error::Error>> {
        let folder = self.folder.display().to_string();
        let (path, raw) = (self.folder.join("copy.fs"), self.folder.join("raw"));
        let line = self.best(
            "copy all transactions",
            Some(("copy", &["--dir", &folder])),
            Some(("cp, and sync", &mut || {
                std::fs::copy(self.path, &raw)?;
                File::open(&raw)?.sync_all()?;
                std::fs::remove_file(&raw)?;
                Ok(())
            })),
            &mut || {
                remove(&path);
                let to = FileStorage::create(&path)?;
                timed(|| {
                    copy(storage, &to, TidRange::ALL, CopyOptions::default(), &mut |_| ())?;
                    Ok(())
                })
            },
        );
        remove(&path);
        line
    }

    fn undo_log(&self) -> Result<Line, Box<dyn std::error::Error>> {
        const ASKED: usize = 100;
        let (path, small) = (self.folder.join("many.fs"), self.folder.join("few.fs"));
        let (many, few) = (many(&path, 100_000)?, many(&small, 1000)?);
        let ask = |storage: &FileStorage| -> Outcome {
            for _ in 0..ASKED {
                let log = storage.undo_log().ok_or("no undo")?;
                assert_eq!(black_box(log.undo_log(0, 20)?).len(), 20);
            }
            Ok(())
        };
        let count = ASKED.to_string();
        let there = Rows { path: &path, ..*self };
        let line = there.best(
            "newest 20 of 100,000 to undo, 100 times",
            Some(("undo-log", &["--count", &count])),
            Some(("the same of 1,000", &mut || ask(&few))),
            &mut || timed(|| ask(&many)),
        );
        drop((many, few));
        [path, small].iter().for_each(|path| remove(path));
        line
    }

    fn first_question_about_versions(&self) -> Result<Line, Box<dyn std::error::Error>> {
        let path = self.path;
        self.best(
            "first question about versions",
            None,
            Some(("read the file through", &mut || read_through(path))),
            &mut || {
                let storage = FileStorage::open_read_only(path)?;
                timed(|| {
                    black_box(storage.versions().ok_or("no versions")?.versions()?);
                    Ok(())
                })
            },
        )
    }

    /// Into a version and out of it again, in a large database and in a small one.
    fn commit_version(&self, objects: u64) -> Result<Line, Box<dyn std::error::Error>> {
        let (path, small) = (self.folder.join("many.fs"), self.folder.join("few.fs"));
        let (many, few) = (many(&path, 100_000)?, many(&small, 1000)?);
        let draft = Version::named("draft");
        let end = |storage: &FileStorage| -> Result<Duration, Box<dyn std::error::Error>> {
            let mut change = storage.begin(TransactionMeta::new())?;
            for oid in (0..objects).map(Oid) {
                let serial = storage.newest_record(oid)?.map_or(Tid::ZERO, |record| record.header.tid);
                change.store_in(&draft, oid, serial, vec![b'y'; 200].into())?;
            }
            storage.vote(change)?.finish()?;
            timed(|| {
                let mut change = storage.begin(TransactionMeta::new())?;
                change.commit_version(&draft, &Version::TRUNK)?;
                storage.vote(change)?.finish()?;
                Ok(())
            })
        };
        let mut line = self.best(&format!("commit a version of {objects} objects"), None, None, &mut || end(&many))?;
        for _ in 0..self.rounds {
            let took = end(&few)?.min(line.limit.map_or(Duration::MAX, |(took, _)| took));
            line.limit = Some((took, "the same among 1,000 transactions, not 100,000"));
        }
        drop((many, few));
        [path, small].iter().for_each(|path| remove(path));
        Ok(line)
    }

    fn commit(&self, durability: Durability, threads: usize) -> Result<Line, Box<dyn std::error::Error>> {
        let folder = self.folder.display().to_string();
        let count = COMMITS.to_string();
        let path = self.folder.join("commits.fs");
        let syncs = if durability == Durability::Full { 2 } else { 1 };
        let raw = self.folder.join("raw");
        let line = self.best(
            &format!(
                "{COMMITS} small commits, {durability:?}, {threads} thread{}",
                if threads == 1 { "" } else { "s" }
            ),
            Some(("commit", &["--dir", &folder, "--count", &count])),
            Some(("append and sync, as often as one thread has to", &mut || {
                let file = File::create(&raw)?;
                for n in 0..COMMITS as u64 {
                    file.write_all_at(&[0; 300], n * 300)?;
                    for _ in 0..syncs {
                        file.sync_data()?;
                        file.write_all_at(&[1], n * 300)?;
                    }
                }
                Ok(())
            })),
            &mut || {
                remove(&path);
                let storage = Options::new().durability(durability).create(&path)?;
                let numbers: Vec<u64> = (0..COMMITS as u64).collect();
                timed(|| {
                    share(&numbers, threads, |part| {
                        for &n in part {
                            let mut change = storage.begin(TransactionMeta::new())?;
                            change.store(Oid(n), Tid::ZERO, vec![b'x'; 200].into())?;
                            storage.vote(change)?.finish()?;
                        }
                        Ok(())
                    })
                })
            },
        );
        remove(&path);
        let _ = std::fs::remove_file(&raw);
        line
    }
}

/// A database of so many small transactions.
fn many(path: &Path, transactions: u64) -> Result<FileStorage, Box<dyn std::error::Error>> {
    remove(path);
    let storage = FileStorage::create(path)?;
    let first = Tid::at("2020-01-01T00:00:00Z".parse()?);
    let one = |n: u64| TransactionRecord {
        tid: Tid(first.0 + (n << 32)),
        status: Status::Complete,
        user: "ann".into(),
        description: "a small change".into(),
        extension: Bytes::new(),
        revisions: vec![Revision {
            oid: Oid(n % 5000),
            version: Version::TRUNK,
            data: Some(vec![b'x'; 200].into()),
            blob: None,
            source: None,
            base: None,
        }],
    };
    for start in (0..transactions).step_by(10_000) {
        storage.copy_in((start..transactions.min(start + 10_000)).map(one).collect())?;
    }
    Ok(storage)
}

/// Removes a database and the files beside it.
pub(super) fn remove(path: &Path) {
    for suffix in ["", ".index", ".journal", ".lock", ".old"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

pub(super) fn timed(work: impl FnOnce() -> Outcome) -> Result<Duration, Box<dyn std::error::Error>> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

/// Does the work in as many threads, each with its share.
pub(super) fn share<T: Sync>(
    all: &[T],
    threads: usize,
    work: impl Fn(&[T]) -> Result<(), Box<dyn std::error::Error>> + Sync,
) -> Outcome {
    if threads == 1 {
        return work(all);
    }
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = all
            .chunks(all.len().div_ceil(threads))
            .map(|part| scope.spawn(move || work(part).map_err(|e| e.to_string())))
            .collect();
        for thread in running {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })
}

fn read_through(path: &Path) -> Outcome {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 * 1024];
    while file.read(&mut buffer)? > 0 {
        black_box(&buffer);
    }
    Ok(())
}
