//! Bytes that no pickler wrote, or that were written with bad intent.

use crate::common;
use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vellum_pickle::{
    JsonOptions, Problem, RenderOptions, Scanner, class_of, compressed, decode_plain, encode, plain, references,
    render, to_json,
};

/// Runs everything on one input. Each call returns, and its result is not out of proportion.
fn run_all(stored: &[u8]) {
    let Ok(plain) = plain(stored) else {
        assert!(render(stored, &RenderOptions::default()).is_err() && Scanner::new().scan(stored, |_| ()).is_err());
        return;
    };
    let input = &*plain;
    if let Some(stored) = compressed(input) {
        assert_eq!(class_of(&stored), class_of(input));
        assert_eq!(Scanner::new().scan(&stored, |_| ()), Scanner::new().scan(input, |_| ()));
    }
    let found = references(input);
    let class = class_of(input);
    is_linear(input);
    let shown = render(input, &RenderOptions::default());
    // The scanner and the tree read by the same rules.
    assert_eq!(found.as_ref().err(), shown.as_ref().err());
    if found.is_ok() {
        assert!(
            !class.is_err_and(|error| !matches!(error.problem, Problem::NotAClass(_))),
            "the first pickle was read"
        );
    }
    if let Ok(shown) = shown {
        assert!(shown.len() <= 64 * 1024 + 20);
    }
    if let Ok((value, length)) = decode_plain(input) {
        assert!(length <= input.len());
        let again = encode(&value);
        // Not a comparison of the values: a NaN is not equal to itself.
        assert_eq!(encode(&decode_plain(&again).unwrap().0), again);
    }
}

/// Every record of a golden database.
static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let file = fs::read(common::golden("mail.fs")).unwrap();
    let mut records: Vec<Vec<u8>> = common::current_records(&file).into_values().flatten().collect();
    records.extend(include_str!("render.txt").lines().map(common::from_hex));
    records.extend(
        include_str!("references.txt").split("\n\n").map(|case| common::from_hex(case.lines().nth(1).unwrap())),
    );
    records
});

/// Opcodes with a few small arguments: they get further than random bytes do.
fn opcodes() -> impl Strategy<Value = Vec<u8>> {
    const PARTS: &[&[u8]] = &[
        b"(",
        b"0",
        b"1",
        b"2",
        b"]",
        b"}",
        b")",
        b"\x8f",
        b"a",
        b"e",
        b"s",
        b"u",
        b"t",
        b"l",
        b"d",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x90",
        b"\x91",
        b"N",
        b"K\x01",
        b"C\x08ABCDEFGH",
        b"U\x01w",
        b"U\x01m",
        b"X\x02\0\0\0db",
        b"Q",
        b"R",
        b"b",
        b"o",
        b"\x81",
        b"\x92",
        b"\x93",
        b"\x94",
        b"q\0",
        b"q\x01",
        b"h\0",
        b"h\x01",
        b"cmail\nThing\n",
        b"I7\n",
        b"cbuiltins\nset\n",
        b"c_codecs\nencode\n",
        b"U\x06latin1",
        b"ccopyreg\n__newobj__\n",
        b"imail\nThing\n",
        b".",
        b"cdatetime\ndate\n",
        b"C\x04\x07\xd3\x04\x01",
        b"\x82\x01",
        b"\x97",
        b"\x98",
        b"PABCDEFGH\n",
        b"j\xff\xff\xff\xff",
        b"r\xff\xff\xff\xff",
    ];
    prop::collection::vec(prop::sample::select(PARTS), 0..60)
        .prop_map(|parts| [&b"N."[..], &parts.concat(), b"(NNNNt."].concat())
}

/// The most that may be written of a record. A byte can repeat a date, which takes some forty in JSON, and sixty more
/// of indent in text; and of repeated text there may be four times the record and 64 KiB, in escapes of six bytes each.
fn linear(record: &[u8]) -> usize {
    128 * record.len() + (6 << 16) + 256
}

/// The whole state, as text and as JSON, is at most a constant factor longer than the record.
fn is_linear(record: &[u8]) {
    let full = RenderOptions { bytes_max: usize::MAX >> 1, depth_max: usize::MAX >> 1, width: 96 };
    let Ok(text) = render(record, &full) else { return };
    let json = to_json(record, &JsonOptions { btrees: true }).unwrap();
    for (what, length) in [("text", text.len()), ("JSON", json.len())] {
        assert!(length <= linear(record), "{length} bytes of {what} for {}: {}", record.len(), record.escape_ascii());
    }
    serde_json::from_str::<serde::de::IgnoredAny>(&json).unwrap();
}

