//! A good database, changed as its parts: transactions and records, with lengths, twins and pointers fixed up
//! afterwards.
//!
//! Bytes flipped in a file rarely get past the first check, as every length is written twice. So here a file is taken
//! apart ([`layout`]), the parts are changed as the dice say, and it is put together again: lengths fit, positions are
//! the new ones, and a pointer leads to the new place of its record. Only the dice make something wrong: a record that
//! is gone, two in another order, a pointer to another record or half into one, a length that
//! lies together with its twin, an end that is missing.
//!
//! ```text
//!   base ─ parse ─▶ transactions ─ edits ─▶ transactions ─ (chain anew) ─ write ─▶ bytes ─ lies, cuts ─▶ trial
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use arbitrary::Unstructured;
use vellum_disk::SimDisk;
use vellum_file::Durability;
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::{Dice, Seed};
use vellum_harness::hosted::Hosted;
use vellum_harness::run;
use vellum_harness::subject::Can;

use crate::layout;
use crate::site::{self, PATH};
use crate::trial::{self, How};

/// Changes a database as the bytes say, and holds it to what must hold of any.
pub fn damaged_file(input: &[u8]) {
    if let Some((file, index, how)) = file_of(input) {
        trial::hold(&file, index.as_deref(), How::of(how));
    }
}

/// The file that the bytes describe, its index, and how to treat it: for the target, and for a person who examines a
/// finding.
pub fn file_of(input: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>, u8)> {
    let (&[base, how], rest) = input.split_first_chunk::<2>()?;
    let (file, index) = damaged(&base_of(base), &mut Unstructured::new(rest));
    Some((file, index, how))
}

/// A good database, and the index that was written when it was closed.
struct Base {
    file: Vec<u8>,
    index: Vec<u8>,
}

/// Those of the golden databases that are small, or the beginnings of the others.
const GOLDEN: &[&[u8]] = &[
    include_bytes!("../../../fixtures/golden/versions.fs"),
    include_bytes!("../../../fixtures/golden/undo.fs"),
    include_bytes!("../../../fixtures/golden/packed.fs"),
];

/// Bytes of a base.
const BASE_MAX: u64 = 12 << 10;

/// Steps of the histories that make the other bases.
const STEPS: usize = 40;

thread_local! {
    static BASES: RefCell<HashMap<u8, Rc<Base>>> = RefCell::default();
}

fn base_of(number: u8) -> Rc<Base> {
    BASES.with(|bases| {
        let mut bases = bases.borrow_mut();
        Rc::clone(bases.entry(number).or_insert_with(|| Rc::new(made(number))))
    })
}

fn made(number: u8) -> Base {
    let file = match GOLDEN.get(usize::from(number)) {
        Some(golden) => beginning(golden, BASE_MAX),
        None => of_history(u64::from(number)),
    };
    let index = index_of(&file);
    Base { file, index }
}

/// As many of its transactions as fit.
pub fn beginning(file: &[u8], bytes_max: u64) -> Vec<u8> {
    let transactions = layout::parse(file).expect("it is whole");
    let ends = transactions.iter().map(|transaction| transaction.end);
    let end = ends.take_while(|end| *end <= bytes_max).last().unwrap_or(4);
    file[..end as usize].to_vec()
}

/// The file that a history leaves on the disk.
pub fn of_history(seed: u64) -> Vec<u8> {
    let disk = SimDisk::new(0);
    let there = disk.clone();
    let opener = move |opening| site::open(&there, Durability::Full, u64::MAX, opening);
    let can = Can::EVERYTHING.without(Can { untold: true, blobs: true, counts: true, ..Can::default() });
    let mut subject = Hosted::new("FileStorage", can, opener);
    if let Err(difference) = run::play_random(&mut subject, &mut Seed(seed), STEPS, &mut Coverage::default()) {
        panic!("{difference}");
    }
    drop(subject);
    disk.read_file(PATH).unwrap_or_else(|| b"FS30".to_vec())
}

/// The index that is written when the database is closed.
pub fn index_of(file: &[u8]) -> Vec<u8> {
    let disk = SimDisk::new(0);
    disk.write_file(PATH, file);
    drop(site::options(&disk).open(PATH).expect("it is whole"));
    disk.read_file("Data.fs.index").unwrap_or_default()
}

// The parts.

/// A record, wherever it is; the number stays its own.
type Id = usize;

