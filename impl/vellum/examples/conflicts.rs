//! Two writers at once: a conflict that is tried again, and one that a resolver merges. `cargo run -p vellum --example
//! conflicts`

use std::path::PathBuf;
use std::sync::Arc;

use vellum::{Bytes, Contested, Error, FileStorage, Oid, Options, Refusal, Resolver, Tid, TransactionMeta, Version};

fn number(record: &[u8]) -> i64 {
    std::str::from_utf8(record).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A counter: what both writers added, together.
#[derive(Debug)]
struct Counter;

impl Resolver for Counter {
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        let Contested { ancestor, committed, new, .. } = contested;
        Some((number(committed) + number(new) - number(ancestor)).to_string().into())
    }
}

/// Adds to the number in the object, reading again as often as another thread was faster.
fn add(storage: &FileStorage, oid: Oid, by: i64) -> Result<Tid, Error> {
    loop {
        let read = storage.load(oid, &Version::TRUNK)?;
        let mut change = storage.begin(TransactionMeta::new())?;
        change.store(oid, read.tid, (number(&read.data) + by).to_string().into())?;
        match storage.vote(change) {
            Ok(voted) => return voted.finish(),
            Err(Error::Refused(Refusal::Conflict { .. })) => continue,
            Err(other) => return Err(other),
        }
    }
}

/// Runs the example on a file that is not there yet; the number that it ends with, which should be 400.
pub fn run(path: PathBuf) -> Result<i64, Box<dyn std::error::Error>> {
    let storage = Options::new().create(&path)?;
    let mut change = storage.begin(TransactionMeta::new())?;
    change.store(Oid::ROOT, Tid::ZERO, "0".into())?;
    storage.vote(change)?.finish()?;
    // Without a resolver: a thread that comes too late tries again.
    std::thread::scope(|scope| {
        let adders: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..50).try_for_each(|_| add(&storage, Oid::ROOT, 1).map(drop)))).collect();
        adders.into_iter().try_for_each(|adder| adder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    drop(storage);

    // With one, no thread comes too late: all may have read the same old number.
    let storage = Options::new().resolver(Arc::new(Counter)).open(&path)?;
    let read = storage.load(Oid::ROOT, &Version::TRUNK)?;
    for _ in 0..200 {
        let mut change = storage.begin(TransactionMeta::new())?;
        change.store(Oid::ROOT, read.tid, (number(&read.data) + 1).to_string().into())?;
        storage.vote(change)?.finish()?;
    }
    Ok(number(&storage.load(Oid::ROOT, &Version::TRUNK)?.data))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    println!("{}", run(folder.path().join("Data.fs"))?);
    Ok(())
}
