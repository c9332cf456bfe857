//! The same file, packed by both engines to the same time.
//!
//! Random histories of objects that refer to each other, written by both; then packed, with collection and without, at
//! a transaction, between two, now. Our result must always be that of the rules (`vellum_spec`). ZODB's result must be
//! the same bytes, and the same index; or the difference is one that docs/findings/filestorage.md judges, and then it
//! must be that one (`judge.rs`): ZODB packs again, this time with the further objects that the rules need. Then the
//! bytes are the same, except for tombstones and the other cases in the last section of the page.
//!
//! Then both go on with what one of them packed: they open it by the index that lies beside it, read everything, commit
//! and undo, and pack again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vellum_file::{FileStorage, Packed, Packing, Unwatched};
use vellum_harness::node::Node;
use vellum_spec::{Database, How};
use vellum_storage::{Error, Oid, Refusal, Tid, Version};

use super::forth::mark;
use super::reads::{LastTransaction, compare};
use super::zodb::{Zodb, ZodbError};
use super::{Ground, Trouble, beside, clear, ensure, same, same_files};
use crate::Outcome;
use history::{Writer, read, show};
use judge::{Case, Kind};

mod history;
mod judge;

const TRANSACTIONS: u64 = 14;
const PACKS: u64 = 2;
const MORE_TRANSACTIONS: usize = 4;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut counts = Counts::default();
    // Nothing here is about the disk.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new_in(ground.folder.path()) }?;
    let mut zodb = ground.zodb()?;
    // Some kinds are rare.
    let histories = ground.histories * 2;
    for n in 0..histories {
        let seed = ground.seed.wrapping_mul(1_000_037).wrapping_add(n);
        let _ = zodb.close();
        let mut yard = Yard { folder: folder.path(), zodb: &mut zodb, writer: Writer::new(seed), counts: &mut counts };
        yard.history().map_err(|why| format!("history {n} (seed {seed}): {why}"))?;
    }
    for kind in Kind::ALL {
        ensure(histories < 400 || counts.judged.contains_key(&kind), || {
            format!("the dice never reached the difference `{}`; to others: {:?}", kind.name(), counts.judged)
        })?;
    }
    let Counts { packs, same, judged, refused, answers, commits } = counts;
    let kinds: Vec<String> = judged.iter().map(|(kind, times)| format!("{times} × {}", kind.name())).collect();
    Ok(format!(
        "{histories} histories, {packs} packs, each as the rules have it ({refused} refused at first); {same} the same \
         bytes and index; differences that are judged: {}; {commits} commits on what was packed, {answers} answers the \
         same",
        kinds.join(", ")
    ))
}

#[derive(Default)]
struct Counts {
    packs: u64,
    same: u64,
    judged: BTreeMap<Kind, u64>,
    refused: u64,
    commits: u64,
    answers: u64,
}

/// Where one history is played.
struct Yard<'a> {
    folder: &'a Path,
    zodb: &'a mut Zodb,
    writer: Writer,
    counts: &'a mut Counts,
}

