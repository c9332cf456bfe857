//! Every header field of small databases is set to every wrong value, files are cut at every byte, and names lead to
//! things that are no databases. Each time there must be an error that says where and what, nothing on the disk may
//! change, `check` must find the place, and `recover` must save the rest.
//!
//! Whether a setting makes the file wrong at all is not left to the engine: [`parse`] is a second reader of the format,
//! which does nothing but say yes or no.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use vellum_disk::{Disk, DiskFile, Lock, Open, SimDisk};
use vellum_file::{Durability, FaultKind, OpenError, Options, ProblemKind, check, recover};
use vellum_storage::{Error, TransactionMeta};

// The second reader.

struct Transaction {
    start: u64,
    end: u64,
    records: Vec<Record>,
}

struct Record {
    start: u64,
    version_length: u64,
    data_length: u64,
    backpointer: u64,
}

fn number(file: &[u8], at: u64, width: u64) -> Option<u64> {
    let bytes = file.get(at as usize..at.checked_add(width)? as usize)?;
    Some(bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

/// The contents of a database; none if anything in it breaks the format.
fn parse(file: &[u8]) -> Option<Vec<Transaction>> {
    let mut transactions = Vec::new();
    let mut at = 4;
    let mut newest: HashMap<u64, u64> = HashMap::new();
    let mut records_at: HashMap<u64, (u64, Vec<u8>)> = HashMap::new();
    while at < file.len() as u64 {
        let (tid, length, status) = (number(file, at, 8)?, number(file, at + 8, 8)?, number(file, at + 16, 1)? as u8);
        let end = at.checked_add(length)?;
        let metadata = number(file, at + 17, 2)? + number(file, at + 19, 2)? + number(file, at + 21, 2)?;
        // That a tid is not later than the one before it is reported, and no reason to refuse the file.
        if !matches!(status, b' ' | b'p') || number(file, end, 8)? != length {
            return None;
        }
        let (mut position, mut records, mut touched) = (at + 23 + metadata, Vec::new(), Vec::new());
        while position < end {
            let field = |offset, width| number(file, position + offset, width);
            let (oid, previous) = (field(0, 8)?, field(16, 8)?);
            let (version_length, data_length) = (field(32, 2)?, field(34, 8)?);
            let found = newest.get(&oid).copied().unwrap_or(0);
            let chained = previous == found || (status == b'p' && previous == 0);
            if field(8, 8)? != tid || field(24, 8)? != at || !chained {
                return None;
            }
            let mut body = position + 42;
            let mut version = Vec::new();
            if version_length > 0 {
                version = file.get(body as usize + 16..(body + 16 + version_length) as usize)?.to_vec();
                let (trunk, before) = (field(42, 8)?, field(50, 8)?);
                if trunk != 0 && records_at.get(&trunk).is_none_or(|(o, v)| *o != oid || !v.is_empty()) {
                    return None;
                }
                if before != 0 && records_at.get(&before).is_none_or(|(_, v)| *v != version) {
                    return None;
                }
                body += 16 + version_length;
            }
            let mut backpointer = 0;
            if data_length == 0 {
                backpointer = number(file, body, 8)?;
                if backpointer != 0 && records_at.get(&backpointer).is_none_or(|(o, _)| *o != oid) {
                    return None;
                }
            }
            records_at.insert(position, (oid, version));
            touched.push((oid, position));
            records.push(Record { start: position, version_length, data_length, backpointer });
            position = body.checked_add(if data_length == 0 { 8 } else { data_length })?;
        }
        if position != end {
            return None;
        }
        newest.extend(touched);
        transactions.push(Transaction { start: at, end: end + 8, records });
        at = end + 8;
    }
    Some(transactions)
}

/// A number in a header: what it is called, where, and the transaction it is in.
struct Field {
    name: &'static str,
    at: u64,
    width: u64,
    within: Range<u64>,
}

fn fields_of_transaction(t: &Transaction) -> Vec<Field> {
    let header = [("tid", 0, 8), ("length", 8, 8), ("status", 16, 1), ("user", 17, 2), ("description", 19, 2)];
    let last = [("extension", 21, 2), ("trailing length", t.end - t.start - 8, 8)];
    let field = |&(name, offset, width)| Field { name, at: t.start + offset, width, within: t.start..t.end };
    header.iter().chain(&last).map(field).collect()
}

fn fields_of_record(t: &Transaction, r: &Record) -> Vec<Field> {
    let mut fields = vec![
        ("oid", 0, 8),
        ("record's tid", 8, 8),
        ("previous", 16, 8),
        ("transaction", 24, 8),
        ("version length", 32, 2),
        ("data length", 34, 8),
    ];
    if r.version_length > 0 {
        fields.extend([("trunk", 42, 8), ("previous in version", 50, 8)]);
    }
    if r.data_length == 0 {
        let version = if r.version_length > 0 { 16 + r.version_length } else { 0 };
        fields.push(("backpointer", 42 + version, 8));
    }
    let field = |(name, offset, width)| Field { name, at: r.start + offset, width, within: t.start..t.end };
    fields.into_iter().map(field).collect()
}

// The databases.

/// Every kind of transaction and record that we write.
fn small_database() -> Vec<u8> {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let commit = |what: &str, changes: &[(u64, Option<bytes::Bytes>)]| {
        clock.tick();
        commit(&storage, what, changes).unwrap();
    };
    commit("the first", &[(0, Some(record(b"root"))), (1, Some(record(b"one")))]);
    commit("nothing at all", &[]);
    commit("a second and a third", &[(1, Some(record(b"one again"))), (2, Some(record(&[7; 900])))]);
    commit("", &[(3, Some(record(b"twice"))), (3, Some(record(b"in one")))]);
    commit("a delete", &[(2, None), (0, Some(record(b"root again")))]);
    clock.tick();
    storage.commit(storage.begin(TransactionMeta::new()).unwrap()).unwrap();
    commit("the last", &[(1, Some(record(b"one, the last"))), (4, Some(record(&[0; 700])))]);
    drop(storage);
    disk.read_file(PATH).unwrap()
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(crate::common::golden(name)).unwrap()
}

fn disk_with(bytes: &[u8]) -> (SimDisk, Options) {
    let disk = SimDisk::new(1);
    disk.write_file(PATH, bytes);
    let options = options(&disk, &SharedClock::new());
    (disk, options)
}

// The expectations.

/// Whether a position within the place is named.
fn names_one(text: &str, place: &Range<u64>) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.parse().is_ok_and(|n| place.contains(&n)))
}

