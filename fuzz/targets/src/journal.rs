//! Any bytes as a journal beside a good file.
//!
//! The file is either whole, as a killed process leaves it, or only the part that was synced. The journal is the real
//! one with changes, or any bytes. With `sealed`, all checksums fit again, as no damage could make them: then only the
//! contents can show that something is wrong.
//!
//! ```text
//!   site ─▶ Data.fs: synced part, or all ┐
//!        └▶ Data.fs.journal ─ changes ─▶ ┴─▶ read only ─▶ the synced part is there, nothing is written
//!                                            to write  ─▶ refused, nothing is changed; or a sound file
//! ```

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use vellum_disk::SimDisk;
use vellum_file::{Durability, FileStorage, Options};
use vellum_storage::{ManualClock, Oid, Order, Tid, TidRange, TransactionMeta, TransactionRecord};

use crate::site::{PATH, files};

const JOURNAL: &str = "Data.fs.journal";
/// Bytes of the journal.
const JOURNAL_BYTES: u64 = 36 << 10;
/// Commits to the journal: it goes round.
const COMMITS: u64 = 11;

/// The files that a crash leaves of a site.
struct Site {
    synced: Vec<u8>,
    whole: Vec<u8>,
    journal: Vec<u8>,
    /// The transactions of the synced part, and all.
    synced_transactions: Vec<TransactionRecord>,
    transactions: Vec<TransactionRecord>,
}

thread_local! {
    static SITE: OnceCell<Rc<Site>> = const { OnceCell::new() };
}

fn options(disk: &SimDisk) -> Options {
    let clock = ManualClock::at("2003-04-01T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH));
    clock.advance(SignedDuration::from_hours(1));
    let options = Options::new().disk(Arc::new(disk.clone())).clock(Arc::new(clock)).threads(1);
    options.durability(Durability::Journal).journal_bytes(JOURNAL_BYTES)
}

fn transactions(storage: &FileStorage) -> Vec<TransactionRecord> {
    let all = storage.transactions(TidRange::ALL, Order::OldestFirst).expect("a walk can begin");
    all.map(|transaction| transaction.expect("an opened file can be read")).collect()
}

fn made() -> Site {
    let disk = SimDisk::new(1);
    let storage = options(&disk).create(PATH).expect("an empty disk takes a database");
    for n in 0..COMMITS {
        let oid = Oid(n % 4);
        let serial = storage.newest_record(oid).expect("it can be read").map_or(Tid::ZERO, |record| record.header.tid);
        let mut change = storage.begin(TransactionMeta::new().user("ann")).expect("it is open");
        let state = vec![b'a' + n as u8; [10, 300, 2000][(n % 3) as usize]];
        let record = [b"\x80\x03cm\nC\n.\x80\x03B", &(state.len() as u32).to_le_bytes()[..], &state, b"."].concat();
        change.store(oid, serial, record.into()).expect("it can be stored");
        storage.vote(change).and_then(|voted| voted.finish()).expect("it is committed");
    }
    let transactions_of = |disk: &SimDisk| {
        let alone = SimDisk::new(2);
        alone.write_file(PATH, &disk.read_file(PATH).expect("it is there"));
        transactions(&options(&alone).open(PATH).expect("it is sound"))
    };
    let (lost, kept) = (disk.crash_losing_everything(), disk.crash_keeping_everything());
    let read = |disk: &SimDisk, path| disk.read_file(path).expect("it is there");
    Site {
        synced: read(&lost, PATH),
        whole: read(&kept, PATH),
        journal: read(&kept, JOURNAL),
        synced_transactions: transactions_of(&lost),
        transactions: transactions_of(&kept),
    }
}

/// Puts a journal beside a good file, and opens it.
pub fn journal(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else { return };
    let site = SITE.with(|site| Rc::clone(site.get_or_init(|| Rc::new(made()))));
    let (is_whole, is_sealed, is_any) = (how & 1 > 0, how & 2 > 0, how & 4 > 0);
    let mut journal = if is_any { rest.to_vec() } else { changed(&site.journal, rest) };
    if is_sealed {
        vellum_file::seal_journal(&mut journal);
    }
    let disk = SimDisk::new(3);
    disk.write_file(PATH, if is_whole { &site.whole } else { &site.synced });
    disk.write_file(JOURNAL, &journal);
    let must = if is_whole { &site.transactions } else { &site.synced_transactions };
    let before = files(&disk);
    let reader = options(&disk).read_only().open(PATH);
    let shown = reader.map(|reader| transactions(&reader));
    assert!(shown.as_ref().map_or(is_sealed, |shown| shown.starts_with(must)), "a reader lacks a part of a good file");
    let _ = vellum_file::check(&options(&disk), PATH, &mut |_| ());
    let _ = vellum_file::left_journal(&options(&disk), PATH);
    assert!(files(&disk) == before, "a reader has written");
    let Ok(opened) = options(&disk).open(PATH) else {
        assert!(files(&disk) == before, "a file that was refused was changed");
        return;
    };
    let there = transactions(&opened);
    assert!(there.starts_with(must), "a good file lost something");
    if !is_sealed {
        assert!(site.transactions.starts_with(&there), "a damaged journal was believed");
    }
    assert!(shown.is_ok_and(|shown| shown == there), "the writer sees something else than the reader");
    drop(opened);
    assert!(disk.read_file(JOURNAL).is_none(), "a clean close leaves no journal");
    let mut faults = Vec::new();
    let checked = vellum_file::check(&options(&disk), PATH, &mut |problem| faults.push(problem));
    faults.retain(|problem| matches!(problem.kind, vellum_file::ProblemKind::Format(_)));
    assert!(checked.is_ok() && faults.is_empty(), "the completed file is not sound: {faults:?}");
}

/// Changes a journal: three bytes of the input say where, and one says what.
fn changed(journal: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut journal = journal.to_vec();
    for change in changes.chunks_exact(4) {
        let at = u32::from_be_bytes([0, change[0], change[1], change[2]]) as usize % journal.len();
        match change[0] {
            0xff => journal.truncate(at.max(1)),
            _ => journal[at] = change[3],
        }
    }
    journal
}

/// Inputs to begin with.
pub fn seeds() -> BTreeMap<String, Vec<u8>> {
    // The real journal beside both files, changes of single bytes in its head and in entries, with and without new
    // checksums, and bytes that are no journal.
    let mut seeds = vec![vec![0], vec![1], vec![2], vec![3], b"\x04VELLJRN1".to_vec()];
    for how in [0, 1, 2, 3] {
        for at in [9, 41, 4096 + 33, 4096 + 39, 4096 + 47, 4096 + 55, 4096 + 80, 8192 + 100, 20480 + 39, 20480 + 90_u32]
        {
            let [_, high, middle, low] = at.to_be_bytes();
            seeds.push(vec![how, high, middle, low, 7]);
        }
    }
    seeds.into_iter().enumerate().map(|(n, seed)| (format!("seed-{n}"), seed)).collect()
}