/// A part of a pickle that makes one value of one, two or no others, in a way that could be written out again and
/// again.
fn sharing_parts() -> impl Strategy<Value = Vec<u8>> {
    const PARTS: &[&[u8]] = &[
        // A date in the zone that is on the stack, which comes twice into the next value.
        b"q\x05cdatetime\ndatetime\nC\x0a\x07\xd3\x04\x01\0\x25\0\0\0\0h\x05\x86R",
        b"q\x06cdatetime\ntime\nC\x06\0\x25\0\0\0\0h\x06\x86R",
        // The same arguments for two dates.
        b"q\x05C\x0a\x07\xd3\x04\x01\0\x25\0\0\0\0h\x05\x86q\x06cdatetime\ndatetime\nh\x06Rcdatetime\ndatetime\nh\x06R\x86",
        b"2\x86",
        b"q\x05]h\x05ah\x05a",
        b"q\x05}h\x05h\x05s",
        b"q\x05cmail\nThing\nh\x05\x85Rh\x05b",
        b"q\x05cmail\nThing\n)\x81h\x05bh\x05b",
        b"q\x05cbuiltins\nset\n]h\x05ah\x05a\x85R",
        b"q\x05ccopy_reg\n_reconstructor\nh\x05c__builtin__\nobject\nN\x87R",
        b"q\x05cbuiltins\ngetattr\nh\x05X\x01\0\0\0a\x86R",
        b"q\x05h\x05\x93",
        b"q\x05C\x08ABCDEFGHh\x05\x86q\x06Qh\x06Q\x86",
        b"q\x05](X\x01\0\0\0mX\x02\0\0\0dbC\x08ABCDEFGHh\x05\x87eQ",
        b"q\x05c_codecs\nencode\nh\x05X\x06\0\0\0latin1\x86R",
        b"\x94",
        b"(",
        b"t",
        b"h\x05",
        b"h\x06",
    ];
    const STARTS: &[&[u8]] = &[b"N", b")", b"]", b"cm\nC\n", b"X\x03\0\0\0abc", b"C\x08ABCDEFGH", b"K\x01\x85"];
    let part = prop::sample::select(PARTS);
    let some = prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat());
    let repeated = (some, 1..24_usize).prop_map(|(some, times)| some.repeat(times));
    (prop::sample::select(STARTS), 0..2000_usize, prop::collection::vec(repeated, 1..4)).prop_map(
        |(start, long, parts)| {
            // Text, bytes or a name that is repeated may be long.
            let long = match start {
                [b'X', ..] => [b"X", &(long as u32).to_le_bytes()[..], &b"\x01".repeat(long)].concat(),
                [b'c', ..] => [b"cm\n", &b"C".repeat(long)[..], b"\n"].concat(),
                start => start.to_vec(),
            };
            [&b"N."[..], &long, b"q\x05q\x06", &parts.concat(), b"."].concat()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
        run_all(&input);
    }

    #[test]
    fn random_opcodes_never_panic(input in opcodes()) {
        run_all(&input);
        run_all(&input[2..]);
    }

    #[test]
    fn shared_values_are_written_once(record in sharing_parts()) {
        is_linear(&record);
    }

    #[test]
    fn damaged_records_never_panic(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut record = which.get(&RECORDS).clone();
        for (at, byte) in damage {
            let at = at.index(record.len());
            record[at] = byte;
        }
        if !whole {
            record.truncate(cut.index(record.len()));
        }
        run_all(&record);
    }
}

#[test]
fn nesting_a_million_deep_does_not_overflow_the_stack() {
    let bytes: [(&[u8], &[u8], usize); 11] = [
        (b"(", b"", 1_000_000),
        (b"]", b"a", 1_000_000),
        (b"", b"\x85", 1_000_000),
        // A hundred thousand is enough for a stack, too, and quicker.
        (b"(", b"t", 100_000),
        (b"(", b"\x91", 100_000),
        (b"N}(NNu}", b"s", 100_000),
        (b"cm\nC\n)\x81", b"b", 100_000),
        (b"cm\nC\n", b"\x85R", 100_000),
        (b"", b"Q", 100_000),
        (b"]", b"aQ", 100_000),
        (b"", b"\x86R2", 100_000),
    ];
    for (open, close, depth) in bytes {
        let state = [open.repeat(depth), b"N".to_vec(), close.repeat(depth), b".".to_vec()].concat();
        run_all(&[b"N.", &state[..]].concat());
        run_all(&state);
    }
}

