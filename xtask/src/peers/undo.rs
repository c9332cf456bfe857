//! Histories with undo, with the same tids, make the same bytes.
//!
//! Any transaction may be undone, or two or three at once, whether that can be done or not: undos of changes, of
//! creations, of deletions, and of undos. Both engines must agree on it, except in one case: if an object is deleted by
//! way of several undos, ZODB does not see that the undone state is still current. Transactions that wrote an object
//! twice are left out, as ZODB undoes them record by record; and empty ones, as it
//! does not find one at the beginning of the file.

use vellum_file::{Durability, FileStorage, Options};
use vellum_storage::{Error, Oid, Order, Refusal, Tid, TidRange, TransactionRecord, Version};

use super::script::{Author, Change};
use super::zodb::Zodb;
use super::{Ground, Trouble, beside, clear, ensure, same, same_files};
use crate::Outcome;

const TRANSACTIONS: usize = 25;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let (mut zodb, mut counts) = (ground.zodb()?, Counts::default());
    for n in 0..ground.histories {
        let seed = ground.seed.wrapping_mul(1_000_033).wrapping_add(n);
        history(ground, &mut zodb, seed, &mut counts).map_err(|why| format!("history {n} (seed {seed}): {why}"))?;
    }
    let Counts { commits, undos, merged, refused, judged } = counts;
    ensure(ground.histories < 20 || (undos > 0 && refused > 0 && merged > 0), || {
        "the dice never undid anything".to_owned()
    })?;
    Ok(format!(
        "{} histories, {commits} commits, {undos} with undos, {merged} of which merged, {refused} refused by both, {judged} by ZODB alone; \
         files and indexes the same",
        ground.histories
    ))
}

#[derive(Default)]
struct Counts {
    commits: u64,
    undos: u64,
    merged: u64,
    refused: u64,
    judged: u64,
}

fn history(ground: &Ground, zodb: &mut Zodb, seed: u64, counts: &mut Counts) -> Outcome {
    let _ = zodb.close();
    let mut author = Author::few(seed);
    let paths = [ground.path("ours.fs"), ground.path("zodb.fs")];
    paths.iter().for_each(|path| clear(path));
    let durability = [Durability::Full, Durability::Relaxed][seed as usize % 2];
    let ours = Options::new().durability(durability).spill_after(author.dice.pick(&[0, 1 << 20])).create(&paths[0])?;
    zodb.open(&paths[1])?;
    let mut undoable: Vec<Tid> = Vec::new();
    for _ in 0..TRANSACTIONS {
        let is_undo = !undoable.is_empty() && author.dice.one_in(2);
        let commit = if is_undo {
            let count = author.dice.pick(&[1, 1, 1, 2, 3]);
            let changes = (0..count).map(|_| {
                let recent = undoable.len().saturating_sub(author.dice.pick(&[1, 2, 5, 100]));
                let n = recent + author.dice.below((undoable.len() - recent) as u64) as usize;
                Change::Undo { tid: undoable[n] }
            });
            let changes = changes.collect();
            author.commit(changes)
        } else {
            author.accepted()
        };
        counts.commits += 1;
        counts.undos += u64::from(is_undo);
        let (voted, theirs) = (commit.vote(&ours), zodb.vote(&commit));
        match (voted, theirs) {
            (Ok(voted), Ok(())) => {
                let touched = voted.touched().to_vec();
                let tid = voted.finish()?;
                same("tid of a commit", &tid, &zodb.finish()?)?;
                if is_undo {
                    let written = ours.transactions(TidRange { first: tid, last: tid }, Order::OldestFirst)?;
                    let own = |t: TransactionRecord| t.revisions.iter().any(|r| r.source.is_none() && r.data.is_some());
                    counts.merged += written.flatten().any(own) as u64;
                }
                author.learn_state(tid, &touched, |oid| is_nothing(&ours, oid))?;
                let once = commit.written().len() == touched.len() || (is_undo && commit.changes.len() == 1);
                if once && !touched.is_empty() {
                    undoable.push(tid);
                }
            }
            (Err(ours), Err(theirs)) => {
                let agreed = matches!(ours, Error::Refused(Refusal::UndoConflict { .. }))
                    && theirs.class() == Some("MultipleUndoErrors");
                ensure(agreed, || format!("{commit:?}: we say {ours:?}, ZODB says {theirs:?}"))?;
                counts.refused += 1;
            }
            (Ok(voted), Err(theirs)) => {
                let mut nothing = false;
                for &oid in voted.touched() {
                    nothing |= is_nothing(&ours, oid)?;
                }
                ensure(is_undo && nothing, || format!("{commit:?}: ZODB alone says {theirs:?}"))?;
                counts.judged += 1;
            }
            (Err(ours), Ok(())) => return Err(format!("{commit:?}: we alone say {ours}").into()),
        }
        same_files("the files", &paths[0], &paths[1])?;
    }
    drop(ours);
    zodb.close()?;
    same_files("the indexes", &beside(&paths[0], ".index"), &beside(&paths[1], ".index"))
}

fn is_nothing(storage: &FileStorage, oid: Oid) -> Result<bool, Error> {
    match storage.load(oid, &Version::TRUNK) {
        Err(Error::KeyError { .. }) => Ok(true),
        other => other.map(|_| false),
    }
}
