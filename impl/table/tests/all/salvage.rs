//! Salvaging damaged tables: all that can be read comes along, no wrong record does, and what is lost is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Once};

use vellum_disk::SimDisk;
use vellum_storage::{
    Bytes, MemoryStorage, Oid, Order, Storage, Tid, TidRange, TransactionMeta, TransactionRecord, Version,
};
use vellum_table::{OpenError, Options, Salvage};

use crate::common::PATH;
use crate::damage::{Dice, with};

const PAGE: usize = 4096;

fn options(disk: &SimDisk) -> Options {
    Options::new().disk(Arc::new(disk.clone())).cache_bytes(0)
}

/// A database of 200 objects in 250 transactions, with an undo, deletions and, if asked for, a version.
fn made(with_version: bool) -> (Vec<u8>, Vec<TransactionRecord>) {
    let disk = SimDisk::new(0);
    let storage = options(&disk).create(PATH).unwrap();
    let mut serials: BTreeMap<u64, Tid> = BTreeMap::new();
    for n in 0..250_u64 {
        let oid = n * 7 % 200;
        let meta = TransactionMeta::new().user(format!("user {n}")).description(format!("change {n}"));
        let mut draft = storage.begin(meta).unwrap();
        let serial = serials.get(&oid).copied().unwrap_or(Tid::ZERO);
        let record = Bytes::from(format!("record {n} of object {oid}, {}", "and more of it. ".repeat(n as usize % 40)));
        match n {
            n if n % 25 == 24 && serial != Tid::ZERO => draft.delete(Oid(oid), serial).unwrap(),
            n if n % 30 == 29 && with_version => {
                draft.store_in(&Version::named("draft"), Oid(oid), serial, record).unwrap();
            }
            _ => draft.store(Oid(oid), serial, record).unwrap(),
        }
        let Ok(tid) = storage.commit(draft) else { continue };
        serials.insert(oid, tid);
    }
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.undo(storage.last_transaction()).unwrap();
    storage.commit(draft).unwrap();
    let all = transactions(&storage);
    drop(storage);
    (disk.read_file(PATH).unwrap(), all)
}

/// The store panics at damaged pages. Those panics are caught, and say nothing here.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.location().is_some_and(|place| place.file().contains("tests")) {
                loud(panic);
            }
        }));
    });
}

fn transactions(storage: &dyn Storage) -> Vec<TransactionRecord> {
    storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(Result::unwrap).collect()
}

fn salvage(bytes: &[u8]) -> Result<(Salvage, Vec<TransactionRecord>), OpenError> {
    let wreck = options(&with(bytes)).open_wreck(PATH)?;
    let to = options(&SimDisk::new(0)).create("new.vellum")?;
    let salvage = wreck.copy_to(&to, &mut |_| ())?;
    let mut problems = Vec::new();
    to.check(&mut |problem| problems.push(problem)).unwrap();
    assert_eq!(problems, []);
    Ok((salvage, transactions(&to)))
}

#[test]
fn of_sound_tables_all_is_saved() {
    for with_version in [false, true] {
        let (bytes, all) = made(with_version);
        let (salvage, saved) = salvage(&bytes).unwrap();
        assert!(salvage.is_whole(), "{salvage:?}");
        assert!(saved == all, "another history came out");
        assert_eq!(salvage.transactions, all.len() as u64);
    }
}

/// Each wrong answer would be silent: a record that was never stored, a revision that is neither there nor told of.
fn compare(salvage: &Salvage, saved: &[TransactionRecord], all: &[TransactionRecord], at: usize) -> usize {
    let by_key = |all: &[TransactionRecord]| -> BTreeMap<(Tid, Oid), Option<Bytes>> {
        let revisions = all.iter().flat_map(|t| t.revisions.iter().map(|r| ((t.tid, r.oid), r.data.clone())));
        revisions.collect()
    };
    let (before, after) = (by_key(all), by_key(saved));
    for (key, data) in &after {
        assert_eq!(before.get(key), Some(data), "damage at {at}: a wrong revision {key:?}: {salvage:?}");
    }
    let missing: Vec<_> = before.keys().filter(|key| !after.contains_key(key)).collect();
    let has_gap = |table: &str| salvage.gaps.iter().any(|gap| gap.table == table);
    let is_unknown = (has_gap("transactions") && has_gap("places")) || !salvage.rows.is_empty();
    for (tid, oid) in &missing {
        let is_told = is_unknown || salvage.revisions_lost.contains(&(*oid, *tid));
        assert!(is_told, "damage at {at}: object {oid} of {tid} is lost silently: {salvage:?}");
    }
    let texts: BTreeMap<_, _> = all.iter().map(|t| (t.tid, (&t.user, &t.description, t.status))).collect();
    for t in saved {
        let is_right = texts[&t.tid] == (&t.user, &t.description, t.status);
        let is_told = salvage.without_texts.contains(&t.tid) || salvage.has_wrong_sums || salvage.facts.is_some();
        assert!(is_right || is_told, "damage at {at}: the texts of {} are wrong: {salvage:?}", t.tid);
    }
    if salvage.is_whole() {
        assert!(saved == all, "damage at {at}: the report says that all was saved");
    }
    missing.len()
}