#[test]
fn bombs_do_not_go_off() {
    let started = Instant::now();
    let doubling = [&b"N.]"[..], &b"2\x86".repeat(100), b"."].concat();
    let memo: Vec<u8> = (1..=200_u8).flat_map(|n| [b']', b'q', n, b'(', b'h', n - 1, b'h', n - 1, b'e']).collect();
    let memo = [&b"N.]q\x00"[..], &memo, b"."].concat();
    let calls = [&b"N.N"[..], &b"q\x00cm\nC\nh\x00h\x00\x86R".repeat(100), b"."].concat();
    for bomb in [doubling, memo, calls] {
        run_all(&bomb);
        run_all(&bomb[2..]);
        let unlimited = RenderOptions { bytes_max: usize::MAX, depth_max: usize::MAX, width: 100 };
        assert!(render(&bomb, &unlimited).unwrap().len() < 200 * bomb.len());
        is_linear(&bomb);
        let refused = decode_plain(&bomb[2..]).unwrap_err();
        assert!(
            matches!(refused.problem, Problem::TooLarge(_) | Problem::TooDeep(_) | Problem::NotPlain(_)),
            "{refused}"
        );
    }
    // Long strings that are decoded again and again.
    let long = "é".repeat(200_000);
    let text = [&b"X"[..], &(long.len() as u32).to_le_bytes(), long.as_bytes(), b"q\x00"].concat();
    for (before, part) in [
        (&b""[..], &b"h\x00Q0"[..]),
        (b"c_codecs\nencode\nq\x01U\x06latin1q\x02", b"h\x01h\x00h\x02\x86RQ0"),
        (b"cdatetime\ndate\nq\x01c_codecs\nencode\nh\x00U\x06latin1\x86Rq\x02", b"h\x01h\x02\x85R"),
        (b"", b"h\x00h\x00\x93"),
        (b"(", b"h\x00"),
    ] {
        let state = [&text[..], before, &part.repeat(200_000), b"N\x85."].concat();
        run_all(&[b"N.", &state[..]].concat());
        run_all(&state);
    }
    // A number of many digits, read again and again.
    let digits = [&b"L"[..], &[b'9'; 640], b"\nq\x00("].concat();
    run_all(&[&b"N."[..], &digits, &b"h\x00".repeat(200_000), b"t."].concat());
    run_all(&[&digits[..], &b"h\x00".repeat(200_000), b"t."].concat());
    assert!(started.elapsed() < Duration::from_secs(30), "took {:?}", started.elapsed());
}

#[test]
fn a_huge_memo_key_or_length_allocates_nothing() {
    for opcode in [&b"r\xff\xff\xff\xffj\xff\xff\xff\xff"[..], b"p99999999999999\ng99999999999999\n"] {
        let record = [b"N.N", opcode, b"."].concat();
        assert_eq!(references(&record), Ok(vec![]));
        assert_eq!(render(&record, &RenderOptions::default()).as_deref(), Ok("None"));
    }
}

/// Dates in zones that are made from earlier dates: each one holds the one before it twice.
#[test]
fn dates_in_zones_made_of_dates_are_written_once() {
    let date = b"q\x01cdatetime\ndatetime\nC\x0a\x07\xd3\x04\x01\0\x25\0\0\0\0cpytz\nZone\nh\x01h\x01\x86R\x86R";
    let record = |times: usize| [&b"N.N"[..], &date.repeat(times), b"."].concat();
    let full = RenderOptions { bytes_max: usize::MAX >> 1, depth_max: usize::MAX >> 1, width: 96 };
    let lengths = [4, 8, 12].map(|times| render(&record(times), &full).unwrap().len());
    // Written out, four more dates would make it sixteen times as long.
    assert!(lengths[2] < 4 * lengths[1], "{lengths:?}");
    is_linear(&record(12));
}