/// Damage at this place: `open` refuses and leaves everything as it is, `check` finds the place, `recover` loses
/// nothing but that one transaction, and makes of the rest a database without faults.
fn refused(case: &str, bytes: &[u8], place: &Range<u64>, transactions: u64) {
    let (disk, options) = disk_with(bytes);
    let before = everything(&disk);
    for options in [options.clone(), options.clone().read_only()] {
        let error = options.open(PATH).expect_err(case).to_string();
        assert!(error.starts_with("Data.fs, position "), "{case}: {error}");
        assert!(names_one(&error, place), "{case}: {place:?} is not named: {error}");
        assert!(everything_but_the_lock(&disk) == before, "{case}: something was changed");
    }
    let found = problems(&options, PATH);
    let right = |p: &vellum_file::Problem| place.contains(&p.position) || names_one(&p.kind.to_string(), place);
    assert!(found.iter().any(right), "{case}: {place:?} is not named: {found:#?}");
    let salvage = recover(&options, PATH, "out").unwrap_or_else(|e| panic!("{case}: {e}"));
    assert!(salvage.transactions + 1 >= transactions, "{case}: {salvage:#?}");
    assert_eq!(format_problems(&options, "out"), [], "{case}: {salvage:#?}");
    let saved = options.clone().read_only().open("out").unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(saved.recovery(), None, "{case}");
    dump(&saved);
    drop(saved);
    assert!(disk.read_file(PATH).unwrap() == bytes, "{case}: something was changed");
}

