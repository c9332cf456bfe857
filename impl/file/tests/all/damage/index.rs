//! The `.index` is a hint. For all contents of that file, opening works, and no load gives wrong data: it gives the
//! right data, or an error that names the fault.

use crate::common::*;
use bytes::Bytes;
use vellum_disk::SimDisk;
use vellum_file::{Durability, FileStorage, Options};
use vellum_pickle::{Value, encode_into};
use vellum_storage::{Error, Loaded, Oid, Version};

const OBJECTS: u64 = 150;

/// A database of many small transactions, so that the newest do not vouch for all of it; half of its objects are full
/// of zeros, among which one could think to see records of object 0.
fn database() -> (SimDisk, Options) {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let options = options(&disk, &clock);
    let storage = options.create(PATH).unwrap();
    for n in 0..OBJECTS {
        clock.tick();
        let fill = if n % 2 == 0 { 0 } else { n as u8 };
        commit(&storage, "some", &[(n, Some(record(&vec![fill; 60 + n as usize])))]).unwrap();
    }
    drop(storage);
    (disk, options)
}

fn loads(storage: &FileStorage) -> Vec<Option<Loaded>> {
    let load = |n| match storage.load(Oid(n), &Version::TRUNK) {
        Ok(loaded) => Some(loaded),
        Err(Error::Damaged(damage)) => {
            assert!(damage.position > 0 && damage.to_string().contains("Data.fs, position"), "{damage}");
            None
        }
        Err(other) => panic!("{n}: {other}"),
    };
    (0..OBJECTS).map(load).collect()
}

/// An index that has these positions, and is good up to `end`.
fn index(end: u64, positions: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(&Value::Int(end as i64), &mut out);
    let suffixes = (0..positions.len() as u16).flat_map(|n| n.to_be_bytes());
    let entries = suffixes.chain(positions.iter().flat_map(|at| at.to_be_bytes()[2..].to_vec()));
    let pair = vec![Value::Bytes(Bytes::from_static(&[0; 6])), Value::Bytes(entries.collect())];
    encode_into(&Value::Tuple(pair), &mut out);
    encode_into(&Value::None, &mut out);
    out
}

/// How many loads were answered with damage.
fn held_against(disk: &SimDisk, options: &Options, index: &[u8], truth: &[Option<Loaded>], case: &str) -> usize {
    let before = disk.read_file(PATH).unwrap();
    disk.write_file("Data.fs.index", index);
    let found = {
        let storage = options.clone().read_only().open(PATH).unwrap_or_else(|e| panic!("{case}: {e}"));
        loads(&storage)
    };
    let mut damaged = 0;
    for (n, (found, truth)) in found.iter().zip(truth).enumerate() {
        damaged += usize::from(found.is_none());
        assert!(found.is_none() || found == truth, "{case}: object {n} is {found:?}, not {truth:?}");
    }
    assert!(disk.read_file(PATH).unwrap() == before, "{case}: the database changed");
    damaged
}

#[test]
fn an_index_cut_at_every_byte() {
    let (disk, options) = database();
    let good = disk.read_file("Data.fs.index").unwrap();
    let truth = loads(&options.open(PATH).unwrap());
    assert!(truth.iter().all(|t| t.is_some()));
    for length in 0..good.len() {
        assert_eq!(held_against(&disk, &options, &good[..length], &truth, &format!("cut at {length}")), 0);
    }
    println!("{} cuts", good.len());
}

