//! The file that an interrupted commit leaves, and how the two engines open it.
//!
//! ZODB writes a transaction with status `c` when it votes, and sets the status when it finishes. So a process that is
//! killed in between leaves a whole transaction that is not finished; a machine that stops, any beginning of one. Both
//! engines cut it off, and go on as if it had never been.
//!
//! They differ in two ways, and both are checked for. A last transaction that says that it is finished, and is cut
//! short, ZODB cuts off like the others; we refuse it as damage, unless we are told that ZODB's order of writing was
//! used ([`Durability::Relaxed`]). And an unfinished transaction that finished ones follow is for ZODB the end of the
//! file, for us a commit of several that was interrupted among its marks: we keep all of it, and ZODB reads what we
//! make of it.

use std::path::{Path, PathBuf};

use vellum_file::{Durability, FileStorage, OpenError, Options};
use vellum_storage::{Error, Tid};

use super::reads::{LastTransaction, compare, compare_read_only};
use super::script::{Author, Commit};
use super::zodb::Zodb;
use super::{Ground, Trouble, beside, clear, ensure, same, same_files};
use crate::Outcome;

const CASES: u64 = 6;
const HEADER: usize = 23;
const STATUS_AT: usize = 16;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut counts = Counts::default();
    let mut zodb = ground.zodb()?;
    for n in 0..CASES {
        let author = Author::new(ground.seed.wrapping_mul(7_919).wrapping_add(n));
        let mut case = Case { zodb, author, paths: [ground.path("ours.fs"), ground.path("zodb.fs")] };
        zodb = match case.play(ground, n, &mut counts) {
            Ok(()) => case.zodb,
            Err(why) => return Err(format!("case {n}: {why}").into()),
        };
    }
    let Counts { killed, tails, torn, refused, kept } = counts;
    ensure(refused > 0 && kept > 0, || "some kind of file did not come up".to_owned())?;
    Ok(format!(
        "{killed} processes killed between vote and finish; {tails} unfinished tails, whole and torn, and {torn} cut \
         finished ones repaired to the same bytes, with the same answers and the same commits after it; {refused} of \
         the latter refused at first; {kept} interrupted commits of several kept"
    ))
}

#[derive(Default)]
struct Counts {
    killed: u64,
    tails: u64,
    torn: u64,
    refused: u64,
    kept: u64,
}

/// The files on the disk after a crash.
struct Image {
    file: Vec<u8>,
    /// From an earlier session; the file has grown since.
    index: Vec<u8>,
}

struct Case {
    zodb: Zodb,
    author: Author,
    paths: [PathBuf; 2],
}

impl Case {
    fn play(&mut self, ground: &Ground, n: u64, counts: &mut Counts) -> Outcome {
        let path = ground.path("crash.fs");
        clear(&path);
        self.session(&path, 1 + n)?;
        self.zodb.close()?;
        self.session(&path, 2)?;
        let finished = std::fs::read(&path)?;
        let voted = self.author.accepted();
        self.zodb.vote(&voted)?;
        if n.is_multiple_of(3) {
            std::mem::replace(&mut self.zodb, ground.zodb()?).kill()?;
            counts.killed += 1;
        }
        let image = Image { file: std::fs::read(&path)?, index: std::fs::read(beside(&path, ".index"))? };
        if !n.is_multiple_of(3) {
            self.zodb.abort()?;
            self.zodb.close()?;
        }
        let start = finished.len();
        ensure(image.file.starts_with(&finished) && image.file[start + STATUS_AT] == b'c', || {
            "ZODB left no unfinished transaction at the end".to_owned()
        })?;

        let before = self.author.clone();
        for length in self.cuts(start, image.file.len()) {
            let what = |why| format!("unfinished, {} of {} bytes: {why}", length - start, image.file.len() - start);
            self.author = before.clone();
            self.aftermath(&image.cut(length), Durability::Full, start, voted.tid).map_err(what)?;
            counts.tails += 1;
        }
        // The same bytes, but finished.
        let mut torn = Image { file: image.file.clone(), index: image.index.clone() };
        torn.file[start + STATUS_AT] = b' ';
        for length in self.cuts(start, torn.file.len() - 1) {
            let what = |why| format!("finished, {} of {} bytes: {why}", length - start, torn.file.len() - start);
            self.author = before.clone();
            let cut = torn.cut(length);
            if length > start + STATUS_AT {
                self.refused(&cut).map_err(what)?;
                counts.refused += 1;
            }
            self.aftermath(&cut, Durability::Relaxed, start, voted.tid).map_err(what)?;
            counts.torn += 1;
        }
        let kept = self.interrupted_marks(&finished, before).map_err(|why| format!("several: {why}"))?;
        counts.kept += kept;
        Ok(())
    }

    /// ZODB opens the file, and commits so often. It stays open.
    fn session(&mut self, path: &Path, commits: u64) -> Outcome {
        self.zodb.open(path)?;
        for _ in 0..commits {
            let commit = self.author.accepted_with_records();
            let tid = self.zodb.commit(&commit)?;
            self.author.learn(&commit, tid);
        }
        Ok(())
    }

    /// Lengths at which to cut the bytes between these two: around the parts of the header, near the end, and anywhere.
    fn cuts(&mut self, start: usize, end: usize) -> Vec<usize> {
        let length = end - start;
        let mut at = vec![1, 8, STATUS_AT, STATUS_AT + 1, HEADER - 1, HEADER, length - 8, length - 1, length];
        at.push(1 + self.author.dice.below(length as u64) as usize);
        at.sort_unstable();
        at.dedup();
        at.into_iter().map(|at| start + at).collect()
    }

