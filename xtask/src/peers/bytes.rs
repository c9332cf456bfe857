//! The same operations, with the same tids, make the same bytes.
//!
//! Histories from dice, each on two new files; then two that no dice would throw: metadata at its limits, and records
//! of some megabytes. Both refuse invalid commits for the same reason, and a transaction that is aborted after
//! its vote leaves nothing. At the end of each history the files are the same, and after closing them the indexes.

use std::path::PathBuf;

use vellum_file::{Durability, FileStorage, Options};
use vellum_storage::{Error, Oid, Refusal};

use super::script::{Author, Commit};
use super::zodb::{Zodb, ZodbError};
use super::{Ground, Trouble, beside, clear, ensure, same, same_files};
use crate::Outcome;

const TRANSACTIONS: usize = 12;
const METADATA_MAX: usize = 65_535;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut zodb = ground.zodb()?;
    let mut counts = Counts::default();
    for n in 0..ground.histories {
        let seed = ground.seed.wrapping_mul(1_000_003).wrapping_add(n);
        let mut play = || -> Outcome {
            let mut author = Author::new(seed);
            let durability = [Durability::Full, Durability::Relaxed][n as usize % 2];
            let spill_after = author.dice.pick(&[0, 100, 32 << 20]);
            let mut pair = Pair::new(ground, &mut zodb, author, durability, spill_after)?;
            for _ in 0..TRANSACTIONS {
                pair.step(&mut counts)?;
            }
            pair.end()
        };
        play().map_err(|why| format!("history {n} (seed {seed}): {why}"))?;
    }
    for durability in [Durability::Full, Durability::Relaxed] {
        let mut pair = Pair::new(ground, &mut zodb, Author::new(ground.seed), durability, 1000)?;
        counts.metadata += metadata_at_its_limits(&mut pair)?;
        pair.end().map_err(|why| format!("metadata at its limits: {why}"))?;
        let mut pair = Pair::new(ground, &mut zodb, Author::new(ground.seed), durability, 1000)?;
        large_records(&mut pair)?;
        pair.end().map_err(|why| format!("large records: {why}"))?;
    }
    let Counts { accepted, refused, aborted, metadata } = counts;
    // Without one of these, the check would have shown nothing.
    let all = accepted > 0 && (refused > 0 && aborted > 0 || ground.histories < 20);
    ensure(all || ground.histories == 0, || "the dice never refused or aborted anything".to_owned())?;
    Ok(format!(
        "{} histories, {accepted} commits, {refused} refused, {aborted} aborted after the vote; {metadata} with \
         metadata at its limits; records up to 5 MB; files and indexes the same",
        ground.histories
    ))
}

#[derive(Default)]
struct Counts {
    accepted: u64,
    refused: u64,
    aborted: u64,
    metadata: u64,
}

/// Two files, one of each engine.
struct Pair<'a> {
    zodb: &'a mut Zodb,
    ours: Option<FileStorage>,
    author: Author,
    paths: [PathBuf; 2],
}

