//! Text of Python 2 that Python 3 cannot load: which strings those are, and where. `cargo xtask peers` asks ZODB.

use vellum_pickle::python_2_text;

/// How many there are, and where each is, in a record of this state.
fn found(state: &[u8]) -> (u64, Vec<String>) {
    let record = [b"cshop\nItem\nq\x00.", state].concat();
    let (count, texts) = python_2_text(&record, 10, 100).unwrap_or_else(|e| panic!("{}: {e}", state.escape_ascii()));
    let text = |text: vellum_pickle::NativeText| {
        format!("{} {}", text.path.as_deref().unwrap_or("nowhere"), text.bytes.escape_ascii())
    };
    (count, texts.into_iter().map(text).collect())
}

#[test]
fn only_text_of_python_2_that_is_not_ascii_is_found() {
    let none: [&[u8]; 12] = [
        b"N.",
        b"U\x03abc.",
        b"T\x03\0\0\0abc.",
        b"S'abc\\n\\x7f'\n.",
        b"U\x00.",
        b"S'\\400'\n.",
        b"C\x02a\xe9.",
        b"B\x02\0\0\0a\xe9.",
        b"X\x02\0\0\0\xc3\xa9.",
        b"Va\xe9\n.",
        b"P\xe9\n.",
        // Bytes behind the second pickle are never read.
        b"N.U\x02a\xe9.",
    ];
    for state in none {
        assert_eq!(found(state), (0, vec![]), "{}", state.escape_ascii());
    }
}

#[test]
fn each_is_found_wherever_it_is() {
    let cases: [(&[u8], &[&str]); 19] = [
        (b"U\x02a\xe9.", &[r"state a\xe9"]),
        (b"U\x03a\xc3\xa9.", &[r"state a\xc3\xa9"]),
        (b"T\x02\0\0\0a\xe9.", &[r"state a\xe9"]),
        (b"S'a\\xe9'\n.", &[r"state a\xe9"]),
        (b"S\"a\\351\"\n.", &[r"state a\xe9"]),
        (b"}U\x05titleU\x02a\xe9s.", &[r"state['title'] a\xe9"]),
        (b"}U\x02a\xe9K\x01s.", &[r"state key a\xe9"]),
        (b"}U\x02a\xe9]U\x01\xffas.", &[r"state key a\xe9", r"state[b'a\xe9'][0] \xff"]),
        (b"}K\x07](K\x01U\x01\x80es.", &[r"state[7][1] \x80"]),
        (b"cdatetime\ndate\nU\x04\x07\xe0\x01\x02\x85R.", &[r"state.arguments[0] \x07\xe0\x01\x02"]),
        (b"(ishop\nA\n}U\x01aU\x01\xe9sb.", &[r"state.state['a'] \xe9"]),
        (b"\x80\x02cshop\nA\n)\x81}U\x01aU\x01\xe9sb.", &[r"state.state['a'] \xe9"]),
        (b"c__builtin__\nset\n](U\x01\xe9e\x85R.", &[r"state.arguments[0][0] \xe9"]),
        (b"U\x08\0\0\0\0\0\0\0\x80cshop\nA\n\x86Q.", &[r"state of a reference[0] \x00\x00\x00\x00\x00\x00\x00\x80"]),
        (b"czodbpickle\nbinary\nU\x02a\xe9\x85R.", &[r"state a\xe9"]),
        // The object does not keep these, and they are decoded all the same.
        (b"U\x02a\xe90N.", &[r"nowhere a\xe9"]),
        (b"U\x02a\xe9q\x050N.", &[r"nowhere a\xe9"]),
        // One that is shared is one.
        (b"U\x01\xe9q\x01h\x01\x86.", &[r"state[0] \xe9"]),
        // A list that is in itself.
        (b"]q\x01(h\x01U\x01\xe9e.", &[r"state[1] \xe9"]),
    ];
    for (state, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(found(state), (expected.len() as u64, expected), "{}", state.escape_ascii());
    }
    let record = b"(cshop\nItem\n(U\x01\xe9tt.N.";
    let (count, texts) = python_2_text(record, 1, 100).unwrap();
    assert_eq!((count, texts[0].path.as_deref()), (1, Some("class[1][0]")));
}

#[test]
fn the_shown_text_is_bounded() {
    let many = [b"cshop\nItem\n.](".as_slice(), &b"U\x01\xe9".repeat(1000), b"e."].concat();
    let (count, texts) = python_2_text(&many, 3, 100).unwrap();
    assert_eq!((count, texts.len()), (1000, 3));
    let deep = [b"cshop\nItem\n.".as_slice(), b"U\x64", &[0xe9; 100], &b"\x85".repeat(1_000_000), b"."].concat();
    let (count, texts) = python_2_text(&deep, 3, 7).unwrap();
    assert_eq!((count, texts[0].bytes.len()), (1, 7));
    assert_eq!(texts[0].path.as_deref(), Some(&*format!("state…{}", "[0]".repeat(12))));
}