    fn lay(&self, image: &Image) -> Outcome {
        for path in &self.paths {
            clear(path);
            std::fs::write(path, &image.file)?;
            std::fs::write(beside(path, ".index"), &image.index)?;
        }
        Ok(())
    }

    /// Both look at the image, repair it, go on with it, and read what the other made of it.
    fn aftermath(&mut self, image: &Image, durability: Durability, end: usize, lost: Option<Tid>) -> Outcome {
        self.lay(image)?;
        let Case { zodb, author, paths: [one, other] } = self;
        let options = Options::new().durability(durability);

        let looking = options.clone().read_only().open(&*one)?;
        zodb.open_read_only(other)?;
        same("size, read-only", &looking.size(), &zodb.len_and_size()?.1)?;
        if image.file.len() >= end + HEADER {
            // Before a part of a header ZODB's walk over the file fails, until it is opened for writing.
            compare(&looking, zodb, &mut author.dice, LastTransaction::Unknown)
                .map_err(|e| format!("read-only: {e}"))?;
        }
        zodb.close()?;
        drop(looking);
        let unchanged = std::fs::read(&*one)? == image.file && std::fs::read(&*other)? == image.file;
        ensure(unchanged, || "opened read-only, and changed".to_owned())?;

        let ours = options.open(&*one)?;
        zodb.open(other)?;
        same_files("after the repair", one, other)?;
        same("size after the repair", &ours.size(), &(end as u64))?;
        let cut = ours.recovery().map(|recovery| recovery.cut);
        same("bytes cut off", &cut, &Some((image.file.len() - end) as u64))?;
        if image.file.len() >= end + HEADER {
            // ZODB does not keep a part of a header.
            same_files("the bytes cut off", &beside(one, ".tr0"), &beside(other, ".tr0"))?;
        }
        compare(&ours, zodb, &mut author.dice, LastTransaction::Unknown)?;
        ensure(lost != Some(ours.last_transaction()), || "the last transaction is one that is not there".to_owned())?;
        go_on(&ours, zodb, author)?;
        same_files("after more commits", one, other)?;
        drop(ours);
        zodb.close()?;
        same_files("indexes after more commits", &beside(one, ".index"), &beside(other, ".index"))?;
        // The two are the same, so one will do.
        let path = if author.dice.one_in(2) { one } else { other };
        compare_read_only(path, zodb, &mut author.dice, LastTransaction::Same)?;
        Ok(())
    }

    /// With full durability, what says that it is finished and is not whole is damage, and is left alone.
    fn refused(&self, image: &Image) -> Outcome {
        self.lay(image)?;
        let path = &self.paths[0];
        let refused = FileStorage::open(path);
        let damaged = matches!(&refused, Err(OpenError::Storage(Error::Damaged(_))));
        ensure(damaged, || format!("not refused as damage: {refused:?}"))?;
        ensure(std::fs::read(path)? == image.file, || "refused, but changed".to_owned())
    }

    /// Takes away the mark of a transaction that a finished one follows: ZODB shows the transactions before it, and we
    /// show all.
    fn interrupted_marks(&mut self, finished: &[u8], author: Author) -> Result<u64, Trouble> {
        let mut image = Image { file: finished.to_owned(), index: Vec::new() };
        let last = before(finished, finished.len())?;
        let unmarked = before(finished, last)?;
        image.file[unmarked + STATUS_AT] = b'c';
        self.author = author;
        self.lay(&image)?;
        let Case { zodb, author, paths: [one, other] } = self;
        zodb.open(other)?;
        let (_, theirs) = zodb.len_and_size()?;
        zodb.close()?;
        let ours = FileStorage::open(&*one)?;
        ensure(ours.size() >= theirs, || format!("we show {} bytes of the file, ZODB {theirs}", ours.size()))?;
        same("the shown size", &ours.size(), &(finished.len() as u64))?;
        ensure(std::fs::read(&*one)? == finished, || "repaired to other bytes than it had".to_owned())?;
        drop(ours);
        zodb.open(one)?;
        let commit = author.accepted();
        let tid = zodb.commit(&commit)?;
        author.learn(&commit, tid);
        zodb.close()?;
        compare_read_only(one, zodb, &mut author.dice, LastTransaction::Same)?;
        Ok(1)
    }
}

impl Image {
    fn cut(&self, length: usize) -> Image {
        Image { file: self.file[..length].to_owned(), index: self.index.clone() }
    }
}

/// Both commit the same.
fn go_on(ours: &FileStorage, zodb: &mut Zodb, author: &mut Author) -> Outcome {
    for _ in 0..2 {
        let commit: Commit = author.accepted_with_records();
        let tid = commit.commit(ours)?;
        same("tid after the repair", &tid, &zodb.commit(&commit)?)?;
        author.learn(&commit, tid);
    }
    Ok(())
}

/// Where the transaction before this position starts.
fn before(file: &[u8], position: usize) -> Result<usize, Trouble> {
    let length = file.get(position - 8..position).ok_or("no transaction before this one")?;
    let length = u64::from_be_bytes(length.try_into()?) as usize;
    position.checked_sub(length + 8).ok_or_else(|| "a length that leads out of the file".into())
}
