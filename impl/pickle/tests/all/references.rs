//! References in all their shapes.
//!
//! `references.txt` holds records and their references: a name, the record in hexadecimal, and a line for each
//! reference. The records of each protocol were written by Python's own pickler and by ZODB's, and ZODB's `referencesf`
//! agrees on the strong ones wherever it can read the record at all; the others are put together by hand.

use crate::common;
use vellum_pickle::{Record, Reference, Scanner, class_of, references};

/// A reference as the file has it.
fn line_of(reference: &Reference<'_>) -> String {
    let mut line = match reference {
        Reference::Strong { oid, .. } => format!("strong {oid:016x}"),
        Reference::Weak { oid, database: None } => format!("weak {oid:016x}"),
        Reference::Weak { oid, database: Some(database) } => format!("weak {database}:{oid:016x}"),
        Reference::Foreign { database, oid, .. } => format!("foreign {database}:{oid:016x}"),
        Reference::Bad { .. } => "bad".to_string(),
    };
    if let Reference::Strong { class: Some(class), .. } | Reference::Foreign { class: Some(class), .. } = reference {
        line += &format!(" {class}");
    }
    line
}

#[test]
fn every_shape_is_found_in_every_protocol() {
    let mut scanner = Scanner::new();
    let mut cases = 0;
    for case in include_str!("references.txt").split("\n\n") {
        let mut lines = case.lines();
        let (name, record) = (lines.next().unwrap(), common::from_hex(lines.next().unwrap()));
        let wanted: Vec<&str> = lines.map(str::trim).collect();
        let found: Vec<String> = references(&record).unwrap().iter().map(line_of).collect();
        assert_eq!(found, wanted, "{name}");
        // A scanner that has seen other records before sees the same.
        let mut again = Vec::new();
        scanner.scan(&record, |reference| again.push(line_of(&reference))).unwrap();
        assert_eq!(again, wanted, "{name}, with a used scanner");
        cases += 1;
    }
    assert_eq!(cases, 24);
}

#[test]
fn the_class_pickle_has_references_and_a_memo_too() {
    let record = b"(cmail\nFolder\nU\x08ABCDEFGHQtq\x00.h\x00U\x08abcdefghQ\x86.";
    let found: Vec<String> = references(record).unwrap().iter().map(line_of).collect();
    assert_eq!(found, ["strong 4142434445464748", "strong 6162636465666768"]);
}

#[test]
fn a_bad_reference_says_where_and_why() {
    let found = |record: &'static [u8]| references(record).unwrap().remove(0);
    assert_eq!(found(b"N.NQ."), Reference::Bad { offset: 3, why: "None in place of an oid" });
    assert_eq!(found(b"N.C\x02abQ."), Reference::Bad { offset: 6, why: "an oid that is not 8 bytes long" });
    let text = b"N.X\x10\0\0\0\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9Q.";
    assert_eq!(found(text), Reference::Bad { offset: 23, why: "an oid in text that is not ASCII" });
    assert_eq!(found(b"N.Pabc\n."), Reference::Bad { offset: 2, why: "a line that is not 8 characters long" });
    let why = "`['w', oid]`, the form in which zodbupdate writes a weak reference: ZODB reads `['w', (oid,)]`";
    assert_eq!(found(b"N.](U\x01wC\x08\0\0\0\0\0\0\0\x1aeQ."), Reference::Bad { offset: 18, why });
    let why = "a list without a tuple at its end";
    assert_eq!(found(b"N.](U\x01wC\x02\0\0eQ."), Reference::Bad { offset: 12, why });
    assert_eq!(found(b"N.](U\x01nC\x08\0\0\0\0\0\0\0\x1aeQ."), Reference::Bad { offset: 18, why });
    assert_eq!(found(b"N.]Q."), Reference::Bad { offset: 3, why: "a list of neither one nor two items" });
}

