//! States as a person sees them.

use crate::common;
use vellum_pickle::{RenderOptions, render};

/// Shows a state, which is put after a class.
fn show(state: &[u8]) -> String {
    let record = [b"cmail\nMessage\n.", state].concat();
    render(&record, &RenderOptions::default()).unwrap()
}

#[test]
fn the_same_state_looks_the_same_in_every_protocol() {
    // `render.txt` has one record a line, for protocols 0 to 5, as Python wrote them.
    for (protocol, line) in include_str!("render.txt").lines().enumerate() {
        // Protocols 0 and 1 cannot write the arguments of `__new__`.
        let arguments = if protocol < 2 { "" } else { "1, 2" };
        let wanted = format!(
            "{{
  'd': 2003-04-01T00:37:00.000005,
  'day': 2003-04-01,
  't': mail.Thing({arguments}) with state {{'a': 1}},
  's': {{1}},
  'f': frozenset({{2}}),
  'b': b'\\xffa',
  'e': b'',
  'big': 1180591620717411303424
}}"
        );
        assert_eq!(render(&common::from_hex(line), &RenderOptions::default()).unwrap(), wanted, "protocol {protocol}");
    }
}

#[test]
fn values_look_as_in_python() {
    let cases: [(&[u8], &str); 16] = [
        (b"N.", "None"),
        (b"(\x88\x89I01\nK\x05J\xff\xff\xff\xfft.", "(True, False, True, 5, -1)"),
        (b"G\x3f\xf8\0\0\0\0\0\0.", "1.5"),
        (b"U\x05it's\n.", "\"it's\\n\""),
        (b"U\x02\xff\0.", "b'\\xff\\x00'"),
        (b"X\x06\0\0\0\xc3\xa9\xe2\x98\x83\x1b.", "'é☃\\x1b'"),
        (b"K\x01\x85.", "(1,)"),
        (b"].", "[]"),
        (b"\x8f.", "set()"),
        (b"\x8f(K\x01K\x02\x90.", "{1, 2}"),
        (b"cmail\nThing\n.", "mail.Thing"),
        (b"cmail\nThing\n)\x81K\x01b.", "mail.Thing() with state 1"),
        (b"cmail\nThing\nK\x01\x85R(K\x02K\x03eK\x04K\x05s.", "mail.Thing(1) with items [2, 3] with pairs {4: 5}"),
        (b"cmail\nThing\n)}U\x01aK\x01s\x92.", "mail.Thing(**{'a': 1})"),
        (b"(imail\nThing\n}U\x01aK\x01sb.", "mail.Thing() with state {'a': 1}"),
        (b"\x8a\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01.", "0x0100000000000000000000000000000000"),
    ];
    for (state, wanted) in cases {
        assert_eq!(show(state), wanted, "{}", state.escape_ascii());
    }
}

#[test]
fn references_show_where_they_point() {
    let cases: [(&[u8], &str); 8] = [
        (b"C\x08\0\0\0\0\0\0\0\x1aQ.", "→ 000000000000001a"),
        (b"C\x08\0\0\0\0\0\0\0\x1acmail\nMessage\n\x86Q.", "→ 000000000000001a mail.Message"),
        (b"](U\x01wC\x08\0\0\0\0\0\0\0\x1a\x85eQ.", "⇢ 000000000000001a"),
        (b"](U\x01wC\x08\0\0\0\0\0\0\0\x1aU\x03old\x86eQ.", "⇢ old:000000000000001a"),
        (b"](U\x01mU\x03oldC\x08\0\0\0\0\0\0\0\x1acmail\nMessage\n\x87eQ.", "→ old:000000000000001a mail.Message"),
        (b"](U\x01nU\x03oldC\x08\0\0\0\0\0\0\0\x1a\x86eQ.", "→ old:000000000000001a"),
        (b"NQ.", "→ damaged (None in place of an oid)"),
        (b"PABCDEFGH\n.", "→ 4142434445464748"),
    ];
    for (state, wanted) in cases {
        assert_eq!(show(state), wanted, "{}", state.escape_ascii());
    }
}

#[test]
fn a_date_in_a_time_zone_keeps_it() {
    let state = b"cdatetime\ndatetime\nC\x0a\x07\xd3\x04\x01\0\x25\0\0\0\0cpytz\nUTC\n)R\x86R.";
    assert_eq!(show(state), "datetime.datetime(2003-04-01T00:37:00, pytz.UTC())");
    // Bytes that are no date are shown as they are.
    assert_eq!(show(b"cdatetime\ndate\nC\x04\x07\xd3\x0d\x01\x85R."), "datetime.date(b'\\x07\\xd3\\r\\x01')");
}

