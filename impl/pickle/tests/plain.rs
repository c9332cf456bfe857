//! Plain values, read and written.
//!
//! What is written is compared with what ZODB's pickler writes at protocol 3 in its `fast` mode, which has no memo.

use bytes::Bytes;
use vellum_pickle::{Value, decode_plain, encode};

fn text(text: &str) -> Value {
    Value::Text(text.to_string())
}

fn read(pickle: &[u8]) -> Result<Value, String> {
    match decode_plain(pickle) {
        Ok((value, length)) => {
            assert_eq!(length, pickle.len());
            Ok(value)
        }
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn every_value_is_written_as_zodb_writes_it_and_read_again() {
    let int = Value::Int;
    let cases: Vec<(Value, &[u8])> = vec![
        (Value::None, b"N"),
        (Value::Bool(true), b"\x88"),
        (Value::Bool(false), b"\x89"),
        (int(0), b"K\x00"),
        (int(255), b"K\xff"),
        (int(256), b"M\x00\x01"),
        (int(65535), b"M\xff\xff"),
        (int(65536), b"J\x00\x00\x01\x00"),
        (int(-1), b"J\xff\xff\xff\xff"),
        (int(-(1 << 31)), b"J\x00\x00\x00\x80"),
        (int(1 << 31), b"\x8a\x05\x00\x00\x00\x80\x00"),
        (int(-(1 << 31) - 1), b"\x8a\x05\xff\xff\xff\x7f\xff"),
        (int(i64::MIN), b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80"),
        (Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0x80, 0]), b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00"),
        (Value::Float(1.5), b"G\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        (Value::Bytes(Bytes::from_static(b"ab")), b"C\x02ab"),
        (text("é"), b"X\x02\x00\x00\x00\xc3\xa9"),
        (Value::Tuple(vec![]), b")"),
        (Value::Tuple(vec![int(1)]), b"K\x01\x85"),
        (Value::Tuple(vec![int(1), int(2)]), b"K\x01K\x02\x86"),
        (Value::Tuple(vec![int(1), int(2), int(3)]), b"K\x01K\x02K\x03\x87"),
        (Value::Tuple(vec![int(1), int(2), int(3), int(4)]), b"(K\x01K\x02K\x03K\x04t"),
        (Value::List(vec![]), b"]"),
        (Value::List(vec![int(1)]), b"]K\x01a"),
        (Value::List(vec![int(1), int(2)]), b"](K\x01K\x02e"),
        (Value::Dict(vec![]), b"}"),
        (Value::Dict(vec![(text("a"), int(1))]), b"}X\x01\x00\x00\x00aK\x01s"),
        (Value::Dict(vec![(int(1), int(2)), (int(3), int(4))]), b"}(K\x01K\x02K\x03K\x04u"),
    ];
    for (value, body) in cases {
        let pickle = [b"\x80\x03", body, b"."].concat();
        assert_eq!(encode(&value).escape_ascii().to_string(), pickle.escape_ascii().to_string());
        assert_eq!(read(&pickle), Ok(value));
    }
}

#[test]
fn long_strings_and_long_lists_are_written_as_zodb_writes_them() {
    let bytes = Value::Bytes(Bytes::from(vec![b'x'; 256]));
    assert_eq!(encode(&bytes), [&b"\x80\x03B\x00\x01\x00\x00"[..], &[b'x'; 256], b"."].concat());
    let list = Value::List(vec![Value::None; 1001]);
    assert_eq!(encode(&list), [&b"\x80\x03]("[..], &[b'N'; 1000], b"e(Ne."].concat());
    let dict = Value::Dict(vec![(Value::None, Value::None); 1000]);
    assert_eq!(encode(&dict), [&b"\x80\x03}("[..], &[b'N'; 2000], b"u."].concat());
    for value in [bytes, list, dict] {
        assert_eq!(read(&encode(&value)), Ok(value));
    }
}

#[test]
fn the_index_file_is_a_sequence_of_pickles() {
    // As ZODB wrote it for a small database: the position, a pair for the only prefix, and the end.
    let file = b"\x80\x03M\xb9\x0a.\x80\x03C\x06\0\0\0\0\0\0q\x00C\x08\0\0\0\0\0\0\0\x04q\x01\x86q\x02.\x80\x03N.";
    let mut rest = &file[..];
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (value, length) = decode_plain(rest).unwrap();
        values.push(value);
        rest = &rest[length..];
    }
    let bytes = |bytes: &'static [u8]| Value::Bytes(Bytes::from_static(bytes));
    let pair = Value::Tuple(vec![bytes(&[0; 6]), bytes(b"\0\0\0\0\0\0\0\x04")]);
    assert_eq!(values, [Value::Int(2745), pair.clone(), Value::None]);
    // Python 2 wrote the same with its own strings, and with the memo.
    assert_eq!(read(b"(U\x06\0\0\0\0\0\0q\x01U\x08\0\0\0\0\0\0\0\x04q\x02tq\x03."), Ok(pair));
}

#[test]
fn an_extension_is_read_in_every_protocol() {
    let wanted = Value::Dict(vec![
        (text("batch"), Value::Int(3)),
        (text("big"), Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0, 64])),
    ]);
    for pickle in [
        &b"(dp0\nVbatch\np1\nI3\nsVbig\np2\nL1180591620717411303424L\ns."[..],
        b"}q\x00(X\x05\0\0\0batchq\x01K\x03X\x03\0\0\0bigq\x02L1180591620717411303424L\nu.",
        b"\x80\x02}q\x00(X\x05\0\0\0batchq\x01K\x03X\x03\0\0\0bigq\x02\x8a\x09\0\0\0\0\0\0\0\0\x40u.",
        b"\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94(\x8c\x05batch\x94K\x03\x8c\x03big\x94\x8a\x09\0\0\0\0\0\0\0\0\x40u.",
    ] {
        assert_eq!(read(pickle), Ok(wanted.clone()), "{}", pickle.escape_ascii());
    }
    assert_eq!(read(b"L-1180591620717411303424L\n."), Ok(Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0, 0xc0])));
    assert_eq!(read(b"L-128L\n."), Ok(Value::Int(-128)));
    // Bytes that Python 3 wrote for Python 2.
    let encoded = b"\x80\x02c_codecs\nencode\nX\x05\0\0\0abc\xc3\xbfX\x06\0\0\0latin1\x86R.";
    assert_eq!(read(encoded), Ok(Value::Bytes(Bytes::from_static(b"abc\xff"))));
    assert_eq!(read(b"\x80\x02c__builtin__\nbytes\n)R."), Ok(Value::Bytes(Bytes::new())));
}

#[test]
fn what_is_not_plain_is_refused() {
    let not_plain = |what: &str| Err(format!("byte 0: the pickle holds {what}, which is not plain data"));
    assert_eq!(read(b"cmail\nMessage\n."), not_plain("a class"));
    assert_eq!(read(b"cmail\nMessage\n)R."), not_plain("an object"));
    assert_eq!(read(b"]U\x08ABCDEFGHQa."), not_plain("a reference"));
    assert_eq!(read(b"}Nb."), not_plain("an object with a state"));
    assert_eq!(read(b"X\x03\0\0\0\xed\xa0\x80."), not_plain("text that is not Unicode"));
    let circle = b"]q\x00h\x00a.";
    assert_eq!(read(circle), Err("byte 0: the pickle nests its data more than 64 deep, or in a circle".into()));
}