#[test]
fn the_class_is_found_in_every_form() {
    let class = |record: &[u8]| class_of(record).map(|class| class.to_string()).map_err(|error| error.to_string());
    for record in [
        &b"cmail\nMessage\n."[..],
        b"(cmail\nMessage\nq\x01Ntq\x02.",
        b"\x80\x02cmail\nMessage\n)\x86.",
        b"((U\x04mailU\x07MessagetNt.",
        b"\x80\x03X\x04\0\0\0mailX\x07\0\0\0Message\x86N\x86.",
        b"(Vmail\nVMessage\nt.",
        b"((S'mail'\nS'Message'\ntp1\nNt.",
        b"\x80\x04\x95\x14\0\0\0\0\0\0\0\x8c\x04mail\x94\x8c\x07Message\x94\x93\x94.",
    ] {
        assert_eq!(class(record).as_deref(), Ok("mail.Message"), "{}", record.escape_ascii());
    }
    assert_eq!(class(b"N."), Err("byte 0: the class pickle holds None, which names no class".into()));
    assert_eq!(
        class(b")."),
        Err("byte 0: the class pickle holds a tuple of something else, which names no class".into())
    );
    assert_eq!(
        class(b"K\x01K\x02\x86."),
        Err("byte 0: the class pickle holds a plain value, which names no class".into())
    );
    assert_eq!(class(b""), Err("byte 0: the pickle ends before its STOP".into()));
}

#[test]
fn an_error_names_the_byte_and_the_opcode() {
    let cases: [(&[u8], &str); 25] = [
        (b"N.N\x85\x860000", "byte 4: opcode 0x86 (TUPLE2) finds an empty stack"),
        (b"N.", "byte 2: the second pickle of the record, the object's state, is missing"),
        (b"N.N", "byte 3: the pickle ends before its STOP"),
        (b"N..", "byte 2: opcode 0x2e (STOP) finds an empty stack"),
        (b"N.\xff", "byte 2: opcode 0xff is no pickle opcode"),
        (b"\x80\x06N.", "byte 0: opcode 0x80 (PROTO) announces protocol 6, and 5 is the newest known"),
        (b"X\x05\0\0\0abc", "byte 0: opcode 0x58 (BINUNICODE) needs 5 bytes after it, and the input has 3"),
        (b"J\0\0", "byte 0: opcode 0x4a (BININT) needs 4 bytes after it, and the input has 2"),
        (b"T\xff\xff\xff\xff", "byte 0: opcode 0x54 (BINSTRING) has the negative length -1"),
        (b"\x8b\xff\xff\xff\x7f", "byte 0: opcode 0x8b (LONG4) needs 2147483647 bytes after it, and the input has 0"),
        (
            b"\x8e\0\0\0\0\0\0\0\x80",
            "byte 0: opcode 0x8e (BINBYTES8) needs 9223372036854775808 bytes after it, and the input has 0",
        ),
        (b"\x95\x09\0\0\0\0\0\0\0N.", "byte 0: opcode 0x95 (FRAME) needs 9 bytes after it, and the input has 2"),
        (b"h\x05", "byte 0: opcode 0x68 (BINGET) asks for memo entry 5, which was never made"),
        (b"q\x05", "byte 0: opcode 0x71 (BINPUT) finds an empty stack"),
        (b"N(q\x05", "byte 2: opcode 0x71 (BINPUT) finds an empty stack"),
        (b"NN(R", "byte 3: opcode 0x52 (REDUCE) finds an empty stack"),
        (b"NN(\x86", "byte 3: opcode 0x86 (TUPLE2) finds an empty stack"),
        (b"X\x04\0\0\0abc", "byte 0: opcode 0x58 (BINUNICODE) needs 4 bytes after it, and the input has 3"),
        (b"N(0t", "byte 3: opcode 0x74 (TUPLE) finds no MARK"),
        (b"(K\x01d", "byte 3: opcode 0x64 (DICT) finds a key without a value"),
        (b"(o", "byte 1: opcode 0x6f (OBJ) finds no class above its MARK"),
        (b"(e", "byte 1: opcode 0x65 (APPENDS) finds an empty stack"),
        (b"cmail\nMess", "byte 0: opcode 0x63 (GLOBAL) needs a line of text after it, and the input ends first"),
        (b"Ione\n", "byte 0: opcode 0x49 (INT) has an argument that is no number"),
        (b"Np-1\n", "byte 1: opcode 0x70 (PUT) has an argument that is no number"),
    ];
    for (record, message) in cases {
        assert_eq!(references(record).unwrap_err().to_string(), message, "{}", record.escape_ascii());
    }
}