impl<'a> Pair<'a> {
    fn new(
        ground: &Ground,
        zodb: &'a mut Zodb,
        author: Author,
        durability: Durability,
        spill_after: u64,
    ) -> Result<Pair<'a>, Trouble> {
        let paths = [ground.path("ours.fs"), ground.path("zodb.fs")];
        // After a failure a file may still be open there.
        let _ = zodb.close();
        paths.iter().for_each(|path| clear(path));
        let ours = Options::new().durability(durability).spill_after(spill_after).create(&paths[0])?;
        zodb.open(&paths[1])?;
        Ok(Pair { zodb, ours: Some(ours), author, paths })
    }

    fn ours(&self) -> Result<&FileStorage, Trouble> {
        self.ours.as_ref().ok_or_else(|| "closed".into())
    }

    fn step(&mut self, counts: &mut Counts) -> Outcome {
        match self.author.dice.below(10) {
            0 | 1 => {
                let commit = self.author.refused();
                counts.refused += 1;
                self.refuse(&commit)
            }
            2 => {
                let commit = self.author.accepted();
                counts.aborted += 1;
                drop(commit.vote(self.ours()?)?);
                self.zodb.vote(&commit)?;
                self.zodb.abort()?;
                self.files()
            }
            _ => {
                let commit = self.author.accepted();
                counts.accepted += 1;
                self.accept(&commit)
            }
        }
    }

    fn accept(&mut self, commit: &Commit) -> Outcome {
        let (ours, theirs) = (commit.commit(self.ours()?)?, self.zodb.commit(commit)?);
        same("tid of a commit", &ours, &theirs)?;
        self.author.learn(commit, ours);
        Ok(())
    }

    fn refuse(&mut self, commit: &Commit) -> Outcome {
        let (ours, theirs) = (commit.commit(self.ours()?), self.zodb.commit(commit));
        let agreed = matches!((&ours, &theirs), (Err(ours), Err(theirs)) if same_reason(ours, theirs));
        ensure(agreed, || format!("a commit to be refused: we say {ours:?}, ZODB says {theirs:?}"))?;
        self.files()
    }

    fn files(&self) -> Outcome {
        same_files("the files", &self.paths[0], &self.paths[1])
    }

    fn end(mut self) -> Outcome {
        self.files()?;
        self.ours = None;
        self.zodb.close()?;
        self.files()?;
        same_files("the indexes", &beside(&self.paths[0], ".index"), &beside(&self.paths[1], ".index"))
    }
}

/// Whether both engines give the same reason.
fn same_reason(ours: &Error, theirs: &ZodbError) -> bool {
    let name = match ours {
        Error::Refused(Refusal::UnknownObject { .. }) => "POSKeyError",
        Error::Refused(Refusal::Conflict { .. }) => "ConflictError",
        Error::Refused(Refusal::ReadConflict { .. }) => "ReadConflictError",
        Error::Refused(Refusal::MetadataTooLong { .. }) => "FileStorageError",
        _ => return false,
    };
    theirs.class() == Some(name)
}

fn metadata_at_its_limits(pair: &mut Pair<'_>) -> Result<u64, Trouble> {
    let lengths = [0, 1, 255, 256, METADATA_MAX - 1, METADATA_MAX];
    let alone = lengths.iter().flat_map(|&n| [[n, 0, 0], [0, n, 0], [0, 0, n]]);
    let mixed = lengths.iter().map(|&n| [n, METADATA_MAX - n, n]);
    let all = lengths.iter().map(|&n| [n; 3]);
    let cases: Vec<[usize; 3]> = alone.chain(mixed).chain(all).collect();
    for lengths in &cases {
        let what = |why| format!("metadata of {lengths:?} bytes: {why}");
        // Every other transaction is empty otherwise.
        let changes = if lengths[0] % 2 == 0 { vec![pair.author.store(Oid(1), 10)] } else { Vec::new() };
        let mut commit = pair.author.commit(changes);
        commit.meta = lengths.map(|length| pair.author.dice.bytes(length).into());
        pair.accept(&commit).and_then(|()| pair.files()).map_err(what)?;
    }
    for field in 0..3 {
        let mut commit = pair.author.commit(Vec::new());
        commit.meta[field] = vec![b'x'; METADATA_MAX + 1].into();
        pair.refuse(&commit)?;
    }
    Ok(cases.len() as u64 + 3)
}

/// Around the sizes of our buffers, and beyond the limit of memory.
fn large_records(pair: &mut Pair<'_>) -> Outcome {
    for lengths in [&[5_000_000][..], &[999, 1, 1, 1_000_000, 2], &[1 << 20, (1 << 20) - 1, (1 << 20) + 1, 3]] {
        let changes = lengths.iter().zip(0..).map(|(&length, n)| pair.author.store(Oid(n), length)).collect();
        let commit = pair.author.commit(changes);
        pair.accept(&commit)?;
    }
    Ok(())
}