#[derive(Clone, Copy, Debug)]
enum Pointer {
    Nowhere,
    /// To that record, if it is still there.
    To(Id),
    /// So many bytes behind it.
    Into(Id, u64),
    At(u64),
}

#[derive(Clone, Debug)]
struct Record {
    id: Id,
    oid: u64,
    previous: Pointer,
    version: Option<(Pointer, Pointer, Vec<u8>)>,
    data: Vec<u8>,
    backpointer: Pointer,
}

#[derive(Clone, Debug)]
struct Transaction {
    tid: u64,
    status: u8,
    metadata: [Vec<u8>; 3],
    records: Vec<Record>,
    /// The excess of its length, and of its twin.
    lies: [u64; 2],
}

struct Parts {
    transactions: Vec<Transaction>,
    next: Id,
}

impl Parts {
    fn of(file: &[u8]) -> Parts {
        let read = layout::parse(file).expect("it is whole");
        let all = read.iter().flat_map(|transaction| &transaction.records);
        let ids: HashMap<u64, Id> = all.enumerate().map(|(id, record)| (record.start, id)).collect();
        let pointer = |at: u64| ids.get(&at).map_or(Pointer::Nowhere, |&id| Pointer::To(id));
        let record = |record: &layout::Record| Record {
            id: ids[&record.start],
            oid: record.oid,
            previous: pointer(record.previous),
            version: record.version.as_ref().map(|v| (pointer(v.trunk), pointer(v.previous), v.name.clone())),
            data: record.data.clone(),
            backpointer: pointer(record.backpointer),
        };
        let transactions = read.iter().map(|transaction| Transaction {
            tid: transaction.tid,
            status: transaction.status,
            metadata: transaction.metadata.clone(),
            records: transaction.records.iter().map(record).collect(),
            lies: [0; 2],
        });
        Parts { transactions: transactions.collect(), next: ids.len() }
    }

    /// Where each record will be.
    fn places(&self) -> HashMap<Id, u64> {
        let (mut places, mut at) = (HashMap::new(), 4);
        for transaction in &self.transactions {
            at += 23 + transaction.metadata.iter().map(|field| field.len() as u64).sum::<u64>();
            for record in &transaction.records {
                places.insert(record.id, at);
                at += length(record);
            }
            at += 8;
        }
        places
    }

    fn write(&self, magic: &[u8]) -> Vec<u8> {
        let places = self.places();
        let at = |pointer: Pointer| match pointer {
            Pointer::Nowhere => 0,
            Pointer::To(id) => places.get(&id).copied().unwrap_or(0),
            Pointer::Into(id, more) => places.get(&id).copied().unwrap_or(0).wrapping_add(more),
            Pointer::At(position) => position,
        };
        let mut out = magic.to_vec();
        for transaction in &self.transactions {
            let start = out.len() as u64;
            let length = 23
                + transaction.metadata.iter().map(|field| field.len() as u64).sum::<u64>()
                + transaction.records.iter().map(length).sum::<u64>();
            out.extend(transaction.tid.to_be_bytes());
            out.extend(length.wrapping_add(transaction.lies[0]).to_be_bytes());
            out.push(transaction.status);
            transaction.metadata.iter().for_each(|field| out.extend((field.len() as u16).to_be_bytes()));
            transaction.metadata.iter().for_each(|field| out.extend(field));
            for record in &transaction.records {
                out.extend(record.oid.to_be_bytes());
                out.extend(transaction.tid.to_be_bytes());
                out.extend(at(record.previous).to_be_bytes());
                out.extend(start.to_be_bytes());
                let name = record.version.as_ref().map_or(&[][..], |(_, _, name)| name);
                out.extend((name.len() as u16).to_be_bytes());
                out.extend((record.data.len() as u64).to_be_bytes());
                if let Some((trunk, previous, name)) = record.version.as_ref().filter(|(_, _, name)| !name.is_empty()) {
                    out.extend(at(*trunk).to_be_bytes());
                    out.extend(at(*previous).to_be_bytes());
                    out.extend(name);
                }
                if record.data.is_empty() {
                    out.extend(at(record.backpointer).to_be_bytes());
                } else {
                    out.extend(&record.data);
                }
            }
            out.extend(length.wrapping_add(transaction.lies[1]).to_be_bytes());
        }
        out
    }

