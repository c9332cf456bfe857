//! Pickles: one record is read in every way, and three are merged.
//!
//! The input is three records, one after the other, and the lengths of the last two in four bytes at the end; if these
//! do not fit, it is one record, three times.

use std::collections::BTreeSet;

use vellum_pickle::{
    JsonOptions, NativeText, PickleError, Piece, Problem, Record, Reference, RenderOptions, Scanner, View, class_of,
    compressed, decode_plain, encode, encode_record, is_compressed, is_encrypted, plain, plain_within, python_2_text,
    references, render, rewrite_references, to_json,
};
use vellum_storage::{Contested, Oid, Resolver, Resolvers};

use crate::naive::{self, Found};

/// Reads, shows, writes again and merges what the bytes say.
pub fn record(input: &[u8]) {
    let three = split(input);
    // A record that grows without limit when it is inflated would only show that the limit of memory is kept.
    let is_long = |record: &&[u8]| {
        let read = plain_within(record, PLAIN_MAX);
        assert!(read.as_ref().map_or(0, |plain| plain.len()) <= PLAIN_MAX.max(record.len()));
        matches!(read, Err(PickleError { problem: Problem::Inflated(limit), .. }) if limit == PLAIN_MAX as u64)
    };
    if three.iter().any(is_long) {
        return;
    }
    let [ancestor, committed, new] = three;
    match plain(new) {
        // One layer is taken off, and no more: the rest is no pickle.
        Ok(plain) if is_compressed(&plain) || is_encrypted(&plain) => {
            assert!(class_of(new).is_err() && render(new, &RenderOptions::default()).is_err());
        }
        Ok(plain) => {
            one(&plain);
            if is_compressed(new) {
                through(new, &plain);
            }
            if let Some(stored) = compressed(&plain) {
                assert!(stored.len() < plain.len());
                through(&stored, &plain);
            }
        }
        Err(error) => {
            assert!(is_compressed(new) || is_encrypted(new), "{error}, and the record is plain");
            assert_eq!(render(new, &RenderOptions::default()), Err(error.clone()));
            assert_eq!(Scanner::new().scan(new, |_| ()), Err(error));
        }
    }
    merge(ancestor, committed, new);
    values(input);
}

/// The most that a compressed record may become here.
const PLAIN_MAX: usize = 256 << 10;

/// Of a compressed record the same is said as of the plain one.
fn through(stored: &[u8], record: &[u8]) {
    assert_eq!(plain(stored).as_deref(), Ok(record));
    match (class_of(stored), class_of(record)) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (one, other) => assert_eq!(one.is_ok(), other.is_ok()),
    }
    let scan = |record: &[u8]| {
        let mut found = Vec::new();
        (Scanner::new().scan(record, |reference| found.push(format!("{reference:?}"))), found)
    };
    assert_eq!(scan(stored), scan(record));
    assert_eq!(render(stored, &RenderOptions::default()), render(record, &RenderOptions::default()));
    assert_eq!(rewrite_references(stored, |_| None), rewrite_references(record, |_| None));
}

fn split(input: &[u8]) -> [&[u8]; 3] {
    let Some((rest, &[a, b, c, d])) = input.split_last_chunk::<4>() else { return [input; 3] };
    let (second, third) = (usize::from(u16::from_be_bytes([a, b])), usize::from(u16::from_be_bytes([c, d])));
    match rest.len().checked_sub(second + third) {
        Some(first) if third > 0 => [&rest[..first], &rest[first..first + second], &rest[first + second..]],
        _ => [input; 3],
    }
}

/// The input that says these three.
pub fn input(ancestor: &[u8], committed: &[u8], new: &[u8]) -> Vec<u8> {
    let length = |record: &[u8]| (record.len() as u16).to_be_bytes();
    [ancestor, committed, new, &length(committed), &length(new)].concat()
}