#[test]
fn shapes_that_python_allows_are_allowed() {
    // A POP that takes a MARK, values left on the stack, a second PROTO, frames that end anywhere, bytes at the end.
    let record = b"\x80\x02\x80\x05(0NN.\x95\x01\0\0\0\0\0\0\0N\x95\0\0\0\0\0\0\0\0N.and more";
    assert_eq!(references(record), Ok(vec![]));
}

/// The scanner, which a pack believes, and the tree, which a person is shown, disagreed about one record: of text in
/// `zodbpickle.binary`, which is for bytes only, and of a database whose name is `bytes()`. The fuzz target `record`,
/// which compares the scanner with a slow reader, fails for both.
#[test]
fn the_scanner_and_the_tree_see_the_same_in_calls() {
    use vellum_pickle::{Record, View};
    let states: [(&[u8], bool); 4] = [
        (b"czodbpickle\nbinary\nX\x08\0\0\0ABCDEFGH\x85RQ", true),
        (b"czodbpickle\nbinary\nC\x08ABCDEFGH\x85RQ", false),
        (b"](X\x01\0\0\0n(cbuiltins\nbytes\n)RC\x08\0\0\0\0\0\0\0\x01teQ", false),
        (b")Q", true),
    ];
    for (state, is_bad) in states {
        let record = [b"cm\nC\n.", state, b"."].concat();
        let scanned = references(&record).unwrap();
        let tree = Record::read(&record).unwrap();
        let View::Reference(shown) = tree.state().view() else { panic!("{}", record.escape_ascii()) };
        assert_eq!(scanned, [shown], "{}", record.escape_ascii());
        assert_eq!(matches!(scanned[0], Reference::Bad { .. }), is_bad, "{}", record.escape_ascii());
    }
}

/// Python finds a class in a class by a call, unless the protocol is 4 or 5.
#[test]
fn a_class_in_a_class_has_its_name_in_every_protocol() {
    // `nested.txt` has a record a line, as Python wrote it: of the class pickle in two forms, in protocols 0 to 5. Its
    // state refers to an object of the same class.
    let mut cases = 0;
    for line in include_str!("nested.txt").lines() {
        let (name, record) = line.split_once(' ').unwrap();
        let record = common::from_hex(record);
        assert_eq!(class_of(&record).unwrap().to_string(), "shop.Cart.Item.Price", "{name}");
        let found = references(&record).unwrap();
        assert!(matches!(found[..], [Reference::Strong { oid: 0x1a, .. }]), "{name}: {found:?}");
        let read = Record::read(&record).unwrap();
        let named: Vec<String> = read.references().iter().map(line_of).collect();
        // Protocol 0 has no room for a class.
        let wanted = if name.ends_with("-0") {
            "strong 000000000000001a"
        } else {
            "strong 000000000000001a shop.Cart.Item.Price"
        };
        assert_eq!(named, [wanted], "{name}");
        cases += 1;
    }
    assert_eq!(cases, 12);
}

#[test]
fn a_call_of_getattr_that_finds_no_class_stays_a_call() {
    for state in [
        &b"cbuiltins\ngetattr\nK\x05X\x04\0\0\0real\x86R."[..],
        b"cbuiltins\ngetattr\ncmail\nBox\nK\x05\x86R.",
        b"cbuiltins\ngetattr\ncmail\nBox\n\x85R.",
        b"coperator\ngetattr\ncmail\nBox\nX\x04\0\0\0Slot\x86R.",
    ] {
        assert!(class_of(state).is_err(), "{}", state.escape_ascii());
    }
}

/// A chain of classes: each name repeats all before it.
#[test]
fn names_of_classes_in_classes_take_no_more_than_the_record() {
    let chain = [&b"cm\nA\n"[..], &b"q\x000cbuiltins\ngetattr\nh\x00X\x01\0\0\0a\x86R".repeat(50_000), b"."].concat();
    let started = std::time::Instant::now();
    assert!(class_of(&chain).is_err(), "a name of 100,000 classes is no name");
    assert!(started.elapsed().as_secs() < 5, "took {:?}", started.elapsed());
}