#[test]
fn an_index_of_garbage() {
    let (disk, options) = database();
    let good = disk.read_file("Data.fs.index").unwrap();
    let truth = loads(&options.open(PATH).unwrap());
    let mut dice = Dice(5);
    let mut damaged = 0;
    for n in 0..1500 {
        let mut bytes = good.clone();
        match n % 3 {
            // Bits turned over.
            0 => (0..1 + dice.roll(4)).for_each(|_| bytes[dice.roll(good.len() as u64) as usize] ^= 1 << dice.roll(8)),
            // A stretch of chance.
            1 => {
                let at = dice.roll(good.len() as u64 - 20) as usize;
                bytes[at..at + 20].fill_with(|| dice.roll(256) as u8);
            }
            // Nothing but chance, in pickles' favourite bytes.
            _ => {
                let opcodes = b"\x80\x03(]}K\x01J\xff\xff\xff\x7fBT\x86q\x00tlaeN.";
                bytes.fill_with(|| opcodes[dice.roll(opcodes.len() as u64) as usize]);
            }
        }
        damaged += held_against(&disk, &options, &bytes, &truth, &format!("garbage {n}"));
    }
    println!("1500 indexes, {damaged} loads answered with damage");
}

#[test]
fn an_index_of_wrong_positions() {
    let (disk, options) = database();
    let storage = options.open(PATH).unwrap();
    let (truth, end) = (loads(&storage), storage.size());
    let right: Vec<u64> = (0..OBJECTS).map(|n| storage.newest_record(Oid(n)).unwrap().unwrap().position).collect();
    drop(storage);
    assert_eq!(index(end, &right), disk.read_file("Data.fs.index").unwrap(), "this is how it is made");
    let mut dice = Dice(6);
    let (mut cases, mut damaged) = (0, 0);
    let mut hold = |end: u64, positions: &[u64], case: String| {
        cases += 1;
        let found = held_against(&disk, &options, &index(end, positions), &truth, &case);
        // Where nothing is right it is not believed to begin with.
        assert!(found == 0 || !case.starts_with("rotated"), "{case}: {found}");
        damaged += found;
    };
    // Into the middle of a record, at every byte of one full of zeros and of one that is not; at other objects'
    // records.
    for n in [0, 2, 3, 51] {
        for by in 1..200 {
            for wrong in [right[n] + by, right[n] - by.min(right[n] - 30)] {
                let mut positions = right.clone();
                positions[n] = wrong;
                hold(end, &positions, format!("object {n} by {by}"));
            }
        }
    }
    // Object 0 where there are but zeros.
    for other in (10..OBJECTS as usize).step_by(2) {
        let mut positions = right.clone();
        positions[0] = right[other] + 65;
        hold(end, &positions, format!("object 0 in {other}"));
    }
    // Some at random; all at random; shifted; good up to a wrong position.
    for n in 0..200 {
        let mut positions = right.clone();
        for _ in 0..1 + dice.roll(5) {
            positions[dice.roll(OBJECTS) as usize] = 27 + dice.roll(end - 27);
        }
        hold(end, &positions, format!("random {n}"));
        positions.fill_with(|| 27 + dice.roll(end - 27));
        hold(end, &positions, format!("all random {n}"));
        let by = 1 + dice.roll(OBJECTS - 1) as usize;
        let mut rotated = right.clone();
        rotated.rotate_left(by);
        hold(end, &rotated, format!("rotated by {by}"));
        // All but those that the newest transactions vouch for.
        let mut rotated = right.clone();
        rotated[..100].rotate_left(1 + by % 99);
        hold(end, &rotated, format!("rotated except for the newest by {by}"));
        hold(end - 1 - dice.roll(end - 5), &right, format!("wrong end {n}"));
    }
    println!("{cases} indexes, {damaged} loads answered with damage");
    assert!(cases > 2000 && damaged > 100, "{cases} {damaged}");
}