/// The last transaction, marked as finished, is cut: reading reports it, and shows the transactions before it. No
/// opening writes.
fn cut_short(case: &str, bytes: &[u8], last: &Transaction) {
    let (disk, options) = disk_with(bytes);
    let before = everything(&disk);
    let error = options.open(PATH).expect_err(case).to_string();
    assert!(error.contains("the last one in the file, marked as finished"), "{case}: {error}");
    let expected = dump(&disk_with(&bytes[..last.start as usize]).1.read_only().open(PATH).unwrap());
    let reading = options.clone().read_only().open(PATH).unwrap_or_else(|e| panic!("{case}: {e}"));
    let recovery = reading.recovery().unwrap_or_else(|| panic!("{case}: not noticed"));
    let short = recovery.short.unwrap_or_else(|| panic!("{case}: {recovery:?}"));
    assert_eq!((recovery.position, recovery.cut), (last.start, bytes.len() as u64 - last.start), "{case}");
    let tid = u64::from_be_bytes(bytes[last.start as usize..][..8].try_into().unwrap());
    assert_eq!((short.tid.0, short.length), (tid, last.end - last.start), "{case}");
    assert_eq!(dump(&reading), expected, "{case}");
    assert!(!problems(&options, PATH).is_empty(), "{case}: check finds nothing");
    let salvage = recover(&options, PATH, "out").unwrap_or_else(|e| panic!("{case}: {e}"));
    let lost: Vec<_> = salvage.lost.iter().map(|lost| (lost.position, lost.bytes)).collect();
    assert_eq!(lost, [(last.start, recovery.cut)], "{case}");
    disk.remove(Path::new("out")).unwrap();
    assert!(everything_but_the_lock(&disk) == before, "{case}: something was changed");
}

/// The remains of a commit after a crash, from `end` on: opening for writing cuts it off and keeps it beside.
fn cut_off(case: &str, bytes: &[u8], end: u64) {
    cut(case, bytes, end, false);
}

/// The same of zeros where a header should be: the former bytes are not known, so for `check` and `recover` it is lost.
fn blank(case: &str, bytes: &[u8], end: u64) {
    cut(case, bytes, end, true);
}

fn cut(case: &str, bytes: &[u8], end: u64, blank: bool) {
    let (disk, options) = disk_with(bytes);
    let before = everything(&disk);
    let whole = &bytes[..end as usize];
    let expected = dump(&disk_with(whole).1.read_only().open(PATH).unwrap());
    let cut = bytes.len() as u64 - end;

    let reading = options.clone().read_only().open(PATH).unwrap_or_else(|e| panic!("{case}: {e}"));
    let recovery = reading.recovery().unwrap_or_else(|| panic!("{case}: not noticed"));
    assert_eq!(
        (recovery.position, recovery.cut, &recovery.kept_in, recovery.completed),
        (end, cut, &None, 0),
        "{case}"
    );
    assert_eq!(dump(&reading), expected, "{case}");
    let found: Vec<_> = problems(&options, PATH);
    assert_eq!(recovery.blank, blank, "{case}");
    let unfinished = |p: &&vellum_file::Problem| match blank {
        false => p.kind == ProblemKind::UnfinishedEnd { bytes: cut },
        true => p.kind == ProblemKind::Format(FaultKind::NoHeader { bytes: cut, zeros: true }),
    };
    assert!(found.iter().find(unfinished).is_some_and(|p| p.position >= end), "{case}: {found:?}");
    let salvage = recover(&options, PATH, "out").unwrap_or_else(|e| panic!("{case}: {e}"));
    let lost: Vec<_> = salvage.lost.iter().map(|lost| (lost.position, lost.bytes)).collect();
    let (unfinished, expected_lost) = if blank { (0, vec![(end, cut)]) } else { (cut, vec![]) };
    assert_eq!((salvage.unfinished, lost), (unfinished, expected_lost), "{case}");
    assert!(disk.read_file("out").unwrap() == whole, "{case}");
    disk.remove(Path::new("out")).unwrap();
    assert!(everything(&disk) == before, "{case}: something was changed");

    let storage = options.open(PATH).unwrap_or_else(|e| panic!("{case}: {e}"));
    let recovery = storage.recovery().unwrap_or_else(|| panic!("{case}: not said"));
    assert_eq!((recovery.position, recovery.cut), (end, cut), "{case}");
    assert_eq!(recovery.kept_in.as_deref(), Some(Path::new("Data.fs.tr0")), "{case}");
    assert!(disk.read_file("Data.fs.tr0").unwrap() == bytes[end as usize..], "{case}");
    assert!(disk.read_file(PATH).unwrap() == whole, "{case}");
    assert_eq!(dump(&storage), expected, "{case}");
    drop(storage);
    assert_eq!(options.open(PATH).unwrap().recovery(), None, "{case}");
}

