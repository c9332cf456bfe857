//! The `.index` file: a correct one is used, whichever engine wrote it; any other is made again, and no answer is
//! wrong.
//!
//! Both engines open the same file with the same index beside it, and we look at three things: whether the index was
//! used, whether every object is as it should be, and whether the two leave the same index behind.

use std::path::Path;

use vellum_file::FileStorage;
use vellum_storage::{Oid, Tid};

use super::forth::mark;
use super::reads::sha256;
use super::script::Author;
use super::zodb::Zodb;
use super::{Ground, Trouble, beside, clear, ensure, same};
use crate::Outcome;

/// More than there are under one prefix of six bytes.
const DENSE: u64 = 70_000;

/// Every object, with its tid and what its data hashes to.
type Objects = Vec<(Oid, Tid, Option<String>)>;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut zodb = ground.zodb()?;
    let mut author = Author::new(ground.seed);
    let large = ground.path("large.fs");
    let sparse = (0..40).map(|n| Oid(DENSE + (3 << (n + 20)) + n));
    make(&mut zodb, &mut author, &large, &[(0..DENSE).map(Oid).chain(sparse).collect(), vec![Oid(5), Oid(DENSE + 1)]])?;
    let prefixes = both_ways(&mut zodb, &mut author, &large)?;

    // For every bad index both engines walk over the file, and a small one will do.
    let some = |from: u64| (from..from + 150).map(|n| Oid(n << (n % 5 * 9))).collect::<Vec<_>>();
    let small = ground.path("small.fs");
    make(&mut zodb, &mut Author::new(ground.seed + 1), &small, &[some(0)])?;
    let stale = std::fs::read(beside(&small, ".index"))?;
    let short = std::fs::read(&small)?;
    author = Author::new(ground.seed + 1);
    make(&mut zodb, &mut author, &small, &[some(0), some(100), some(50)])?;
    let good = std::fs::read(beside(&small, ".index"))?;
    let whole = std::fs::read(&small)?;
    let other = ground.path("other.fs");
    make(&mut zodb, &mut Author::new(ground.seed + 2), &other, &[some(7), some(0), some(90), some(3)])?;
    let foreign = std::fs::read(beside(&other, ".index"))?;
    ensure(whole.starts_with(&short), || "the shorter file is not the beginning of the longer one".to_owned())?;

    let mut cases = vec![
        ("a good one", &whole, Some(good.clone()), true),
        ("a stale one", &whole, Some(stale.clone()), true),
        ("none", &whole, None, false),
        ("one of another database", &whole, Some(foreign.clone()), false),
        ("bytes that are no index", &whole, Some(author.dice.bytes(good.len())), false),
    ];
    for length in [0, 1, 7, good.len() / 3, good.len() / 2, good.len() - 2, good.len() - 1] {
        cases.push(("a truncated one", &whole, Some(good[..length].to_vec()), false));
    }
    let count = cases.len();
    for (what, file, index, used) in cases {
        let path = ground.path("case.fs");
        case(&mut zodb, &path, file, index.as_deref(), used).map_err(|why| format!("{what}: {why}"))?;
    }
    // Where the index is ahead of the file, ZODB makes another one. We keep it: it is the only trace of the lost
    // objects.
    let path = ground.path("case.fs");
    clear(&path);
    std::fs::write(&path, &short)?;
    std::fs::write(beside(&path, ".index"), &good)?;
    ensure(FileStorage::open(&path).is_err_and(|e| e.to_string().contains("the index is kept")), || {
        "a file that is shorter than its index was opened for writing".to_owned()
    })?;
    ensure(std::fs::read(beside(&path, ".index"))? == good, || "the index of a cut file was replaced".to_owned())?;
    Ok(format!(
        "{} objects under {prefixes} prefixes, ZODB's index used by us and ours by ZODB; {count} indexes good and bad \
         beside a file, each used or made again by both, with the same answers and the same index in the end",
        DENSE + 40
    ))
}

/// Has ZODB make a file, with a transaction for each of these lists.
fn make(zodb: &mut Zodb, author: &mut Author, path: &Path, commits: &[Vec<Oid>]) -> Outcome {
    clear(path);
    zodb.open(path)?;
    for oids in commits {
        let changes = oids.iter().map(|&oid| author.store(oid, 20)).collect();
        let commit = author.commit(changes);
        let tid = zodb.commit(&commit)?;
        author.learn(&commit, tid);
    }
    Ok(zodb.close()?)
}

/// ZODB's index for us, then ours for ZODB; how many prefixes there are in it.
fn both_ways(zodb: &mut Zodb, author: &mut Author, path: &Path) -> Result<usize, Trouble> {
    let index = beside(path, ".index");
    let left = mark(&index)?;
    let ours = FileStorage::open(path)?;
    ensure(mark(&index)? == left, || "we did not use ZODB's index".to_owned())?;
    zodb.open_read_only(path)?;
    let objects = zodb.objects()?;
    zodb.close()?;
    same("objects", &seen(&ours)?, &objects)?;

    let changes = vec![author.store(Oid(DENSE / 2), 30), author.store(Oid(1 << 60), 30)];
    author.commit(changes).commit(&ours)?;
    let after = seen(&ours)?;
    drop(ours);
    let written = std::fs::read(&index)?;
    let opened = zodb.open(path)?;
    ensure(opened.used_index, || "ZODB did not use our index".to_owned())?;
    same("objects after our commit", &after, &zodb.objects()?)?;
    zodb.close()?;
    std::fs::remove_file(&index)?;
    ensure(!zodb.open(path)?.used_index, || "ZODB says that it used an index that is not there".to_owned())?;
    zodb.close()?;
    ensure(std::fs::read(&index)? == written, || "our index and the one ZODB makes anew differ".to_owned())?;
    let mut prefixes: Vec<u64> = after.iter().map(|(oid, ..)| oid.0 >> 16).collect();
    prefixes.dedup();
    Ok(prefixes.len())
}

/// Every object as we see it.
fn seen(storage: &FileStorage) -> Result<Objects, Trouble> {
    let records = storage.current_records(Oid::ROOT);
    Ok(records.map(|r| r.map(|r| (r.oid, r.tid, Some(sha256(&r.data))))).collect::<Result<_, _>>()?)
}

/// Opens this file with this index beside it, in both engines one after the other.
fn case(zodb: &mut Zodb, path: &Path, file: &[u8], index: Option<&[u8]>, used: bool) -> Outcome {
    let name = beside(path, ".index");
    let lay = || -> Outcome {
        clear(path);
        std::fs::write(path, file)?;
        index.map_or(Ok(()), |index| std::fs::write(&name, index))?;
        Ok(())
    };
    // The right answer is ZODB's without any index.
    clear(path);
    std::fs::write(path, file)?;
    zodb.open(path)?;
    let right = zodb.objects()?;
    zodb.close()?;

    lay()?;
    let left = mark(&name).ok();
    let ours = FileStorage::open(path)?;
    same("whether the index was used", &(mark(&name).ok() == left && left.is_some()), &used)?;
    same("objects", &seen(&ours)?, &right)?;
    drop(ours);
    let written = std::fs::read(&name)?;

    lay()?;
    let opened = zodb.open(path)?;
    same("whether the index is to be used", &used, &opened.used_index)?;
    same("objects that ZODB finds with and without the index", &right, &zodb.objects()?)?;
    zodb.close()?;
    ensure(std::fs::read(&name)? == written, || "the two leave different indexes".to_owned())
}