/// Holds everything that is said of one record against the slow reader, and against each other.
fn one(record: &[u8]) {
    let (found, slowly) = (references(record), naive::references(record));
    match (&found, &slowly) {
        (Ok(found), Ok(slowly)) => {
            assert_eq!(found.len(), slowly.len(), "{found:?} is not {slowly:?}");
            for (one, other) in found.iter().zip(slowly) {
                assert!(is_same(one, other), "{one:?} is not {other:?}");
            }
        }
        (Err(_), Err(_)) => {}
        _ => panic!("fast: {found:?}, slow: {slowly:?}"),
    }
    match (class_of(record), naive::class_of(record)) {
        (Ok(class), slowly) => {
            assert_eq!(Ok(Some((class.module, class.name))), slowly);
        }
        (Err(error), Ok(slowly)) => {
            assert!(matches!(error.problem, Problem::NotAClass(_)) && slowly.is_none(), "{error}, but {slowly:?}");
        }
        (Err(error), Err(_)) => assert!(!matches!(error.problem, Problem::NotAClass(_)), "{error}"),
    }
    shown(record, found.is_ok());
    if found.is_ok() {
        let (count, texts) = python_2_text(record, 5, 30).expect("its references could be read");
        assert_eq!(Ok(count), naive::native_texts(record));
        assert_eq!(texts.len() as u64, count.min(5));
        for NativeText { bytes, path } in texts {
            // Twelve steps, each with 40 bytes of a key, which may be escaped.
            assert!(bytes.len() <= 30 && path.is_none_or(|path| path.len() < 12 * (40 * 6 + 20)));
        }
    }
    let parts = Record::read(record);
    assert_eq!(parts.as_ref().err(), found.as_ref().err());
    if let (Ok(parts), Ok(found)) = (parts, found) {
        written_again(record, &parts, &found);
        moved(record, &found);
    }
}

fn is_same(fast: &Reference<'_>, slow: &Found) -> bool {
    // A class is a help to the reader. Where it stands in a strange form, the fast one does not know it.
    let class = |fast: &Option<vellum_pickle::ClassRef<'_>>, slow: &Option<naive::Class>| match fast {
        None => true,
        Some(class) => slow.as_ref().is_some_and(|(module, name)| class.module == *module && class.name == *name),
    };
    match (fast, slow) {
        (Reference::Strong { oid, class: fast }, Found::Strong(other, slow)) => oid == other && class(fast, slow),
        (Reference::Weak { oid, database }, Found::Weak(other, slow)) => {
            oid == other && database.as_deref() == slow.as_deref()
        }
        (Reference::Foreign { database, oid, class: fast }, Found::Foreign(slow, other, named)) => {
            oid == other && database == slow && class(fast, named)
        }
        (Reference::Bad { offset, .. }, Found::Bad(at)) => offset == at,
        _ => false,
    }
}

/// Shown to a person, wide and narrow: never more than was asked for.
fn shown(record: &[u8], is_readable: bool) {
    const MARK: usize = "… (truncated)".len();
    let narrow = RenderOptions { bytes_max: 200, depth_max: 3, width: 20 };
    for options in [RenderOptions::default(), narrow] {
        let text = render(record, &options);
        assert_eq!(text.is_ok(), is_readable);
        // Cut where there is nothing but spaces and closing brackets, it has some of these more.
        assert!(text.is_ok_and(|text| text.len() <= options.bytes_max + MARK + 8) || !is_readable);
    }
    // The whole is at most a constant factor longer than the record, whatever the record shares.
    let full = RenderOptions { bytes_max: usize::MAX >> 1, depth_max: usize::MAX >> 1, width: 96 };
    let text = render(record, &full);
    assert!(text.is_ok_and(|text| text.len() <= linear(record)) || !is_readable);
    for btrees in [false, true] {
        match to_json(record, &JsonOptions { btrees }) {
            Ok(json) => {
                assert!(is_readable && json.len() <= linear(record), "{} of {}", json.len(), record.len());
                let read = serde_json::from_str::<serde::de::IgnoredAny>(&json);
                assert!(read.is_ok(), "no JSON: {read:?}: {json}");
            }
            Err(_) => assert!(!is_readable),
        }
    }
}

/// The most that may be written of a record. A byte can repeat a date, which takes some forty in JSON, and sixty more
/// of indent in text; and of repeated text there may be four times the record and 64 KiB, in escapes of six bytes each.
fn linear(record: &[u8]) -> usize {
    128 * record.len() + (6 << 16) + 256
}

/// Parts of a record that are looked at.
const PARTS_MAX: usize = 2000;