    /// Each record names the one before it, as it should.
    fn chain(&mut self) {
        let mut newest: HashMap<u64, Id> = HashMap::new();
        for transaction in &mut self.transactions {
            for record in &mut transaction.records {
                record.previous = newest.get(&record.oid).map_or(Pointer::Nowhere, |&id| Pointer::To(id));
            }
            newest.extend(transaction.records.iter().map(|record| (record.oid, record.id)));
        }
    }

    fn some_transaction(&mut self, dice: &mut dyn Dice) -> Option<&mut Transaction> {
        let count = self.transactions.len() as u64;
        if count == 0 { None } else { self.transactions.get_mut(dice.roll(count) as usize) }
    }

    fn some_record(&mut self, dice: &mut dyn Dice) -> Option<&mut Record> {
        let mut all: Vec<&mut Record> = self.transactions.iter_mut().flat_map(|t| &mut t.records).collect();
        if all.is_empty() { None } else { Some(all.swap_remove(dice.roll(all.len() as u64) as usize)) }
    }

    fn some_pointer(&mut self, dice: &mut dyn Dice) -> Pointer {
        let other = self.some_record(dice).map_or(Pointer::Nowhere, |record| Pointer::To(record.id));
        match (dice.roll(8), other) {
            (0, _) => Pointer::Nowhere,
            (1, _) => Pointer::At(odd_number(dice)),
            (2, Pointer::To(id)) => Pointer::Into(id, odd_number(dice)),
            _ => other,
        }
    }
}

fn length(record: &Record) -> u64 {
    let name = record.version.as_ref().map_or(0, |(_, _, name)| name.len() as u64);
    let version = if name == 0 { 0 } else { 16 + name };
    42 + version + if record.data.is_empty() { 8 } else { record.data.len() as u64 }
}

/// Small, or large, or such as something goes wrong with.
fn odd_number(dice: &mut dyn Dice) -> u64 {
    match dice.roll(8) {
        0 => 1,
        1 => u64::MAX,
        2 => 1 << 47,
        3 => (1 << 48) + dice.roll(100),
        4 => u64::MAX - dice.roll(100),
        5 => 1 << dice.roll(64),
        _ => dice.roll(4096),
    }
}

// The damage.

/// Edits of one file.
const EDITS_MAX: u64 = 8;

fn damaged(base: &Base, dice: &mut Unstructured<'_>) -> (Vec<u8>, Option<Vec<u8>>) {
    let dice: &mut dyn Dice = dice;
    let mut parts = Parts::of(&base.file);
    let edits = 1 + dice.roll(EDITS_MAX);
    for _ in 0..edits {
        if dice.more() {
            edit(&mut parts, dice);
        }
    }
    if dice.chance(50) {
        parts.chain();
    }
    let mut file = parts.write(&base.file[..4]);
    // At last, what a disk does.
    if dice.chance(15) {
        let end = file.len() as u64;
        file.truncate(dice.roll(end + 1) as usize);
    }
    if dice.chance(10) {
        let sector = (dice.roll(file.len() as u64 + 1) / 512 * 512) as usize;
        let end = file.len().min(sector + 512);
        file[sector.min(end)..end].fill(0);
    }
    if dice.chance(10) && !file.is_empty() {
        let at = dice.roll(file.len() as u64) as usize;
        file[at] ^= 1 << dice.roll(8);
    }
    let index = match dice.roll(4) {
        0 => None,
        // As it was before: right, if nothing before its end was changed.
        1 => Some(base.index.clone()),
        2 => {
            let mut index = base.index.clone();
            let at = dice.roll(index.len() as u64 + 1) as usize;
            if let Some(byte) = index.get_mut(at) {
                *byte = dice.roll(256) as u8;
            }
            Some(index)
        }
        // The index that was written when it was closed, if it can be opened.
        _ => {
            let disk = SimDisk::new(0);
            disk.write_file(PATH, &file);
            drop(site::options(&disk).open(PATH));
            disk.read_file("Data.fs.index")
        }
    };
    (file, index)
}

