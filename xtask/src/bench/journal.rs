//! The rows of commits with a journal: beside ZODB, beside `Full`, and beside the bare system calls.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use vellum_file::{Durability, FileStorage, Options};
use vellum_storage::{Oid, Tid, TransactionMeta};

use super::Trouble;
use super::rows::{Rows, remove, share, timed};
use super::table::Line;

/// Commits of a round, and of the row that looks for the longest one.
const COMMITS: u64 = 2000;
const MANY: u64 = 20_000;
/// A journal of the usual size.
const JOURNAL: u64 = 8 << 20;
const BLOCK: u64 = 4096;

impl Rows<'_> {
    /// Small commits with a journal.
    pub(super) fn commit_with_journal(&self, threads: usize) -> Result<Line, Trouble> {
        let (folder, count) = (self.folder.display().to_string(), COMMITS.to_string());
        let path = self.folder.join("commits.fs");
        let of = |threads: usize| format!("{threads} thread{}", if threads == 1 { "" } else { "s" });
        let mut ratios = Vec::new();
        let bare = Bare::create(self.folder)?;
        let mut line =
            self.best(&format!("{COMMITS} small commits, Journal, {}", of(threads)), None, None, &mut || {
                let ours = commits(&path, Durability::Journal, threads)?;
                let full = commits(&path, Durability::Full, threads)?;
                let bare = timed(|| bare.write(COMMITS, &mut |_| ()))?;
                let peer = self.peer("commit", &["--dir", &folder, "--count", &count])?;
                ratios.push([peer, full, bare].map(|took| took.as_secs_f64() / ours.as_secs_f64()));
                Ok(ours)
            })?;
        bare.remove();
        let median = |of: usize| {
            let mut all: Vec<f64> = ratios.iter().map(|ratios| ratios[of]).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let ours = line.ours;
        let times = |ratio: f64| ours.mul_f64(ratio);
        line.peer = Some(times(median(0)));
        line.limit = Some((times(median(2)), "write 4 KiB of a full file, sync it, append elsewhere"));
        line.notes.push(format!(
            "commits with a journal, {}, in the median round: {:.2} times as fast as ZODB, {:.2} times as fast as Full; {:.2} \
             times the time of the bare calls of one thread",
            of(threads),
            median(0),
            median(1),
            1.0 / median(2)
        ));
        Ok(line)
    }

    /// The longest of many commits with a journal.
    pub(super) fn longest_with_journal(&self) -> Result<Line, Trouble> {
        let path = self.folder.join("commits.fs");
        let bare = Bare::create(self.folder)?;
        let mut all = Vec::new();
        let mut line = self.best(&format!("longest of {MANY} commits, Journal"), None, None, &mut || {
            remove(&path);
            let storage = Options::new().durability(Durability::Journal).create(&path)?;
            let mut times = Vec::new();
            for n in 0..MANY {
                times.push(timed(|| commit(&storage, n))?);
            }
            let [longest, median] = longest(&mut times);
            let mut times = Vec::new();
            bare.write(MANY, &mut |took| times.push(took))?;
            all.push([[longest, median], self::longest(&mut times)]);
            Ok(longest)
        })?;
        bare.remove();
        remove(&path);
        line.limit = all.iter().map(|round| round[1][0]).min().map(|took| (took, "the longest of as many bare calls"));
        let usual = |of: usize| {
            let ratios = all.iter().map(|round| round[of][0].as_secs_f64() / round[of][1].as_secs_f64());
            ratios.map(|ratio| format!("{ratio:.0}")).collect::<Vec<_>>().join(", ")
        };
        line.notes.push(format!(
            "longest of {MANY} commits with a journal, in usual commits of the same round: {} (aim: at most 50); of the bare \
             calls: {}",
            usual(0),
            usual(1)
        ));
        Ok(line)
    }
}

/// The longest of these times, and the median.
fn longest(times: &mut [Duration]) -> [Duration; 2] {
    times.sort_unstable();
    [times[times.len() - 1], times[times.len() / 2]]
}

fn commit(storage: &FileStorage, n: u64) -> Result<(), Trouble> {
    let mut change = storage.begin(TransactionMeta::new())?;
    change.store(Oid(n), Tid::ZERO, vec![b'x'; 200].into())?;
    storage.vote(change)?.finish()?;
    Ok(())
}

fn commits(path: &Path, durability: Durability, threads: usize) -> Result<Duration, Trouble> {
    remove(path);
    let storage = Options::new().durability(durability).create(path)?;
    let numbers: Vec<u64> = (0..COMMITS).collect();
    let took = timed(|| share(&numbers, threads, |part| part.iter().try_for_each(|&n| commit(&storage, n))));
    drop(storage);
    remove(path);
    took
}

/// The bare system calls of a lone commit.
struct Bare {
    folder: std::path::PathBuf,
    journal: File,
    data: File,
}

impl Bare {
    const NAMES: [&str; 2] = ["raw.journal", "raw"];

    fn create(folder: &Path) -> Result<Bare, Trouble> {
        let [journal, data] = Bare::NAMES.map(|name| File::create(folder.join(name)));
        let (journal, data) = (journal?, data?);
        (0..JOURNAL / BLOCK).try_for_each(|n| journal.write_all_at(&[0; BLOCK as usize], n * BLOCK))?;
        journal.sync_all()?;
        Ok(Bare { folder: folder.to_owned(), journal, data })
    }

    /// Writes a block of the journal, syncs it, and appends to the other file, so many times. The other file is synced
    /// beside that, once for each half of the journal.
    fn write(&self, count: u64, each: &mut dyn FnMut(Duration)) -> Result<(), Trouble> {
        self.data.set_len(0)?;
        self.data.sync_all()?;
        let mut syncing = None;
        for n in 0..count {
            let started = Instant::now();
            self.journal.write_all_at(&[n as u8 | 1; BLOCK as usize], n % (JOURNAL / BLOCK) * BLOCK)?;
            self.journal.sync_data()?;
            self.data.write_all_at(&[1; 300], n * 300)?;
            if n % (JOURNAL / BLOCK / 2) == JOURNAL / BLOCK / 2 - 1 {
                let file = self.data.try_clone()?;
                let before = syncing.replace(std::thread::spawn(move || file.sync_data()));
                before
                    .map_or(Ok(()), |thread| thread.join().map_err(|_| "a thread panicked")?.map_err(Trouble::from))?;
            }
            each(started.elapsed());
        }
        syncing.map_or(Ok(()), |thread| thread.join().map_err(|_| "a thread panicked")?.map_err(Trouble::from))
    }

    fn remove(&self) {
        Bare::NAMES.iter().for_each(|name| drop(std::fs::remove_file(self.folder.join(name))));
    }
}