/// Parts that can be carried over into a new record have no references that the old one lacks.
fn written_again(record: &[u8], parts: &Record<'_>, found: &[Reference<'_>]) {
    let (mut waiting, mut seen) = (vec![parts.class(), parts.state()], 0);
    while let Some(part) = waiting.pop() {
        seen += 1;
        if seen > PARTS_MAX {
            break;
        }
        match part.view() {
            View::Tuple(items) | View::List(items) => waiting.extend(items.iter().take(PARTS_MAX)),
            View::Dict(pairs) => {
                waiting.extend(pairs.into_iter().take(PARTS_MAX).flat_map(|(key, value)| [key, value]))
            }
            View::Reference(Reference::Bad { offset, .. }) => {
                let is_it = |found: &Reference<'_>| matches!(found, Reference::Bad { offset: at, .. } if *at == offset);
                assert!(found.iter().any(is_it), "{offset} is not in {found:?}");
            }
            View::Reference(reference) => {
                // The scanner does not name a class in a class.
                let is_it = |found: &Reference<'_>| oid(found) == oid(&reference);
                assert!(found.iter().any(is_it), "{reference:?} is not in {found:?}");
            }
            _ => {}
        }
        assert!(!part.is_same_reference(part) || matches!(part.view(), View::Reference(_)));
    }
    if let Ok(again) = encode_record(&Piece::Part(parts.class()), &Piece::Part(parts.state()), parts.protocol()) {
        let now = references(&again).unwrap_or_else(|e| panic!("a written record cannot be read: {e}"));
        for reference in &now {
            assert!(oids(found).contains(&oid(reference)), "{reference:?} is new");
        }
        assert!(again.len() <= 16 * record.len() + 64, "{} bytes became {}", record.len(), again.len());
        let same = Record::read(&again).expect("it was read a moment ago");
        let third = encode_record(&Piece::Part(same.class()), &Piece::Part(same.state()), same.protocol());
        assert_eq!(third.as_deref(), Ok(&again[..]), "written once more it is something else");
    }
}

/// Whether it keeps the object, and which it is.
fn oid(reference: &Reference<'_>) -> Option<(u8, u64)> {
    match *reference {
        Reference::Strong { oid, .. } => Some((0, oid)),
        Reference::Weak { oid, .. } => Some((1, oid)),
        Reference::Foreign { oid, .. } => Some((2, oid)),
        Reference::Bad { .. } => None,
    }
}

fn oids(found: &[Reference<'_>]) -> BTreeSet<Option<(u8, u64)>> {
    found.iter().map(oid).collect()
}

/// With other oids in it, it refers to those.
fn moved(record: &[u8], found: &[Reference<'_>]) {
    assert_eq!(rewrite_references(record, |_| None).as_deref(), Ok(record));
    let other = |oid: u64| oid ^ 0x0100_0000_0000_0003;
    let moved = rewrite_references(record, |reference| oid(reference).map(|(_, oid)| other(oid)));
    if let Ok(moved) = moved {
        assert_eq!(moved.len(), record.len());
        let now = references(&moved).unwrap_or_else(|e| panic!("with other oids it cannot be read: {e}"));
        let wanted: Vec<_> =
            found.iter().map(|reference| oid(reference).map(|(kind, oid)| (kind, other(oid)))).collect();
        assert_eq!(now.iter().map(oid).collect::<Vec<_>>(), wanted);
    }
}

/// A merge is refused, or is a record of the same class that refers to nothing that was not in one of the three.
fn merge(ancestor: &[u8], committed: &[u8], new: &[u8]) {
    let resolvers = Resolvers::built_in();
    let contested = Contested { oid: Oid(1), ancestor, committed, new };
    let Some(merged) = resolvers.resolve(contested) else { return };
    assert_eq!(class_of(&merged), class_of(new));
    // In the form of the new record, unless it would not become shorter.
    assert!(!is_compressed(&merged) || is_compressed(new));
    let merged_plain = plain(&merged).unwrap_or_else(|e| panic!("a merged record cannot be read: {e}"));
    let found = references(&merged_plain).unwrap_or_else(|e| panic!("a merged record cannot be read: {e}"));
    let known = |record: &[u8]| {
        let plain = plain(record).unwrap_or_default();
        oids(&references(&plain).unwrap_or_default())
    };
    let known: BTreeSet<_> = [ancestor, committed, new].into_iter().flat_map(known).collect();
    for reference in &found {
        assert!(known.contains(&oid(reference)), "{reference:?} came from nowhere");
    }
    assert_eq!(resolvers.resolve(contested), Some(merged), "another time it is something else");
}

/// Plain values come back as they were written.
fn values(input: &[u8]) {
    if let Ok((value, length)) = decode_plain(input) {
        assert!(length <= input.len());
        let written = encode(&value);
        let (again, _) = decode_plain(&written).unwrap_or_else(|e| panic!("a written record cannot be read: {e}"));
        // Not the values: a NaN is not equal to itself.
        assert_eq!(encode(&again), written);
    }
}
