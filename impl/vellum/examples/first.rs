//! A first database: open it, commit, load, and walk the history. `cargo run -p vellum --example first [FILE]`

use std::path::PathBuf;

use vellum::{Error, Oid, OpenError, Options, Order, Tid, TidRange, TransactionMeta, Version};

/// Runs the example on a file.
pub fn run(path: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    // Opening. The error says why it failed: no file, a lock of another process, no database, damage.
    let storage = match Options::new().open_or_create(&path) {
        Err(OpenError::Locked { why, .. }) => return Err(format!("another process has it: {why}").into()),
        other => other?,
    };

    // A record is bytes; what they mean is the application's affair (ZODB's are two pickles).
    let oid = storage.new_oids(1)?[0];
    let mut change = storage.begin(TransactionMeta::new().user("ann").description("write a letter"))?;
    change.store(oid, Tid::ZERO, "Dear Bob".into())?;
    let written = storage.vote(change)?.finish()?;
    println!("{oid} was written at {written}, which is {}", written.time().ok_or("a clock gone mad")?);

    // To change it, say which revision was read: that is how a conflict is found.
    let letter = storage.load(oid, &Version::TRUNK)?;
    let mut change = storage.begin(TransactionMeta::new().user("ann").description("sign it"))?;
    change.store(oid, letter.tid, [&letter.data[..], b"\nYours, Ann"].concat().into())?;
    let signed = storage.vote(change)?.finish()?;

    // The past is still there.
    let before = storage.load_before(oid, signed)?.ok_or("it was there before")?;
    println!("before it was signed: {:?}", before.data);
    for entry in storage.history(oid, 10)? {
        println!("{}  {:>3} bytes  {:?}", entry.tid, entry.size, entry.description);
    }
    for transaction in storage.transactions(TidRange::from(written), Order::NewestFirst)? {
        let transaction = transaction?;
        println!("{} changed {} objects", transaction.tid, transaction.revisions.len());
    }

    // A missing object is an error of its own.
    match storage.load(Oid(oid.0 + 1), &Version::TRUNK) {
        Err(Error::KeyError { oid, .. }) => println!("there is no object {oid}"),
        other => return Err(format!("what should this be? {other:?}").into()),
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    run(std::env::args_os().nth(1).map_or_else(|| folder.path().join("Data.fs"), PathBuf::from))
}