#[test]
fn shared_values_are_shown_once() {
    assert_eq!(show(b"]q\x00K\x01ah\x00h\x00\x87."), "(&1 [1], *1, *1)");
    assert_eq!(show(b"]q\x00h\x00a."), "&1 [*1]", "a list that holds itself");
    assert_eq!(show(b"cmail\nThing\n)\x81q\x00}U\x02meh\x00sb."), "&1 mail.Thing() with state {'me': *1}");
    let arguments = b"K\x01\x85q\x00cmail\nThing\nh\x00Rcmail\nThing\nh\x00R\x87.";
    assert_eq!(show(arguments), "(&1 (1,), mail.Thing(*(*1)), mail.Thing(*(*1)))");
}

#[test]
fn output_is_limited_in_length_depth_and_width() {
    let record = b"N.]]]K\x01aaa.";
    let show = |options: RenderOptions| render(record, &options).unwrap();
    let all = RenderOptions::default();
    assert_eq!(show(RenderOptions { depth_max: 2, ..all.clone() }), "[[[…]]]");
    assert_eq!(show(RenderOptions { bytes_max: 3, ..all.clone() }), "[\n … (truncated)");
    assert_eq!(show(RenderOptions { width: 6, ..all }), "[\n  [\n    [\n      1\n    ]\n  ]\n]");
}

#[test]
fn an_unreadable_state_is_an_error_that_says_where() {
    let error = render(b"N.N\x86.", &RenderOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "byte 3: opcode 0x86 (TUPLE2) finds an empty stack");
}

/// The arguments of an object, and its later additions, look different.
#[test]
fn arguments_items_pairs_and_state_look_different() {
    let cases: [(&[u8], &str); 9] = [
        // One argument that is a tuple, and the same tuple as all arguments.
        (b"cm\nC\nK\x01K\x02\x86q\x00\x85Rcm\nC\nh\x00R\x86.", "(m.C(&1 (1, 2)), m.C(*(*1)))"),
        (b"cm\nC\nK\x01K\x02\x86q\x00Rcm\nC\nh\x00\x85R\x86.", "(m.C(*(&1 (1, 2))), m.C(*1))"),
        (b"cm\nC\n)q\x00Rh\x00\x86.", "(m.C(), ())"),
        (b"cm\nC\n)\x81}U\x01aK\x01s\x85b.", "m.C() with state ({'a': 1},)"),
        (b"cm\nC\n)\x81(K\x01K\x02u.", "m.C() with pairs {1: 2}"),
        (b"cm\nC\n)\x81\x8f(K\x01\x90b.", "m.C() with state {1}"),
        (b"cm\nC\n)\x81K\x01bK\x02b.", "m.C() with state 1 with state 2"),
        (b"cm\nC\nK\x01\x85}q\x00U\x01aK\x01s\x92h\x00\x86.", "(m.C(1, **(&1 {'a': 1})), *1)"),
        // Made from a list, which is no dict of attributes.
        (
            b"ccopy_reg\n_reconstructor\n(cm\nC\nc__builtin__\nlist\n](K\x01etR.",
            "copy_reg._reconstructor(m.C, __builtin__.list, [1])",
        ),
    ];
    for (state, wanted) in cases {
        assert_eq!(show(state), wanted, "{}", state.escape_ascii());
    }
}

#[test]
fn a_single_surrogate_looks_the_same_in_every_protocol() {
    for state in [
        &b"V\\ud800\\udc00a\\ud83d\n."[..],
        b"X\x08\0\0\0\xf0\x90\x80\x80a\xed\xa0\xbd.",
        b"\x8c\x08\xf0\x90\x80\x80a\xed\xa0\xbd.",
    ] {
        assert_eq!(show(state), "'\u{10000}a\\ud83d'", "{}", state.escape_ascii());
    }
}

#[test]
fn the_second_of_two_hours_with_one_name_says_so() {
    let state =
        |month: u8| [&b"cdatetime\ndatetime\nC\x0a\x07\xd3"[..], &[month], b"\x01\0\x25\0\0\0\0\x85R."].concat();
    assert_eq!(show(&state(4)), "2003-04-01T00:37:00");
    assert_eq!(show(&state(0x84)), "datetime.datetime(2003-04-01T00:37:00, fold=1)");
    let time = b"cdatetime\ntime\nC\x06\x80\x25\0\0\0\0cpytz\nUTC\n)R\x86R.";
    assert_eq!(show(time), "datetime.time(00:37:00, pytz.UTC(), fold=1)");
}

/// Lists and sets that are empty can be changed, so it is to be seen that two are one.
#[test]
fn an_empty_list_that_is_shared_is_marked() {
    assert_eq!(show(b"]q\x00h\x00\x86."), "(&1 [], *1)");
    assert_eq!(show(b")q\x00h\x00\x86."), "((), ())");
}
