//! Records read part by part, and records written from parts of others.

use proptest::prelude::*;
use vellum_pickle::{ClassName, Part, PickleError, Piece, Record, Reference, Value, View, encode_record, references};

fn record(state: &[u8]) -> Vec<u8> {
    [b"\x80\x03cshop\nThing\nq\0.\x80\x03", state, b"."].concat()
}

/// The record, read and written again.
fn copy(bytes: &[u8]) -> Result<Vec<u8>, PickleError> {
    let record = Record::read(bytes)?;
    encode_record(&Piece::Part(record.class()), &Piece::Part(record.state()), record.protocol())
}

#[test]
fn records_of_zodbs_pickler_are_written_the_same() {
    for state in [
        &b"K\x07"[..],
        b"N\x88\x86q\x01",
        b"(K\x01X\x01\0\0\0aq\x01C\x02abq\x02h\x01h\x02tq\x03",
        b"}q\x01(X\x01\0\0\0aq\x02]q\x03K\x01aX\x01\0\0\0bq\x04]q\x05(K\x01K\x02eu",
        b"C\x08\0\0\0\0\0\0\0\x05q\x01h\0\x86q\x02Qh\x02Q\x86q\x03",
        b"]q\x01(X\x01\0\0\0wq\x02C\x08\0\0\0\0\0\0\0\x05q\x03\x85q\x04eQ",
        b"C\x08\0\0\0\0\0\0\0\x05q\x01Q",
        b")\x85q\x01",
    ] {
        let bytes = record(state);
        assert_eq!(copy(&bytes).expect("a copy").escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }
}

#[test]
fn views_tell_what_is_there() {
    let look = |state: &[u8], what: &dyn Fn(View<'_>) -> bool| {
        let bytes = record(state);
        let record = Record::read(&bytes).expect("a record");
        assert!(what(record.state().view()), "{}: {:?}", state.escape_ascii(), record.state().view());
    };
    look(b"K\x07", &|view| matches!(view, View::Int(7)));
    // Nine bytes for a number that one is enough for, and one in decimal that nine are needed for.
    look(b"\x8a\x09\x05\0\0\0\0\0\0\0\0", &|view| matches!(view, View::Int(5)));
    look(b"L18446744073709551616L\n", &|view| matches!(view, View::BigInt(n) if *n == [0, 0, 0, 0, 0, 0, 0, 0, 1]));
    look(b"U\x02\xe9a", &|view| matches!(view, View::Native(s) if *s == *b"\xe9a"));
    look(b"X\x03\0\0\0\xed\xa0\x80", &|view| matches!(view, View::Text(_)));
    look(b"V\\ud800\n", &|view| matches!(view, View::Text(text) if *text == *b"\xed\xa0\x80"));
    look(b"X\x02\0\0\0\xed\xa0", &|view| matches!(view, View::Other));
    look(b"cshop\nThing\n)\x81", &|view| matches!(view, View::Other));
    look(b"K\x01K\x02\x86", &|view| matches!(view, View::Tuple(parts) if parts.len() == 2));
    look(b"Pabcdefgh\n", &|view| matches!(view, View::Reference(Reference::Strong { .. })));
    look(b"K\x01Q", &|view| matches!(view, View::Reference(Reference::Bad { .. })));
    // A state was given to something that has none.
    look(b")K\x01b", &|view| matches!(view, View::Other));
}

#[test]
fn references_are_the_same_if_their_ids_are_equal_in_python() {
    let ids: [&[u8]; 9] = [
        b"C\x08abcdefghh\0\x86Q",
        b"C\x08abcdefghcshop\nThing\n\x86Q",
        b"C\x08abcdefghQ",
        b"X\x08\0\0\0abcdefghQ",
        b"U\x08abcdefghQ",
        b"Pabcdefgh\n",
        b"]C\x08abcdefghaQ",
        b"](U\x01wC\x08abcdefgh\x85eQ",
        b"](X\x01\0\0\0wC\x08abcdefgh\x85eQ",
    ];
    let groups = [0, 0, 1, 2, 2, 2, 3, 4, 4];
    let records = ids.map(record);
    let records: Vec<Record<'_>> = records.iter().map(|bytes| Record::read(bytes).expect("a record")).collect();
    for (one, a) in records.iter().zip(groups) {
        for (other, b) in records.iter().zip(groups) {
            assert_eq!(one.state().is_same_reference(other.state()), a == b, "{:?} {:?}", one.state().view(), a == b);
        }
    }
}

/// A merge compares references by this, and carries them over. The fuzzer found a record whose pickle makes a reference
/// and then gives it a state, as if it was an object: `view` took it for an object, and `is_same_reference` for a
/// reference.
#[test]
fn a_reference_that_was_built_on_is_no_reference_any_more() {
    let (plain, built) = (record(b"C\x08\0\0\0\0\0\0\0\x05Q"), record(b"C\x08\0\0\0\0\0\0\0\x05QNb"));
    let read = |bytes| Record::read(bytes).expect("a record");
    let (plain, built) = (read(&plain), read(&built));
    assert!(plain.state().is_same_reference(plain.state()));
    assert!(matches!(built.state().view(), View::Other));
    for (one, other) in [(&plain, &built), (&built, &plain), (&built, &built)] {
        assert!(!one.state().is_same_reference(other.state()));
    }
}

#[test]
fn a_record_is_written_at_protocol_2_for_those_who_know_no_newer_if_that_can_be() {
    let copied = copy(b"\x80\x02cshop\nThing\n.\x80\x02U\x01aU\x01b\x86.").expect("a copy");
    assert_eq!(copied, b"\x80\x02cshop\nThing\nq\0.\x80\x02U\x01aq\x01U\x01bq\x02\x86q\x03.");
    let copied = copy(b"cshop\nThing\n.C\x01a.").expect("a copy");
    assert_eq!(copied, b"\x80\x03cshop\nThing\nq\0.\x80\x03C\x01aq\x01.");
}

#[test]
fn values_that_only_code_can_make_are_not_carried_over() {
    for state in [
        &b"cshop\nThing\n"[..],
        b"cshop\nThing\n)\x81",
        b"(K\x01ishop\nThing\n",
        b"\x8f",
        b"K\x01Q",
        b"C\x04shrtQ",
        b"P\xe9bcdefgh\n",
        b")K\x01b",
        b"X\x01\0\0\0\xff",
        b"]q\x01h\x01\x85q\x02a0h\x02",
    ] {
        assert!(copy(&record(state)).is_err(), "{}", state.escape_ascii());
    }
}

#[test]
fn a_list_inside_itself_is_carried_over() {
    let bytes = record(b"]q\x01h\x01a");
    assert_eq!(copy(&bytes).expect("a copy"), bytes);
}

#[test]
fn shared_values_are_written_once_and_deep_ones_need_no_deep_stack() {
    let mut bomb = b"]q\x01".to_vec();
    for level in 1..100_u8 {
        bomb.extend([b'0', b'h', level, b'h', level, 0x86, b'q', level + 1]);
    }
    let bytes = record(&bomb);
    assert!(copy(&bytes).expect("a copy").len() < bytes.len());

    let number = [&b"(\x8b\x10\x27\0\0"[..], &[7; 10_000], b"q\x01", &b"h\x01".repeat(10_000), b"t"].concat();
    let bytes = record(&number);
    assert!(copy(&bytes).expect("a copy").len() < bytes.len() + 100);

    let deep = [vec![b'('; 200_000], vec![b't'; 200_000]].concat();
    assert!(copy(&record(&deep)).is_ok());
}

#[test]
fn parts_of_two_records_go_into_a_third() {
    let one = record(b"C\x08\0\0\0\0\0\0\0\x05q\x01h\0\x86q\x02Q");
    let other = [&b"\x80\x03N.\x80\x03"[..], b"C\x08\0\0\0\0\0\0\0\x05cshop\nThing\n\x86QU\x01a\x86."].concat();
    let (one, other) = (Record::read(&one).expect("a record"), Record::read(&other).expect("a record"));
    let part = |n| match other.state().view() {
        View::Tuple(parts) => Piece::Part(parts.get(n).expect("two parts")),
        _ => panic!("no tuple"),
    };
    let class = Piece::Class(ClassName { module: "shop".into(), name: "Thing".into() });
    let state = Piece::Dict(vec![
        (Piece::Value(Value::Text("a".into())), Piece::Tuple(vec![Piece::Part(one.state()), part(0), part(1)])),
        (Piece::Value(Value::Text("b".into())), Piece::Value(Value::BigInt(vec![0; 9]))),
    ]);
    let written = encode_record(&class, &state, 3).expect("a record");
    let wanted = b"\x80\x03cshop\nThing\nq\0.\x80\x03}q\x01(X\x01\0\0\0aq\x02C\x08\0\0\0\0\0\0\0\x05q\x03h\0\x86q\x04Q\
                   h\x04QU\x01aq\x05\x87q\x06X\x01\0\0\0bq\x07\x8a\x01\0u.";
    assert_eq!(written.escape_ascii().to_string(), wanted.escape_ascii().to_string());
    assert_eq!(references(&written).expect("references").len(), 2);
}

/// All of a part, up to so many steps.
fn walk(part: Part<'_>, steps: &mut usize) {
    if *steps == 0 {
        return;
    }
    *steps -= 1;
    match part.view() {
        View::Tuple(parts) | View::List(parts) => parts.iter().take(100).for_each(|part| walk(part, steps)),
        View::Dict(pairs) => pairs.into_iter().take(100).for_each(|(_, value)| walk(value, steps)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_copy_of_any_bytes_is_not_out_of_proportion_and_its_copy_is_the_same(
        opcodes in prop::collection::vec(prop::sample::select(OPCODES), 0..40),
    ) {
        let bytes = record(&opcodes.concat());
        if let Ok(read) = Record::read(&bytes) {
            walk(read.state(), &mut 1000);
            prop_assert!(!read.state().is_same_reference(read.class()));
        }
        if let Ok(copied) = copy(&bytes) {
            prop_assert!(copied.len() <= 40 * bytes.len());
            let again = copy(&copied);
            prop_assert_eq!(again, Ok(copied));
        }
    }
}

const OPCODES: &[&[u8]] = &[
    b"K\x01",
    b"N",
    b"X\x01\0\0\0a",
    b"X\x02\0\0\0ab",
    b"C\x02ab",
    b"C\x08abcdefgh",
    b"U\x01\xe9",
    b"S'a'\n",
    b"Va\n",
    b"L99999999999999999999L\n",
    b"\x8a\x02\x01\x02",
    b"F1.5\n",
    b"(",
    b"t",
    b")",
    b"\x85",
    b"\x86",
    b"\x87",
    b"]",
    b"}",
    b"a",
    b"e",
    b"s",
    b"u",
    b"Q",
    b"Pabcdefgh\n",
    b"q\x01",
    b"q\x02",
    b"h\0",
    b"h\x01",
    b"h\x02",
    b"2",
    b"0",
    b"1",
    b"cshop\nThing\n",
    b"b",
    b"R",
    b"\x93",
    b"c_codecs\nencode\n(X\x01\0\0\0aX\x06\0\0\0latin1tR",
];