#[test]
fn a_damaged_page_costs_little_and_nothing_is_lost_silently() {
    hush();
    for with_version in [false, true] {
        let (bytes, all) = made(with_version);
        let revisions: usize = all.iter().map(|t| t.revisions.len()).sum();
        let (mut refused, mut hit, mut kept) = (0, 0, 0);
        let mut dice = Dice(3);
        for page in 1..bytes.len() / PAGE {
            let mut damaged = bytes.clone();
            damaged[page * PAGE..(page + 1) * PAGE].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
            match salvage(&damaged) {
                Err(OpenError::Damaged { why, .. }) => {
                    println!("page {page}: {why}");
                    refused += 1;
                }
                Err(other) => panic!("page {page}: {other}"),
                Ok((salvage, saved)) => {
                    let lost = compare(&salvage, &saved, &all, page * PAGE);
                    hit += usize::from(!salvage.is_whole());
                    kept += usize::from(lost * 4 < revisions);
                }
            }
        }
        let pages = bytes.len() / PAGE - 1;
        println!(
            "{pages} pages: {refused} refused, {hit} reported, {kept} with at most a fourth of the revisions lost"
        );
        assert!(hit > 10 && kept > pages / 2, "{pages} {refused} {hit} {kept}");
    }
}

/// A machine stopped, and a page was damaged, too: the store would refuse to repair that.
#[test]
fn a_file_that_was_not_closed_is_salvaged() {
    hush();
    let disk = SimDisk::new(0);
    let storage = options(&disk).create(PATH).unwrap();
    for oid in 0..200 {
        let mut draft = storage.begin(TransactionMeta::new().description(format!("object {oid}"))).unwrap();
        draft.store(Oid(oid), Tid::ZERO, format!("record {oid}, {}", "and more. ".repeat(30)).into()).unwrap();
        storage.commit(draft).unwrap();
    }
    let (bytes, all) = (disk.read_file(PATH).unwrap(), transactions(&storage));
    let (whole, saved) = salvage(&bytes).unwrap();
    assert!(whole.is_whole() && saved == all, "{whole:?}");
    let (mut refused, mut kept, mut dice) = (0, 0, Dice(5));
    for _ in 0..40 {
        let mut damaged = bytes.clone();
        let page = 1 + dice.below(bytes.len() as u64 / PAGE as u64 - 1) as usize;
        damaged[page * PAGE..(page + 1) * PAGE].fill(0);
        match salvage(&damaged) {
            Err(OpenError::Damaged { .. }) => refused += 1,
            Err(other) => panic!("page {page}: {other}"),
            Ok((salvage, saved)) => {
                let lost = compare(&salvage, &saved, &all, page * PAGE);
                kept += usize::from(lost < 100);
            }
        }
    }
    println!("{refused} refused, {kept} with less than half of it lost");
    assert!(kept > 30, "{refused} {kept}");
    // The end is missing, and then all but the beginning.
    for length in (0..bytes.len()).step_by(bytes.len() / 20) {
        if let Ok((salvage, saved)) = salvage(&bytes[..length]) {
            compare(&salvage, &saved, &all, length);
            assert!(!salvage.is_whole() || saved == all);
        }
    }
}

#[test]
fn a_few_damaged_bytes_give_no_other_record() {
    hush();
    let (bytes, all) = made(true);
    let (mut refused, mut reported, mut dice) = (0, 0, Dice(11));
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        let length = 1 + dice.below(16) as usize;
        let at = PAGE + dice.below((damaged.len() - PAGE - length) as u64) as usize;
        damaged[at..at + length].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
        match salvage(&damaged) {
            Err(OpenError::Damaged { .. } | OpenError::NotATable { .. }) => refused += 1,
            Err(other) => panic!("{at}: {other}"),
            Ok((salvage, saved)) => {
                compare(&salvage, &saved, &all, at);
                reported += usize::from(!salvage.is_whole());
            }
        }
    }
    println!("{refused} refused, {reported} reported");
    assert!(reported > 20, "{refused} {reported}");
}

/// The other storage need not take many transactions at once.
#[test]
fn a_storage_of_any_kind_takes_it() {
    let (bytes, all) = made(true);
    let wreck = options(&with(&bytes)).open_wreck(PATH).unwrap();
    let to = MemoryStorage::new("memory");
    assert!(wreck.copy_to(&to, &mut |_| ()).unwrap().is_whole());
    assert!(transactions(&to) == all);
    // The file stays locked as long as it is read.
    let disk = with(&bytes);
    let _wreck = options(&disk).open_wreck(PATH).unwrap();
    assert!(matches!(options(&disk).open(PATH), Err(OpenError::Locked { .. })));
}

#[test]
fn what_is_no_table_is_refused() {
    for content in [&b"FS30 and so on"[..], b"", b"redb\x1a\x0a\xa9\x0d\x0a"] {
        let refused = options(&with(content)).open_wreck(PATH).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::NotATable { .. } | OpenError::Damaged { .. }), "{refused}");
    }
    let refused = options(&SimDisk::new(0)).open_wreck(PATH).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::NotFound { .. }), "{refused}");
}