fn edit(parts: &mut Parts, dice: &mut dyn Dice) {
    let count = parts.transactions.len() as u64;
    if count == 0 {
        return;
    }
    let (one, other) = (dice.roll(count) as usize, dice.roll(count) as usize);
    match dice.roll(20) {
        0 => drop(parts.transactions.remove(one)),
        1 => parts.transactions.swap(one, other),
        2 => {
            // Once more, at the end or in the middle; with a tid of its own, as a rule.
            let mut again = parts.transactions[one].clone();
            for record in &mut again.records {
                record.id = parts.next;
                parts.next += 1;
            }
            let place = if dice.chance(50) { parts.transactions.len() } else { other };
            if dice.chance(80) {
                again.tid = parts.transactions.last().map_or(1, |last| last.tid.saturating_add(1));
            }
            parts.transactions.insert(place, again);
        }
        3 => {
            let from = &mut parts.transactions[one];
            if !from.records.is_empty() {
                let record = from.records.remove(dice.roll(from.records.len() as u64) as usize);
                // It is gone; or somewhere else.
                if dice.chance(50) {
                    parts.transactions[other].records.push(record);
                }
            }
        }
        4 => parts.transactions[one].records.reverse(),
        5 => {
            // Twice in one transaction.
            let from = &mut parts.transactions[one];
            if let Some(mut record) = from.records.first().cloned() {
                record.id = parts.next;
                parts.next += 1;
                from.records.push(record);
            }
        }
        6 => {
            let tid = parts.transactions[other].tid;
            let more = if dice.chance(50) { odd_number(dice) } else { 0 };
            parts.transactions[one].tid = tid.wrapping_add(more);
        }
        7 => parts.transactions[one].status = [b' ', b'p', b'u', b'c', 0, b'x'][dice.roll(6) as usize],
        8 => {
            // The last ones were never marked.
            let status = [b'c', b'c', b'p', b'u'][dice.roll(4) as usize];
            let first = parts.transactions.len().saturating_sub(1 + dice.roll(4) as usize);
            for transaction in &mut parts.transactions[first..] {
                if dice.chance(75) {
                    transaction.status = status;
                }
            }
        }
        9 => {
            // All before it were packed.
            for transaction in &mut parts.transactions[..one] {
                transaction.status = b'p';
                if dice.chance(50) {
                    transaction.records.iter_mut().for_each(|record| record.previous = Pointer::Nowhere);
                }
            }
        }
        10 => {
            let lie = odd_number(dice);
            let both = dice.chance(50);
            parts.transactions[one].lies = [lie, if both { lie } else { 0 }];
        }
        11 => {
            let length = [0, 1, 300, 65535][dice.roll(4) as usize];
            if let Some(transaction) = parts.some_transaction(dice) {
                transaction.metadata[dice.roll(3) as usize] = vec![dice.roll(256) as u8; length];
            }
        }
        12 => {
            let oid = if dice.chance(50) { odd_number(dice) } else { dice.roll(8) };
            if let Some(record) = parts.some_record(dice) {
                record.oid = oid;
            }
        }
        13 => {
            let pointer = parts.some_pointer(dice);
            if let Some(record) = parts.some_record(dice) {
                record.previous = pointer;
            }
        }
        14 | 15 => {
            // It shares what another has; of the same object, as a rule.
            let pointer = parts.some_pointer(dice);
            let same = dice.chance(70);
            let oid = match pointer {
                Pointer::To(id) if same => {
                    let all = parts.transactions.iter().flat_map(|transaction| &transaction.records);
                    all.into_iter().find(|record| record.id == id).map(|record| record.oid)
                }
                _ => None,
            };
            if let Some(record) = parts.some_record(dice) {
                record.data.clear();
                record.backpointer = pointer;
                record.oid = oid.unwrap_or(record.oid);
            }
        }
        16 => {
            let (trunk, previous) = (parts.some_pointer(dice), parts.some_pointer(dice));
            let name = [&b""[..], b"draft", b"other", &[0xff; 300]][dice.roll(4) as usize].to_vec();
            if let Some(record) = parts.some_record(dice) {
                record.version = if name.is_empty() { None } else { Some((trunk, previous, name)) };
            }
        }
        17 => {
            // Data that looks like a record, or like a whole transaction, or is some bytes.
            let file = parts.write(b"");
            let from = dice.roll(file.len() as u64 + 1) as usize;
            let length = dice.roll(400) as usize;
            if let Some(record) = parts.some_record(dice) {
                record.data = file[from..].iter().copied().take(length).collect();
            }
        }
        18 => {
            let byte = dice.roll(256) as u8;
            if let Some(record) = parts.some_record(dice) {
                let at = dice.roll(record.data.len() as u64 + 1) as usize;
                match record.data.get_mut(at) {
                    Some(there) => *there = byte,
                    None => record.data.push(byte),
                }
            }
        }
        _ => {
            // A transaction without any record.
            parts.transactions[one].records.clear();
        }
    }
}
