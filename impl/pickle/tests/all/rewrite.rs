//! Other oids in old records.

use crate::common;
use proptest::prelude::*;
use vellum_pickle::{Problem, Reference, references, rewrite_references};

fn oid(reference: &Reference<'_>) -> Option<u64> {
    match reference {
        Reference::Strong { oid, .. } | Reference::Weak { oid, .. } | Reference::Foreign { oid, .. } => Some(*oid),
        Reference::Bad { .. } => None,
    }
}

/// The reference with another oid.
fn moved<'a>(mut reference: Reference<'a>, new: impl Fn(u64) -> u64) -> Reference<'a> {
    match &mut reference {
        Reference::Strong { oid, .. } | Reference::Weak { oid, .. } | Reference::Foreign { oid, .. } => {
            *oid = new(*oid)
        }
        Reference::Bad { .. } => {}
    }
    reference
}

#[test]
fn every_shape_that_has_eight_bytes_gets_others_and_nothing_else_changes() {
    let (mut done, mut refused) = (0, 0);
    for case in include_str!("references.txt").split("\n\n") {
        let mut lines = case.lines();
        let (name, record) = (lines.next().unwrap(), common::from_hex(lines.next().unwrap()));
        // An oid in text stays one.
        let new = |old: u64| old ^ 0x0101_0101_0101_0101;
        match rewrite_references(&record, |reference| oid(reference).map(new)) {
            Ok(rewritten) => {
                let wanted: Vec<_> = references(&record).unwrap().into_iter().map(|r| moved(r, new)).collect();
                assert_eq!(references(&rewritten).unwrap(), wanted, "{name}");
                assert_eq!(rewritten.len(), record.len(), "{name}");
                let back = rewrite_references(&rewritten, |reference| oid(reference).map(new)).unwrap();
                assert_eq!(back, record, "{name}");
                done += 1;
            }
            Err(error) => {
                let known = matches!(error.problem, Problem::OidInPlace(_) | Problem::OidShared);
                assert!(known, "{name}: {error}");
                println!("{name}: {error}");
                refused += 1;
            }
        }
        let same = rewrite_references(&record, |_| None).unwrap();
        assert_eq!(same, record, "{name}: nothing is asked for");
        let same = rewrite_references(&record, oid).unwrap();
        assert_eq!(same, record, "{name}: the same oids");
    }
    println!("{done} rewritten, {refused} refused");
    assert_eq!((done, refused), (19, 5));
}

#[test]
fn references_that_share_an_oid_by_the_memo_go_on_sharing() {
    let record = b"N.C\x08\0\0\0\0\0\0\0\x05q\x01Qh\x01Q\x86.";
    let wanted = b"N.C\x08\0\0\0\0\0\0\xff\x05q\x01Qh\x01Q\x86.";
    assert_eq!(rewrite_references(record, |_| Some(0xff05)).unwrap(), wanted);
}

#[test]
fn data_that_is_the_same_bytes_as_an_oid_is_not_changed() {
    // The bytes stand in the record twice: only the reference changes.
    let record = b"N.(C\x08\0\0\0\0\0\0\0\x05QC\x08\0\0\0\0\0\0\0\x05t.";
    let wanted = b"N.(C\x08\0\0\0\0\0\0\0\x06QC\x08\0\0\0\0\0\0\0\x05t.";
    assert_eq!(rewrite_references(record, |_| Some(6)).unwrap(), wanted);
    // The memo makes them one: in a tuple, a dict, a list, a call, an object's state, or as the whole value.
    for rest in [
        &b"(h\x01Nt."[..],
        b"(h\x01Nd.",
        b"](h\x01NNe.",
        b"]h\x01a.",
        b"](h\x01\x85e.",
        b"cm\nf\nh\x01\x85R.",
        b"cm\nf\n)\x81h\x01b.",
        b"h\x01.",
        b"h\x01\x85.",
    ] {
        let record = [b"N.C\x08\0\0\0\0\0\0\0\x05q\x01Q0", rest].concat();
        let error = rewrite_references(&record, |_| Some(6)).unwrap_err();
        assert_eq!(error.problem, Problem::OidShared, "{}", rest.escape_ascii());
        assert_eq!(rewrite_references(&record, |_| Some(5)).unwrap(), record);
    }
}

#[test]
fn a_reference_without_room_for_the_new_oid_is_refused() {
    let problem = |record: &[u8], new: u64| rewrite_references(record, |_| Some(new)).unwrap_err().problem;
    assert_eq!(problem(b"N.X\x08\0\0\0\0\0\0\0\0\0\0\x05Q.", 0x80), Problem::OidInPlace("an ASCII text"));
    assert_eq!(problem(b"N.S'abcdefgh'\nQ.", 6), Problem::OidInPlace("a quoted or escaped text"));
    assert_eq!(problem(b"N.Pabcdefgh\n.", 10), Problem::OidInPlace("a line of text"));
    let two = b"N.C\x08\0\0\0\0\0\0\0\x05q\x01Q](X\x01\0\0\0wh\x01\x85eQ\x86.";
    let differently = |reference: &Reference<'_>| Some(if let Reference::Weak { .. } = reference { 7 } else { 6 });
    assert_eq!(rewrite_references(two, differently).unwrap_err().problem, Problem::OidShared);
    let one_only = |reference: &Reference<'_>| if let Reference::Weak { .. } = reference { None } else { Some(6) };
    assert_eq!(rewrite_references(two, one_only).unwrap_err().problem, Problem::OidShared);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(record in prop::collection::vec(any::<u8>(), 0..200), new: u64) {
        let _ = rewrite_references(&record, |_| Some(new));
    }

    /// Opcodes that hang together, with references among them.
    #[test]
    fn a_rewritten_record_has_the_new_references(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..40), new in 0..0x7f7f_7f7fu64
    ) {
        let record = [b"N.".as_slice(), &parts.concat(), b"N."].concat();
        if let (Ok(before), Ok(after)) = (references(&record), rewrite_references(&record, |_| Some(new))) {
            prop_assert_eq!(after.len(), record.len());
            let wanted: Vec<_> = before.into_iter().map(|r| moved(r, |_| new)).collect();
            prop_assert_eq!(references(&after).unwrap(), wanted);
        }
    }
}

const PARTS: &[&[u8]] = &[
    b"C\x08\0\0\0\0\0\0\0\x05",
    b"U\x08abcdefgh",
    b"Q",
    b"Q",
    b"q\x01",
    b"h\x01",
    b"\x85",
    b"\x86",
    b"]",
    b"a",
    b"(",
    b"t",
    b"e",
    b"X\x01\0\0\0w",
    b"N",
    b"0",
    b"2",
    b"q\x02",
    b"h\x02",
    b"Pabcdefgh\n",
    b"cm\nC\n",
];

/// All tuples with nothing in them are one to the scanner. That one was looked at must not hide another.
#[test]
fn an_oid_in_a_tuple_beside_an_empty_one_is_seen_to_be_shared() {
    let record = b"cm\nC\n.}(K\x01C\x08\0\0\0\0\0\0\0\x05q\x01\x85N)K\x02h\x01Qu.";
    let error = rewrite_references(record, |_| Some(6)).unwrap_err();
    assert_eq!(error.problem, Problem::OidShared);
}