impl Yard<'_> {
    fn history(&mut self) -> Outcome {
        let [ours, theirs] = self.paths("written");
        [&ours, &theirs].into_iter().for_each(|path| clear(path));
        let count = 2 + self.writer.dice.below(TRANSACTIONS);
        drop(FileStorage::create(&ours)?);
        self.both(&ours, &theirs, count as usize)?;
        for n in 0..PACKS {
            let database = read(&ours)?;
            // ZODB does not open a file in which there is nothing but empty transactions (19).
            if database.oids().is_empty() {
                break;
            }
            let (to, collect) = (self.writer.time(&database), self.writer.dice.one_in(2));
            let packed = self.pack(&ours, "packed", to, collect);
            let packed = packed.map_err(|why| format!("pack {n} to {to}, collect: {collect}: {why}"))?;
            let which = self.writer.dice.below(packed.len() as u64) as usize;
            let whose = ["ours", "ZODB's"][which];
            self.go_on(&packed[which], n).map_err(|why| {
                format!("going on after pack {n} to {to}, collect: {collect}, with what is {whose}: {why}")
            })?;
        }
        Ok(())
    }

    fn paths(&self, name: &str) -> [PathBuf; 2] {
        ["ours", "zodb"].map(|whose| self.folder.join(format!("{name}-{whose}.fs")))
    }

    /// Both write the same to two files that are the same, and read them.
    fn both(&mut self, ours: &Path, theirs: &Path, count: usize) -> Outcome {
        let storage = FileStorage::open(ours)?;
        self.zodb.open(theirs)?;
        for _ in 0..count {
            let commit = self.writer.next(&read(ours)?);
            match (commit.vote(&storage), self.zodb.vote(&commit)) {
                (Ok(voted), Ok(())) => {
                    same("tid of a commit", &voted.finish()?, &self.zodb.finish()?)?;
                    self.counts.commits += 1;
                }
                (Err(ours), Err(theirs)) => {
                    let agreed = matches!(ours, Error::Refused(Refusal::UndoConflict { .. }))
                        && theirs.class() == Some("MultipleUndoErrors");
                    ensure(agreed, || format!("{commit:?}: we say {ours:?}, ZODB says {theirs:?}"))?;
                }
                // ZODB does not see a deletion by way of several undos: see `undo.rs`.
                (Ok(voted), Err(theirs)) => {
                    let nothing = voted.touched().iter().map(|oid| is_nothing(&storage, *oid));
                    let nothing = nothing.collect::<Result<Vec<_>, _>>()?.contains(&true);
                    ensure(nothing && theirs.class() == Some("MultipleUndoErrors"), || {
                        format!("{commit:?}: ZODB alone says {theirs}")
                    })?;
                }
                (Err(ours), Ok(())) => return Err(format!("{commit:?}: we alone say {ours}").into()),
            }
            same_files("the files", ours, theirs)?;
        }
        drop(storage);
        self.zodb.close()?;
        same_files("the indexes", &beside(ours, ".index"), &beside(theirs, ".index"))
    }

    /// Both pack copies of a file. Returns what we left, and what ZODB left, unless it is broken.
    fn pack(&mut self, file: &Path, name: &str, to: Tid, collect: bool) -> Result<Vec<PathBuf>, Trouble> {
        let (before, [ours, theirs]) = (read(file)?, self.paths(name));
        self.counts.packs += 1;
        let (rules, refused) = self.ours(file, &ours, &before, to, collect)?;
        let case = Case { before: &before, to, collect, rules: &rules, refused };

        copy(file, &theirs)?;
        self.zodb.open(&theirs)?;
        let packed = self.zodb.pack(to, collect, &[], &[]);
        self.zodb.close()?;
        let is_as_before = std::fs::read(file)? == std::fs::read(&theirs)?;
        let as_long = std::fs::metadata(file)?.len() == std::fs::metadata(&ours)?.len();
        if packed.is_ok() && std::fs::read(&ours)? == std::fs::read(&theirs)? {
            same_files("the indexes", &beside(&ours, ".index"), &beside(&theirs, ".index"))?;
            self.counts.same += 1;
            return Ok(vec![ours, theirs]);
        }
        let kind = match &packed {
            Ok(()) => case.of_files(&read(&theirs)?, is_as_before, as_long),
            Err(error @ ZodbError::Refused { .. }) => {
                ensure(is_as_before, || format!("ZODB has changed the file, and says {error}"))?;
                case.of_error(error, collect).ok_or_else(|| error.to_string())
            }
            Err(error) => return Err(error.to_string().into()),
        };
        let kind = kind.map_err(|why| case.show(&why, &theirs))?;
        *self.counts.judged.entry(kind).or_default() += 1;
        // In these there is nothing that ZODB could be told.
        let is_all = matches!(kind, Kind::SeveralUndone | Kind::NoRoot | Kind::PackedAlready);
        if !is_all && case.has_root() {
            self.told(file, name, &case, &ours).map_err(|why| format!("{}: {why}", kind.name()))?;
        }
        Ok(if kind == Kind::SeveralUndone { vec![ours] } else { vec![ours, theirs] })
    }

    /// Packs with our engine, and checks the result against the rules. Returns the database of the rules, and whether
    /// they refuse the pack at first.
    fn ours(
        &mut self,
        file: &Path,
        ours: &Path,
        before: &Database,
        to: Tid,
        collect: bool,
    ) -> Result<(Database, bool), Trouble> {
        let how = How { collect, ..How::default() };
        let mut packing = Packing::new().collect(collect).keep_old(self.writer.dice.one_in(2));
        copy(file, ours)?;
        let storage = FileStorage::open(ours)?;
        let mut answer = storage.pack_with(to, packing, &mut Unwatched);
        let mut rules = before.pack(to.0, how, &Node::references);
        let refused = rules.is_err();
        if let (Err(rules), Err(Error::Dangling { references })) = (&rules, &answer) {
            let references = references.iter().map(|(from, to)| (from.0, to.0)).collect();
            same("the dangling references", &references, &rules.dangling)?;
            same_files("the refused file", ours, file)?;
            self.counts.refused += 1;
            packing.go_on = true;
            answer = storage.pack_with(to, packing, &mut Unwatched);
        }
        if refused {
            rules = before.pack(to.0, How { go_on: true, ..how }, &Node::references);
        }
        let (rules, Packed { old, dangling, .. }) = (rules.map_err(|_| "refused, though told to go on")?, answer?);
        if let Some(old) = old {
            same_files("the kept file", &old, file)?;
        }
        let dangling = dangling.iter().map(|(from, to)| (from.0, to.0)).collect();
        same("the dangling references", &dangling, &rules.dangling)?;
        let left = read(ours)?;
        ensure(left == rules.database, || {
            format!("before:\n{}ours:\n{}the rules:\n{}", show(before), show(&left), show(&rules.database))
        })?;
        Ok((rules.database, refused))
    }

    /// ZODB packs again, with the objects that the rules need. Then the results differ only in tombstones.
    fn told(&mut self, file: &Path, name: &str, case: &Case<'_>, ours: &Path) -> Outcome {
        let theirs = self.paths(&format!("{name}-told"))[1].clone();
        copy(file, &theirs)?;
        let (also, without) = case.help();
        self.zodb.open(&theirs)?;
        let packed = self.zodb.pack(case.to, true, &also, &without);
        self.zodb.close()?;
        let kind = match &packed {
            Err(error) => case.of_error(error, true).ok_or_else(|| format!("told what is needed, {error}"))?,
            Ok(()) if std::fs::read(ours)? == std::fs::read(&theirs)? => return Ok(()),
            Ok(()) => {
                let lengths = [file, ours].map(|path| std::fs::metadata(path).map(|found| found.len()));
                let [before, after] = lengths;
                let unchanged = std::fs::read(file)? == std::fs::read(&theirs)?;
                case.of_files(&read(&theirs)?, unchanged, before? == after?).map_err(|why| case.show(&why, &theirs))?
            }
        };
        let rest = [
            Kind::SeveralUndone,
            Kind::NothingLost,
            Kind::LastTransaction,
            Kind::NoRoot,
            Kind::NothingByUndos,
            Kind::AsLongAsBefore,
        ];
        ensure(rest.contains(&kind), || format!("ZODB, told what is needed, differs by {}", kind.name()))
    }

    /// Both go on with a file that one of them has packed, and pack it again.
    fn go_on(&mut self, packed: &Path, n: u64) -> Outcome {
        let database = read(packed)?;
        // See `history`.
        if database.oids().is_empty() {
            return Ok(());
        }
        let [ours, theirs] = self.paths(&format!("on-{n}"));
        copy(packed, &ours)?;
        copy(packed, &theirs)?;
        let index = beside(&ours, ".index");
        let left = mark(&index)?;
        let storage = FileStorage::open(&ours)?;
        same("a repair of a file that nothing is wrong with", &storage.recovery(), &None)?;
        ensure(mark(&index)? == left, || "the index was not used: we made it again".to_owned())?;
        let used = self.zodb.open(&theirs)?.used_index;
        // Not if the file is so short that ZODB takes the index for wrong.
        let trusts = zodb_trusts(&database) && std::fs::metadata(packed)?.len() >= 100;
        same("whether ZODB uses the index", &trusts, &used)?;
        self.counts.answers += compare(&storage, self.zodb, &mut self.writer.dice, LastTransaction::Same)?;
        drop(storage);
        self.zodb.close()?;
        let more = self.writer.dice.pick(&[0, MORE_TRANSACTIONS, MORE_TRANSACTIONS]);
        self.both(&ours, &theirs, more)?;
        let database = read(&ours)?;
        let (to, collect) = (self.writer.time(&database), self.writer.dice.one_in(2));
        let again = self.pack(&ours, "again", to, collect);
        again.map(drop).map_err(|why| format!("the next pack, to {to}, collect: {collect}: {why}").into())
    }
}

fn copy(from: &Path, to: &Path) -> Outcome {
    clear(to);
    std::fs::copy(from, to)?;
    std::fs::copy(beside(from, ".index"), beside(to, ".index"))?;
    Ok(())
}

fn is_nothing(storage: &FileStorage, oid: Oid) -> Result<bool, Error> {
    match storage.load(oid, &Version::TRUNK) {
        Err(Error::KeyError { .. }) => Ok(true),
        other => other.map(|_| false),
    }
}

/// ZODB checks an index against the first five records of the last transaction that has any: see `forth.rs`.
fn zodb_trusts(database: &Database) -> bool {
    let last = database.transactions.iter().rfind(|transaction| !transaction.revisions.is_empty());
    let written: Vec<u64> = last.into_iter().flat_map(|t| &t.revisions).map(|revision| revision.oid).collect();
    written.iter().enumerate().take(5).all(|(n, oid)| !written[n + 1..].contains(oid))
}
