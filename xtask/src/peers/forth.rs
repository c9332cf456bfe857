//! One file, opened by one engine and then by the other, each of which commits more.
//!
//! Each engine finds the `.index` that the other left, and must use it. While one has the file open for writing, the
//! other may only read. The check compares all that the two then read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vellum_file::{Durability, FileStorage, OpenError, Options};

use super::reads::{LastTransaction, compare};
use super::script::{Author, Commit};
use super::zodb::Zodb;
use super::{Ground, Trouble, beside, ensure, same};
use crate::Outcome;

const SESSIONS: u64 = 40;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut forth = Forth {
        zodb: ground.zodb()?,
        author: Author::new(ground.seed),
        last_written: None,
        commits: 0,
        answers: 0,
        believed: 0,
    };
    let path = ground.path("Data.fs");
    drop(FileStorage::create(&path)?);
    for session in 0..SESSIONS {
        let turn = if session % 2 == 0 { forth.ours(&path, session) } else { forth.zodbs(&path) };
        turn.map_err(|why| format!("session {session}: {why}"))?;
    }
    let Forth { commits, answers, believed, .. } = forth;
    ensure(believed > 0, || "ZODB never had an index of ours that it should use".to_owned())?;
    Ok(format!(
        "{SESSIONS} sessions, {commits} commits, {answers} answers the same; our indexes used by ZODB {believed} times"
    ))
}

struct Forth {
    zodb: Zodb,
    author: Author,
    /// The last transaction with records in it.
    last_written: Option<Commit>,
    commits: u64,
    answers: u64,
    believed: u64,
}

impl Forth {
    fn commits(
        &mut self,
        mut commit: impl FnMut(&mut Zodb, &Commit) -> Result<vellum_storage::Tid, Trouble>,
    ) -> Outcome {
        for _ in 0..=self.author.dice.below(6) {
            // ZODB does not open a file of nothing but empty transactions if there is an index beside it.
            let next = if self.commits == 0 { self.author.accepted_with_records() } else { self.author.accepted() };
            let tid = commit(&mut self.zodb, &next)?;
            self.author.learn(&next, tid);
            self.commits += 1;
            if !next.written().is_empty() {
                self.last_written = Some(next);
            }
        }
        Ok(())
    }

    /// We write, and ZODB looks on.
    fn ours(&mut self, path: &Path, session: u64) -> Outcome {
        let index = beside(path, ".index");
        let left = mark(&index)?;
        let durability = if session.is_multiple_of(4) { Durability::Full } else { Durability::Relaxed };
        let ours = Options::new().durability(durability).open(path)?;
        same("a repair of a file that nothing is wrong with", &ours.recovery(), &None)?;
        ensure(mark(&index)? == left, || "ZODB's index was not used: we made it again".to_owned())?;
        self.commits(|_, commit| Ok(commit.commit(&ours)?))?;

        let refused = self.zodb.open(path);
        let class = refused.as_ref().err().and_then(|e| e.class());
        ensure(class == Some("LockError"), || format!("ZODB was not kept out: {refused:?}"))?;
        self.zodb.open_read_only(path)?;
        self.answers += compare(&ours, &mut self.zodb, &mut self.author.dice, LastTransaction::Same)?;
        Ok(self.zodb.close()?)
    }

    /// ZODB writes, and we look on.
    fn zodbs(&mut self, path: &Path) -> Outcome {
        let opened = self.zodb.open(path)?;
        let sound = self.last_written.as_ref().is_some_and(zodb_trusts);
        same("whether our index is used", &sound, &opened.used_index)?;
        self.believed += u64::from(opened.used_index);
        self.commits(|zodb, commit| Ok(zodb.commit(commit)?))?;

        let refused = FileStorage::open(path);
        ensure(matches!(refused, Err(OpenError::Locked { .. })), || format!("we were not kept out: {refused:?}"))?;
        let ours = FileStorage::open_read_only(path)?;
        self.answers += compare(&ours, &mut self.zodb, &mut self.author.dice, LastTransaction::Same)?;
        Ok(self.zodb.close()?)
    }
}

/// ZODB checks an index against the first five records of the last transaction that has any, and turns even its own
/// down if one of them is not the last of its object in it.
fn zodb_trusts(last: &Commit) -> bool {
    let written = last.written();
    written.iter().enumerate().take(5).all(|(n, oid)| !written[n + 1..].contains(oid))
}

/// Which file this is: one that was written again is another.
pub fn mark(path: &Path) -> std::io::Result<(u64, i64, i64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}