#[test]
fn an_index_of_wrong_lengths() {
    let (disk, options) = database();
    let truth = loads(&options.open(PATH).unwrap());
    let end = options.open(PATH).unwrap().size();
    let pickles = |values: &[Value]| {
        let mut out = Vec::new();
        values.iter().for_each(|value| encode_into(value, &mut out));
        out
    };
    let bytes = |length: usize| Value::Bytes(vec![1; length].into());
    let int = |n: u64| Value::Int(n as i64);
    let mut cases = 0;
    for end in [0, 3, 4, 5, end - 1, end, end + 1, u64::MAX, u64::MAX / 2] {
        for prefix in [0, 1, 5, 6, 7, 8, 100] {
            for entries in [0, 1, 7, 8, 9, 15, 16, 1000] {
                let pair = Value::Tuple(vec![bytes(prefix), bytes(entries)]);
                let index = pickles(&[int(end), pair.clone(), Value::None]);
                assert_eq!(held_against(&disk, &options, &index, &truth, "wrong lengths"), 0);
                let index = pickles(&[pair, int(end), Value::None]);
                assert_eq!(held_against(&disk, &options, &index, &truth, "in the wrong order"), 0);
                cases += 2;
            }
        }
        for value in [Value::None, Value::Text("a".into()), Value::Tuple(vec![]), Value::List(vec![int(1)])] {
            let index = pickles(&[int(end), value.clone(), Value::None]);
            assert_eq!(held_against(&disk, &options, &index, &truth, "of other things"), 0);
            let index = pickles(&[value, Value::None]);
            assert_eq!(held_against(&disk, &options, &index, &truth, "of other things"), 0);
            cases += 2;
        }
    }
    // Nested as deep as it goes, and a length that promises more than there is.
    for byte in [b'(', b']', b'}', b'B', b'T', 0x95, 0x8a, 0x8b, 0xff] {
        assert_eq!(held_against(&disk, &options, &[byte; 20_000], &truth, "deep"), 0);
        cases += 1;
    }
    println!("{cases} indexes");
}

/// An index from which an object is missing, or where it is an older record, shows when a later transaction changes
/// that object. Then it is the index that is doubted, not the transaction.
#[test]
fn an_index_that_what_follows_contradicts() {
    let mut cases = 0;
    for durability in [Durability::Full, Durability::Relaxed] {
        let (disk, options) = database();
        let options = options.durability(durability);
        let storage = options.open(PATH).unwrap();
        let first: Vec<u64> = (0..OBJECTS).map(|n| storage.newest_record(Oid(n)).unwrap().unwrap().position).collect();
        commit(&storage, "again", &[(2, Some(record(b"two"))), (3, Some(record(b"three")))]).unwrap();
        for n in 100..OBJECTS {
            commit(&storage, "others", &[(n, Some(record(b"other")))]).unwrap();
        }
        let end = storage.size();
        let right: Vec<u64> = (0..OBJECTS).map(|n| storage.newest_record(Oid(n)).unwrap().unwrap().position).collect();
        commit(&storage, "the last", &[(2, Some(record(b"two, again"))), (3, None)]).unwrap();
        let answers = dump(&storage);
        drop(storage);
        let bytes = disk.read_file(PATH).unwrap();
        for n in [2, 3] {
            let mut older = right.clone();
            older[n] = first[n];
            let mut missing = Vec::new();
            encode_into(&Value::Int(end as i64), &mut missing);
            let others = || (0..OBJECTS as usize).filter(|other| *other != n);
            let suffixes = others().flat_map(|other| (other as u16).to_be_bytes());
            let entries = suffixes.chain(others().flat_map(|other| right[other].to_be_bytes()[2..].to_vec()));
            let pair = vec![Value::Bytes(Bytes::from_static(&[0; 6])), Value::Bytes(entries.collect())];
            encode_into(&Value::Tuple(pair), &mut missing);
            encode_into(&Value::None, &mut missing);
            for index in [index(end, &older), missing] {
                for options in [options.clone().read_only(), options.clone()] {
                    disk.write_file("Data.fs.index", &index);
                    let storage = options.open(PATH).unwrap();
                    assert_eq!(storage.recovery(), None);
                    assert_eq!(dump(&storage), answers);
                    cases += 1;
                }
                assert!(disk.read_file(PATH).unwrap() == bytes);
                assert!(!disk.paths().iter().any(|path| path.to_string_lossy().contains(".tr")));
            }
        }
    }
    assert_eq!(cases, 16);
}