#[derive(Default, Debug)]
struct Counts {
    refused: usize,
    cut_off: usize,
    completed: usize,
    /// Left the file as it was.
    same: usize,
    /// Made another file, with nothing wrong in it.
    valid: usize,
}

fn set_every_field(name: &str, bytes: &[u8], fields: &[Field]) -> Counts {
    let mut counts = Counts::default();
    let transactions = parse(bytes).unwrap();
    let last = transactions.last().unwrap().start..bytes.len() as u64;
    for field in fields {
        let (at, width) = (field.at as usize, field.width as usize);
        let old = number(bytes, field.at, field.width).unwrap();
        let mut values = vec![0, u64::MAX, old.wrapping_add(1), old.wrapping_sub(1)];
        if field.name == "status" {
            values.push(u64::from(b'c'));
        }
        for value in values {
            let mut changed = bytes.to_vec();
            changed[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
            let case = format!("{name}: {} at {at} from {old} to {value}", field.name);
            if changed == bytes {
                counts.same += 1;
            } else if parse(&changed).is_some() {
                counts.valid += 1;
                let options = disk_with(&changed).1;
                options.open(PATH).unwrap_or_else(|e| panic!("{case}: {e}"));
                let faults = format_problems(&options, PATH);
                let is_order = |kind: &ProblemKind| {
                    matches!(kind, ProblemKind::Format(FaultKind::NotLater { .. } | FaultKind::NotEarlier { .. }))
                };
                assert!(
                    faults.iter().all(|problem| field.name == "tid" && is_order(&problem.kind)),
                    "{case}: {faults:?}"
                );
            } else if field.name == "status" && value == u64::from(b'c') && field.within == last {
                counts.cut_off += 1;
                cut_off(&case, &changed, field.within.start);
            } else if field.name == "status" && value == u64::from(b'c') {
                // Whole, and with finished transactions after it: a commit of several, cut among its marks.
                counts.completed += 1;
                let (disk, options) = disk_with(&changed);
                let storage = options.open(PATH).unwrap_or_else(|e| panic!("{case}: {e}"));
                assert_eq!(storage.recovery().map(|r| (r.position, r.cut, r.completed)), Some((field.at - 16, 0, 1)));
                drop(storage);
                assert!(disk.read_file(PATH).unwrap() == bytes, "{case}");
            } else {
                counts.refused += 1;
                refused(&case, &changed, &field.within, transactions.len() as u64);
            }
        }
    }
    println!("{name}: {counts:?}");
    counts
}

#[test]
fn every_header_field_of_a_small_database() {
    let bytes = small_database();
    let transactions = parse(&bytes).unwrap();
    let of = |t: &Transaction| {
        let mut fields = fields_of_transaction(t);
        fields.extend(t.records.iter().flat_map(|r| fields_of_record(t, r)));
        fields
    };
    let fields: Vec<_> = transactions.iter().flat_map(of).collect();
    let counts = set_every_field("small", &bytes, &fields);
    assert!(counts.refused > 350 && counts.cut_off == 1 && counts.completed == 6, "{counts:?}");
    assert!(counts.same + counts.valid < 100, "{counts:?}");
}

#[test]
fn every_header_field_of_a_database_with_versions() {
    let bytes = golden("versions.fs");
    let transactions = parse(&bytes).unwrap();
    let mut fields = Vec::new();
    let mut versions = 0;
    for transaction in &transactions {
        fields.extend(fields_of_transaction(transaction));
        for record in &transaction.records {
            versions += usize::from(record.version_length > 0);
            fields.extend(fields_of_record(transaction, record));
        }
    }
    assert!(versions >= 5, "{versions}");
    let counts = set_every_field("versions", &bytes, &fields);
    assert!(counts.refused > 600 && counts.cut_off == 1, "{counts:?}");
    assert!(counts.same + counts.valid < 250, "{counts:?}");
}

#[test]
fn every_header_field_around_backpointers() {
    let bytes = golden("undo.fs");
    let transactions = parse(&bytes).unwrap();
    let undone = |t: &&Transaction| t.records.iter().any(|r| r.backpointer != 0);
    let mut fields = Vec::new();
    let mut backpointers = 0;
    for transaction in transactions.iter().filter(undone).take(4) {
        fields.extend(fields_of_transaction(transaction));
        for record in transaction.records.iter().filter(|r| r.backpointer != 0).take(2) {
            backpointers += 1;
            fields.extend(fields_of_record(transaction, record));
        }
    }
    assert!(backpointers >= 4, "{backpointers}");
    let counts = set_every_field("undo", &bytes, &fields);
    assert!(counts.refused > 100, "{counts:?}");
}

#[test]
fn a_file_cut_at_every_byte_of_its_last_transaction() {
    for (name, bytes) in [("small", small_database()), ("versions", golden("versions.fs")), ("undo", golden("undo.fs"))]
    {
        let transactions = parse(&bytes).unwrap();
        let last = transactions.last().unwrap();
        let (mut torn, mut damaged) = (0, 0);
        for length in last.start + 1..last.end {
            let case = format!("{name}: cut at {length}");
            let bytes = &bytes[..length as usize];
            if length - last.start < 17 {
                torn += 1;
                cut_off(&case, bytes, last.start);
            } else {
                damaged += 1;
                cut_short(&case, bytes, last);
            }
            // The same in a commit that was not finished.
            if length - last.start >= 17 {
                let mut bytes = bytes.to_vec();
                bytes[last.start as usize + 16] = b'c';
                cut_off(&case, &bytes, last.start);
            }
        }
        assert_eq!(torn, 16);
        println!("{name}: {torn} cut off, {damaged} marked as finished, {damaged} cut off with status c");
    }
}

/// A sector that was never written is all zeros. It must be all of it, and the status must be in it.
#[test]
fn a_lost_sector() {
    let bytes = small_database();
    let start = parse(&bytes).unwrap().last().unwrap().start as usize;
    let whole = bytes[..start].to_vec();
    // Wherever the sectors are in what follows.
    for padding in (0..512).step_by(7) {
        let mut bytes = whole.clone();
        let clock = SharedClock::new();
        let (disk, storage) = {
            let (disk, _) = disk_with(&bytes);
            let storage = options(&disk, &clock).open(PATH).unwrap();
            (disk, storage)
        };
        commit(&storage, "padding", &[(9, Some(record(&vec![1; padding])))]).unwrap();
        let end = storage.size() as usize;
        commit(&storage, "the last", &[(1, Some(record(&[9; 1700])))]).unwrap();
        drop(storage);
        bytes = disk.read_file(PATH).unwrap();

        let status = end + 16;
        let sector = (status / 512 * 512).max(end)..(status / 512 + 1) * 512;
        let mut lost = bytes.clone();
        lost[sector.clone()].fill(0);
        // Where the header begins in the sector before, its first bytes are there, and fit.
        let is_blank = sector.start <= end;
        cut(&format!("{padding}: the sector {sector:?}"), &lost, end as u64, is_blank);
        lost[end..].fill(0);
        blank(&format!("{padding}: everything"), &lost, end as u64);
        // Some of it is there: then it was written.
        let mut damaged = lost.clone();
        damaged[sector.end - 1] = 1;
        let count = parse(&whole).unwrap().len() as u64 + 1;
        refused(&format!("{padding}: a sector except for a byte"), &damaged, &(end as u64..bytes.len() as u64), count);
    }
}

/// Only in a packed transaction a record may say that its object has no past. One that is not marked may be about to be
/// marked as packed; but here what follows says that it is not. The fuzz target `damaged_file` found that it was marked
/// as complete all the same, and that the next opening refused what this one had made.
#[test]
fn an_unmarked_transaction_without_a_past_among_complete_ones() {
    let whole = small_database();
    let transactions = parse(&whole).unwrap();
    let again = &transactions[2];
    let mut bytes = whole.clone();
    bytes[again.start as usize + 16] = b'c';
    let previous = again.records[0].start as usize + 16;
    assert_ne!(number(&bytes, previous as u64, 8), Some(0));
    bytes[previous..previous + 8].fill(0);
    refused("no past", &bytes, &(again.start..again.end), transactions.len() as u64);
}

/// A transaction that was never marked is finished if the next one, which shared its sync, is. If that one is damaged,
/// nothing says so, and nothing is cut off or marked: with relaxed durability neither.
#[test]
fn an_unmarked_transaction_before_a_damaged_one() {
    let whole = small_database();
    let transactions = parse(&whole).unwrap();
    let [.., unmarked, last] = &transactions[..] else { panic!("there are several") };
    let mut bytes = whole.clone();
    bytes[unmarked.start as usize + 16] = b'c';
    // Its first record names a past that is another object's: all else of it is whole.
    let previous = last.records[0].start as usize + 16;
    bytes[previous..previous + 8].copy_from_slice(&transactions[0].records[0].start.to_be_bytes());
    for durability in [Durability::Full, Durability::Relaxed] {
        let (disk, options) = disk_with(&bytes);
        let error = options.durability(durability).open(PATH).unwrap_err().to_string();
        assert!(error.contains("was never marked as finished"), "{durability:?}: {error}");
        assert_eq!(disk.read_file(PATH).unwrap(), bytes, "{durability:?}");
    }
}

/// A stored record may look like a transaction. The remains of its commit after a crash are still no damage.
#[test]
fn a_torn_commit_of_what_looks_like_a_transaction() {
    let mut decoy = [0x7000_0000_0000_0000_u64.to_be_bytes(), 23_u64.to_be_bytes()].concat();
    decoy.extend_from_slice(&[b' ', 0, 0, 0, 0, 0, 0]);
    decoy.extend_from_slice(&23_u64.to_be_bytes());
    let before = small_database();
    let (disk, options) = disk_with(&before);
    let storage = options.open(PATH).unwrap();
    commit(&storage, "a decoy", &[(8, Some(record(&[&decoy[..], &[1; 300]].concat())))]).unwrap();
    drop(storage);
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes[before.len() + 16] = b'c';
    for cut in [0, 1, 50, 200] {
        cut_off(&format!("{cut} bytes less"), &bytes[..bytes.len() - cut], before.len() as u64);
    }
}

// Things that are no databases.

/// Refused by everything, with this in the text; and nothing changes.
fn no_database(disk: &SimDisk, options: &Options, path: &str, says: &str) {
    let before = everything(disk);
    let open = |options: &Options| options.open(path).map(drop);
    let outcomes = [
        ("open", open(options)),
        ("open read-only", open(&options.clone().read_only())),
        ("check", check(options, path, &mut |_| ()).map(drop)),
        ("recover", recover(options, path, "out").map(drop)),
    ];
    for (what, outcome) in outcomes {
        let error = outcome.expect_err(what).to_string();
        assert!(error.contains(path) && error.contains(says), "{what} {path}: {error}");
    }
    assert!(everything_but_the_lock(disk) == before, "{path}: something was changed");
}

#[test]
fn what_is_no_database() {
    let disk = SimDisk::new(1);
    let options = options(&disk, &SharedClock::new());
    let mut cases = 0;
    let mut other_magic = small_database();
    other_magic[..4].copy_from_slice(b"FS20");
    let contents: &[(&[u8], &str)] = &[
        (b"", "empty"),
        (b"F", "not a database"),
        (b"FS3", "not a database"),
        (b"Dear Sir or Madam,\n", "`Dear`"),
        (b"\0\0\0\0\0\0\0\0", "not a database"),
        (&other_magic, "before 2000"),
    ];
    for (bytes, says) in contents {
        disk.write_file(PATH, bytes);
        no_database(&disk, &options, PATH, says);
        cases += 1;
    }
    no_database(&disk, &options, "elsewhere/Data.fs", "there is no such file");
    disk.make_directory("folder");
    no_database(&disk, &options, "folder", "directory");
    // A database to which nothing was ever committed is one.
    for bytes in [b"FS21", b"FS30"] {
        disk.write_file(PATH, bytes);
        assert_eq!(options.open(PATH).unwrap().object_count(), 0);
    }
    // The same on the machine's own disk.
    let folder = tempfile::tempdir().unwrap();
    let real = Options::new();
    assert!(matches!(real.open(folder.path()), Err(OpenError::Directory { .. })));
    assert!(matches!(real.open(folder.path().join("none")), Err(OpenError::NotFound { .. })));
    assert!(real.create(folder.path()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a file was left");
    println!("{} files that are no databases", cases + 2);
}

#[test]
fn creating_over_what_is_there() {
    let contents = [small_database(), b"a letter".to_vec(), Vec::new()];
    for bytes in &contents {
        let (disk, options) = disk_with(bytes);
        disk.write_file("Data.fs.index", b"something");
        let before = everything(&disk);
        let error = options.create(PATH).unwrap_err();
        assert!(matches!(error, OpenError::Exists { .. }), "{error}");
        assert!(error.to_string().contains("Data.fs: there is a file already"), "{error}");
        assert!(everything(&disk) == before);
        let error = recover(&options, PATH, PATH).unwrap_err();
        assert!(bytes.len() < 10 || matches!(error, OpenError::Exists { .. }), "{error}");
        assert!(everything(&disk) == before);
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, index) = (folder.path().join("a"), folder.path().join("a.index"));
    std::fs::create_dir(&path).unwrap();
    std::fs::write(&index, b"something").unwrap();
    let error = Options::new().create(&path).unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    assert_eq!(std::fs::read(&index).unwrap(), b"something");
}

#[test]
fn a_locked_file() {
    let (disk, options) = disk_with(&small_database());
    let first = options.open(PATH).unwrap();
    let before = everything(&disk);
    for error in [options.open(PATH).unwrap_err(), options.open_or_create(PATH).unwrap_err()] {
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("Data.fs: in use: "), "{error}");
        assert!(error.to_string().contains("process 1"), "{error}");
    }
    assert!(everything(&disk) == before, "something was changed");
    // Reading needs no lock.
    assert_eq!(dump(&options.clone().read_only().open(PATH).unwrap()), dump(&first));
    assert_eq!(problems(&options, PATH).len(), problems(&options, PATH).len());
    drop(first);
    options.open(PATH).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PATH);
    let first = Options::new().create(&path).unwrap();
    let error = Options::new().open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(first);
    Options::new().open(&path).unwrap();
}

/// A disk whose permissions another user sets.
#[derive(Debug)]
struct Guarded {
    disk: SimDisk,
    may_read: bool,
    may_write: bool,
}

impl Guarded {
    fn ask(&self, yes: bool) -> io::Result<()> {
        if yes { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl Disk for Guarded {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(if how == Open::Read { self.may_read } else { self.may_write })?;
        self.disk.open(path, how)
    }

    fn scratch(&self, near: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.scratch(near)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(self.may_write)?;
        self.disk.rename(from, to)
    }

    fn link(&self, path: &Path, name: &Path) -> io::Result<()> {
        self.ask(self.may_write)?;
        self.disk.link(path, name)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask(self.may_write)?;
        self.disk.remove(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.ask(self.may_write)?;
        self.disk.lock(path)
    }
}

#[test]
fn no_permission() {
    for (may_read, may_write) in [(false, false), (true, false)] {
        let (disk, options) = disk_with(&small_database());
        let before = everything(&disk);
        let options = options.disk(Arc::new(Guarded { disk: disk.clone(), may_read, may_write }));
        let error = options.open(PATH).unwrap_err();
        assert!(
            matches!(&error, OpenError::Storage(Error::Io { source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied),
            "{error}"
        );
        let file = if may_read { "Data.fs.lock: taking the lock: permission denied" } else { "Data.fs: opening: " };
        assert!(error.to_string().contains(file), "{error}");
        assert!(options.create("another").unwrap_err().to_string().contains("another"));
        let reading = options.clone().read_only().open(PATH);
        assert_eq!(reading.is_ok(), may_read);
        assert!(recover(&options, PATH, "out").is_err());
        assert_eq!(check(&options, PATH, &mut |_| ()).is_ok(), may_read);
        assert!(everything(&disk) == before, "something was changed");
    }
}
