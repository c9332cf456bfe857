//! The rows of packing: how long it takes, how long commits wait for it, and its memory.

use std::fs::File;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use vellum_file::{FileStorage, Packing, Unwatched};
use vellum_storage::{Oid, Tid, TransactionMeta};

use super::rows::{Rows, remove, timed};
use super::table::Line;
use crate::venv;

impl Rows<'_> {
    /// A copy of the file that is on the disk, and in the page cache.
    fn fresh(&self, name: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
        let path = self.folder.join(name);
        remove(&path);
        std::fs::copy(self.path, &path)?;
        File::open(&path)?.sync_all()?;
        Ok(path)
    }

    /// A pack to now, with collection, of a fresh copy.
    fn time_pack(&self, keep_old: bool) -> Result<Duration, Box<dyn std::error::Error>> {
        let path = self.fresh("pack.fs")?;
        let storage = FileStorage::open(&path)?;
        let how = Packing::new().collect(true).keep_old(keep_old);
        let took = timed(|| {
            black_box(storage.pack_with(Tid::MAX, how, &mut Unwatched)?);
            Ok(())
        });
        drop(storage);
        remove(&path);
        took
    }

    /// Both keep the old file, as ZODB does unless it is told otherwise.
    pub fn pack(&self) -> Result<Line, Box<dyn std::error::Error>> {
        let folder = self.folder.display().to_string();
        let raw = self.folder.join("raw");
        let (mut cp, mut synced) = (Duration::MAX, Duration::MAX);
        let mut line =
            self.best("pack to now, with collection", Some(("pack", &["--dir", &folder])), None, &mut || {
                let started = Instant::now();
                std::fs::copy(self.path, &raw)?;
                cp = cp.min(started.elapsed());
                File::open(&raw)?.sync_all()?;
                synced = synced.min(started.elapsed());
                std::fs::remove_file(&raw)?;
                self.time_pack(true)
            })?;
        line.limit = Some((cp, "cp"));
        let ours = line.ours.as_secs_f64();
        line.notes.push(format!(
            "pack: {:.1} times as fast as ZODB (aim: at least 15); {:.2} times as long as cp (aim: at most 2.5), and {:.2} \
             times as long as cp and sync, which take {:.1} ms",
            line.peer.unwrap_or_default().as_secs_f64() / ours,
            ours / cp.as_secs_f64(),
            ours / synced.as_secs_f64(),
            synced.as_secs_f64() * 1e3
        ));
        Ok(line)
    }

    /// The same without the old file; beside it the removal of such a file.
    pub fn pack_removing(&self) -> Result<Line, Box<dyn std::error::Error>> {
        let mut line = self.best("the same, and the old file is removed", None, None, &mut || self.time_pack(false))?;
        for _ in 0..self.rounds {
            let old = self.fresh("raw")?;
            let took = timed(|| Ok(std::fs::remove_file(&old)?))?;
            let took = took.min(line.limit.map_or(Duration::MAX, |(took, _)| took));
            line.limit = Some((took, "remove such a file, and nothing else"));
        }
        Ok(line)
    }

    /// How long a commit waits at most while packs run, one after another; and how long it usually takes.
    pub fn wait_for_pack(&self) -> Result<Line, Box<dyn std::error::Error>> {
        const USUAL: u64 = 1000;
        const PACKS: usize = 3;
        // Two pickles, of a class and of 200 bytes: a pack looks into it.
        let record = Bytes::from([b"\x80\x03cshop\nItem\n.\x80\x03C\xc8", &[b'x'; 200][..], b"."].concat());
        let (mut usual, mut all) = (Duration::MAX, Vec::new());
        let mut line = self.best("longest wait of a commit while packs run", None, None, &mut || {
            let path = self.fresh("pack.fs")?;
            let storage = FileStorage::open(&path)?;
            let mut next = 1 << 40;
            let mut commit = || -> Result<Duration, Box<dyn std::error::Error>> {
                next += 1;
                timed(|| {
                    let mut change = storage.begin(TransactionMeta::new())?;
                    change.store(Oid(next), Tid::ZERO, record.clone())?;
                    storage.vote(change)?.finish()?;
                    Ok(())
                })
            };
            let mut times = (0..USUAL).map(|_| commit()).collect::<Result<Vec<_>, _>>()?;
            times.sort_unstable();
            let median = times[times.len() / 2];
            let mut beside = |work: &(dyn Fn() -> Result<(), String> + Sync)| {
                std::thread::scope(|scope| {
                    let work = scope.spawn(work);
                    let mut longest = Duration::ZERO;
                    while !work.is_finished() {
                        longest = longest.max(commit()?);
                    }
                    work.join().map_err(|_| "a thread panicked")??;
                    Ok::<_, Box<dyn std::error::Error>>(longest)
                })
            };
            let copy = self.folder.join("raw");
            let beside_cp = beside(&|| {
                let copied = std::fs::copy(self.path, &copy).and_then(|_| File::open(&copy)?.sync_all());
                copied.map_err(|e| e.to_string())
            })?;
            remove(&copy);
            let how = Packing::new().collect(true);
            let longest = beside(&|| {
                let pack = || storage.pack_with(Tid::MAX, how, &mut Unwatched).map(drop);
                (0..PACKS).try_for_each(|_| pack()).map_err(|e| e.to_string())
            })?;
            drop(storage);
            remove(&path);
            usual = usual.min(median);
            all.push((longest, beside_cp, median));
            Ok(longest)
        })?;
        line.limit = Some((usual, "the median without a pack"));
        let in_usual = |of: fn(&(Duration, Duration, Duration)) -> Duration| {
            let ratios = all.iter().map(|round| of(round).as_secs_f64() / round.2.as_secs_f64());
            ratios.map(|ratio| format!("{ratio:.0}")).collect::<Vec<_>>().join(", ")
        };
        line.notes.push(format!(
            "longest wait for a pack, in usual commits of the same round: {} (aim: at most 50); beside cp of the file and a sync: {}",
            in_usual(|round| round.0),
            in_usual(|round| round.1)
        ));
        Ok(line)
    }

    /// In a process of its own: there every allocation is counted.
    pub fn memory_of_pack(&self) -> Result<String, Box<dyn std::error::Error>> {
        let path = self.fresh("pack.fs")?;
        let mut command = Command::new(venv::program("pack-memory")?);
        command.arg(&path);
        let output = command.output()?;
        remove(&path);
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let line: Value = serde_json::from_slice(&output.stdout)?;
        let [objects, peak] = ["objects", "peak"].map(|name| line[name].as_f64().unwrap_or_default());
        let resident =
            line["resident"].as_f64().map_or("unknown".to_owned(), |bytes| format!("{:.1}", bytes / objects));
        Ok(format!(
            "memory of a pack, above that of the open storage: {:.1} bytes an object at most (aim: at most 24); {resident} \
             as the system counts",
            peak / objects
        ))
    }
}
