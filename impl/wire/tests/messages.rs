//! Messages in both codecs: the real ones byte for byte, and everything that the types can say.

use bytes::{Buf, Bytes};
use proptest::prelude::*;
use vellum_storage::{LoadedAt, Oid, Tid, Version};
use vellum_wire::{
    Ahead, BadCall, Begin, Call, Codec, Fault, Limits, Message, MessageId, NotUndone, Notice, Reach, Rope, Value,
};

const LIMITS: Limits = Limits { parts_max: 10_000 };
const CODECS: [Codec; 2] = [Codec::Pickle, Codec::Msgpack];

fn encoded(codec: Codec, message: Message) -> Bytes {
    let mut rope = Rope::default();
    codec.encode(message, &mut rope).unwrap();
    let frame = rope.copy_to_bytes(rope.remaining());
    assert_eq!(u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize, frame.len() - 4);
    frame.slice(4..)
}

/// Bytes as in a hex dump where text stands between quotation marks.
fn bytes(dump: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, piece) in dump.split('\'').enumerate() {
        match n % 2 {
            1 => out.extend_from_slice(piece.as_bytes()),
            _ => {
                let digits: Vec<u8> = piece.bytes().filter(u8::is_ascii_hexdigit).collect();
                out.extend(
                    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()),
                );
            }
        }
    }
    out
}

/// Messages of ZEO 6.2 and its client, seen on a socket.
#[test]
fn the_real_thing_sends_these_bytes() {
    let register = Call::Register { storage: Value::Text("1".to_owned()), read_only: false };
    let register = |read_only: Value| Message {
        args: Value::Tuple(vec![Value::Text("1".to_owned()), read_only]),
        ..register.clone().into_message(Some(MessageId(Value::Int(1))))
    };
    let one = Value::Int(1);
    let tid = Value::Bytes(Bytes::from_static(&[0; 8]));
    let info = Notice::Info { length: 1, size: 300 }.into_message();
    let cases = [
        (Codec::Pickle, register(Value::Int(0)), "8003284b0189 58 08000000 'register' 58 01000000 '1' 4b00 86742e"),
        (Codec::Msgpack, register(Value::Int(0)), "9401c2a8'register'92a1'1'00"),
        (
            Codec::Pickle,
            Message::reply(one.clone(), tid),
            "8003284b014b0058060000002e7265706c79 4308 0000000000000000 742e",
        ),
        (Codec::Pickle, Message::heartbeat(), "8003284affffffff4b0058060000002e7265706c794e742e"),
        (Codec::Msgpack, Message::heartbeat(), "94ff00a62e7265706c79c0"),
        (
            Codec::Pickle,
            info,
            "8003284b0088 58 04000000 'info' 7d 28 58 06000000 'length' 4b01 58 04000000 'size' 4d2c01 75 85 742e",
        ),
        (
            Codec::Msgpack,
            Message::error(one.clone(), Fault::ReadOnly.into_value(Codec::Msgpack)),
            "9401 02 a6'.reply' 92 bf'ZODB.POSException.ReadOnlyError' 90",
        ),
        (
            Codec::Pickle,
            Message::error(one, Fault::NoObject { oid: Oid(1) }.into_value(Codec::Pickle)),
            "8003284b014b0258060000002e7265706c79 58 1d000000 'ZODB.POSException.POSKeyError' 43080000000000000001 85 86 742e",
        ),
    ];
    for (codec, message, wanted) in cases {
        let wanted = bytes(wanted);
        assert_eq!(encoded(codec, message.clone()).escape_ascii().to_string(), wanted.escape_ascii().to_string());
        assert_eq!(codec.decode(&wanted.into(), LIMITS).unwrap(), message);
    }
}

#[test]
fn a_record_is_sent_and_read_without_a_copy() {
    let data = Bytes::from(vec![7; 1 << 20]);
    for codec in CODECS {
        let transaction = MessageId(Value::Int(5));
        let store = Call::Store { oid: Oid(1), serial: Tid(2), data: data.clone(), transaction };
        let mut rope = Rope::default();
        codec.encode(store.into_message(None), &mut rope).unwrap();
        rope.advance(rope.chunk().len());
        assert_eq!(rope.chunk().as_ptr(), data.as_ptr(), "{codec:?}: sent");
        let frame = encoded(codec, Message::one_way("storea", vec![Value::Bytes(data.clone())]));
        let Value::Tuple(args) = codec.decode(&frame, LIMITS).unwrap().args else { panic!() };
        let Value::Bytes(read) = &args[0] else { panic!() };
        assert!(frame.as_ptr_range().contains(&read.as_ptr()), "{codec:?}: read");
    }
}

/// A client that sent a list may get a tuple.
fn in_tuples(value: Value) -> Value {
    match value {
        Value::Tuple(items) | Value::List(items) => Value::Tuple(items.into_iter().map(in_tuples).collect()),
        Value::Dict(pairs) => Value::Dict(pairs.into_iter().map(|(key, value)| (key, in_tuples(value))).collect()),
        other => other,
    }
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof!["[a-zé]{0,40}", "[a-z]{250,300}"].prop_map(Value::Text)
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), proptest::collection::vec(any::<u8>(), 250..5000)]
        .prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (0..64_u32, -2..2_i64).prop_map(|(bits, more)| Value::Int((1_i64 << bits).wrapping_add(more))),
        (0..64_u32, -2..2_i64).prop_map(|(bits, more)| Value::Int((-1_i64 << bits).wrapping_add(more))),
        (i64::MAX as u64 + 1..).prop_map(|number| Value::BigInt([&number.to_le_bytes()[..], &[0]].concat())),
        (-1e300..1e300).prop_map(Value::Float),
        text(),
        blob().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(4, 60, 20, |inner| {
        let key = prop_oneof![text(), blob().prop_map(Value::Bytes)];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Tuple),
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::List),
            proptest::collection::vec((key, inner), 0..20).prop_map(Value::Dict),
        ]
    })
}

fn transaction() -> impl Strategy<Value = MessageId> {
    // A longer one is refused.
    value().prop_map(|value| MessageId(if MessageId::is_short(&value) { value } else { Value::Int(7) }))
}

fn oids() -> impl Strategy<Value = Vec<Oid>> {
    proptest::collection::vec(any::<u64>().prop_map(Oid), 0..20)
}

fn ahead() -> impl Strategy<Value = Ahead> {
    (any::<u64>(), blob(), any::<u64>(), proptest::option::of(any::<u64>())).prop_map(|(oid, data, tid, next)| Ahead {
        oid: Oid(oid),
        revision: LoadedAt { data, tid: Tid(tid), next: next.map(Tid) },
    })
}

fn call() -> impl Strategy<Value = Call> {
    let oid = || any::<u64>().prop_map(Oid);
    let tid = || any::<u64>().prop_map(Tid);
    let maybe = || proptest::option::of(any::<u64>().prop_map(Tid));
    let extension = prop_oneof![
        Just(Value::None),
        proptest::collection::vec((text(), value()), 0..4).prop_map(Value::Dict),
        blob().prop_map(Value::Bytes)
    ];
    prop_oneof![
        (value(), any::<bool>()).prop_map(|(storage, read_only)| Call::Register { storage, read_only }),
        proptest::sample::select(vec![
            Call::GetInfo,
            Call::LastTransaction,
            Call::NewOid,
            Call::StoreBlobStart,
            Call::ServerStatus,
            Call::Ping,
            Call::Versions,
        ]),
        tid().prop_map(|tid| Call::GetInvalidations { tid }),
        (0..200_i64).prop_map(|count| Call::NewOids { count }),
        ((-1e10..1e10_f64), any::<bool>()).prop_map(|(time, wait)| Call::Pack { time, wait }),
        (oid(), tid()).prop_map(|(oid, before)| Call::LoadBefore { oid, before }),
        (oid(), tid()).prop_map(|(oid, tid)| Call::LoadSerial { oid, tid }),
        (oid(), any::<i64>()).prop_map(|(oid, size)| Call::History { oid, size }),
        (oid(), tid()).prop_map(|(oid, serial)| Call::SendBlob { oid, serial }),
        proptest::option::of(oid()).prop_map(|next| Call::RecordIterNext { next }),
        (transaction(), blob(), blob(), extension, maybe(), text()).prop_map(
            |(transaction, user, description, extension, tid, status)| {
                Call::TpcBegin(Box::new(Begin { transaction, user, description, extension, tid, status }))
            }
        ),
        (oid(), tid(), blob(), transaction()).prop_map(|(oid, serial, data, transaction)| Call::Store {
            oid,
            serial,
            data,
            transaction
        }),
        (oid(), tid(), transaction()).prop_map(|(oid, serial, transaction)| Call::Delete { oid, serial, transaction }),
        (oid(), tid(), transaction()).prop_map(|(oid, serial, transaction)| Call::CheckCurrent {
            oid,
            serial,
            transaction
        }),
        (blob(), transaction()).prop_map(|(undone, transaction)| Call::Undo { undone, transaction }),
        (oid(), tid(), proptest::option::of(blob()), maybe(), transaction())
            .prop_map(|(oid, tid, data, source, transaction)| Call::Restore { oid, tid, data, source, transaction }),
        transaction().prop_map(|transaction| Call::Vote { transaction }),
        transaction().prop_map(|transaction| Call::TpcFinish { transaction }),
        transaction().prop_map(|transaction| Call::TpcAbort { transaction }),
        blob().prop_map(|chunk| Call::StoreBlobChunk { chunk }),
        (oid(), tid(), blob(), transaction()).prop_map(|(oid, serial, data, transaction)| Call::StoreBlobEnd {
            oid,
            serial,
            data,
            transaction
        }),
        (oid(), tid(), blob(), text(), transaction()).prop_map(|(oid, serial, data, file, transaction)| {
            Call::StoreBlobShared { oid, serial, data, file, transaction }
        }),
        (any::<i64>(), any::<i64>()).prop_map(|(first, last)| Call::UndoLog { first, last }),
        (any::<i64>(), any::<i64>(), transaction())
            .prop_map(|(first, last, MessageId(specification))| Call::UndoInfo { first, last, specification }),
        (maybe(), maybe()).prop_map(|(start, stop)| Call::IteratorStart { start, stop }),
        any::<i64>().prop_map(|iterator| Call::IteratorNext { iterator }),
        any::<i64>().prop_map(|iterator| Call::IteratorRecordNext { iterator }),
        (any::<i64>(), tid()).prop_map(|(iterator, tid)| Call::IteratorRecordStart { iterator, tid }),
        proptest::collection::vec(any::<i64>(), 0..5).prop_map(|iterators| Call::IteratorGc { iterators }),
        "[a-z]{0,9}".prop_map(|label| Call::SetClientLabel { label }),
        (oids(), tid()).prop_map(|(oids, before)| Call::LoadMany { oids, before }),
        (oids(), tid(), any::<u32>(), any::<u32>(), 0..i64::MAX as u64).prop_map(
            |(oids, before, depth, count, bytes)| {
                Call::Prefetch { oids, before, reach: Reach { depth, count, bytes } }
            }
        ),
        call_in_version(),
    ]
}

fn version() -> impl Strategy<Value = Version> {
    blob().prop_map(Version::named)
}

fn call_in_version() -> impl Strategy<Value = Call> {
    let oid = || any::<u64>().prop_map(Oid);
    let maybe = || proptest::option::of(any::<u64>().prop_map(Tid));
    prop_oneof![
        (oid(), version()).prop_map(|(oid, version)| Call::LoadInVersion { oid, version }),
        oid().prop_map(|oid| Call::ModifiedInVersion { oid }),
        any::<i64>().prop_map(|iterator| Call::NextInVersion { iterator }),
        (oid(), any::<u64>().prop_map(Tid), blob(), version(), transaction()).prop_map(
            |(oid, serial, data, version, transaction)| Call::StoreInVersion {
                oid,
                serial,
                data,
                version,
                transaction
            }
        ),
        (version(), version(), transaction()).prop_map(|(from, to, transaction)| Call::CommitVersion {
            from,
            to,
            transaction
        }),
        (version(), transaction()).prop_map(|(from, transaction)| Call::AbortVersion { from, transaction }),
        (oid(), proptest::option::of(blob()), version(), maybe(), maybe(), transaction()).prop_map(
            |(oid, data, version, source, base, transaction)| {
                Call::RestoreInVersion { oid, data, version, source, base, transaction }
            }
        ),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let (oid, tid) = (|| any::<u64>().prop_map(Oid), || any::<u64>().prop_map(Tid));
    let why = || {
        (proptest::option::of(any::<u64>().prop_map(Oid)), "[a-z ]{0,20}")
            .prop_map(|(oid, reason)| NotUndone { oid, reason })
    };
    prop_oneof![
        (oid(), tid(), tid(), proptest::option::of("[a-z.]{1,9}"))
            .prop_map(|(oid, committed, serial, class)| Fault::Conflict { oid, committed, serial, class }),
        (oid(), tid(), tid()).prop_map(|(oid, committed, serial)| Fault::ReadConflict { oid, committed, serial }),
        oid().prop_map(|oid| Fault::NoObject { oid }),
        why().prop_map(Fault::Undo),
        proptest::collection::vec(why(), 1..4).prop_map(Fault::UndoOfObjects),
        Just(Fault::ReadOnly),
        (oid(), version()).prop_map(|(oid, version)| Fault::VersionLock { oid, version }),
        version().prop_map(|version| Fault::VersionEnd { version }),
        (proptest::option::of(any::<i64>()), any::<i64>()).prop_map(|(current, given)| Fault::Transaction {
            current: current.map(|id| MessageId(Value::Int(id))),
            given: MessageId(Value::Int(given)),
        }),
        "[a-z]{0,9}".prop_map(|text| Fault::text("builtins.ValueError", text)),
    ]
}

proptest! {
    #[test]
    fn every_value_is_read_as_it_was_written(id in value(), flag in value(), name in value(), args in value()) {
        for codec in CODECS {
            let message = Message { id: id.clone(), flag: flag.clone(), name: name.clone(), args: args.clone() };
            let found = codec.decode(&encoded(codec, message.clone()), LIMITS).unwrap();
            let Message { id, flag, name, args } = message;
            let wanted = match codec {
                Codec::Pickle => Message { id, flag, name, args },
                Codec::Msgpack => {
                    let [id, flag, name, args] = [id, flag, name, args].map(in_tuples);
                    Message { id, flag, name, args }
                }
            };
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn every_call_is_read_as_it_was_sent(call in call()) {
        let message = call.clone().into_message(Some(MessageId(Value::Int(1))));
        prop_assert!(!message.is_one_way());
        prop_assert!(call.clone().into_message(None).is_one_way());
        let Message { name, args, .. } = Codec::Pickle.decode(&encoded(Codec::Pickle, message.clone()), LIMITS).unwrap();
        prop_assert_eq!(Call::parse(&name, args), Ok(call));
        let Message { name, args, .. } = Codec::Msgpack.decode(&encoded(Codec::Msgpack, message.clone()), LIMITS).unwrap();
        prop_assert_eq!(Call::parse(&name, args), Call::parse(&name, in_tuples(message.args)));
    }

    #[test]
    fn a_name_of_a_transaction_is_read_if_it_is_short(value in value()) {
        let is_short = MessageId::is_short(&value);
        let call = Call::TpcFinish { transaction: MessageId(value) };
        let Message { name, args, .. } = call.clone().into_message(Some(MessageId(Value::Int(1))));
        let read = Call::parse(&name, args);
        prop_assert_eq!(read.is_ok(), is_short);
        prop_assert!(!is_short || read == Ok(call));
    }

    #[test]
    fn every_exception_is_read_as_it_was_sent(fault in fault()) {
        for codec in CODECS {
            let message = Message::error(Value::Int(1), fault.clone().into_value(codec));
            let read = codec.decode(&encoded(codec, message), LIMITS).unwrap();
            prop_assert_eq!(Fault::parse(read.args), Some(fault.clone()));
        }
    }

    #[test]
    fn every_notice_is_read_as_it_was_sent(
        tid in any::<u64>(),
        oids in proptest::collection::vec(any::<u64>(), 0..50),
        (length, size) in any::<(i64, i64)>(),
        chunk in blob(),
        revisions in proptest::collection::vec(ahead(), 0..4),
    ) {
        let (oid, serial) = (Oid(tid), Tid(tid));
        let notices = [
            Notice::Invalidate { tid: Tid(tid), oids: oids.into_iter().map(Oid).collect() },
            Notice::Info { length, size },
            Notice::ReceiveBlobStart { oid, serial },
            Notice::ReceiveBlobChunk { oid, serial, chunk },
            Notice::ReceiveBlobStop { oid, serial },
            Notice::Prefetched { call: length, revisions },
        ];
        for (codec, notice) in CODECS.into_iter().flat_map(|codec| notices.clone().map(|notice| (codec, notice))) {
            let message = codec.decode(&encoded(codec, notice.clone().into_message()), LIMITS).unwrap();
            prop_assert!(message.is_one_way());
            prop_assert_eq!(Notice::parse(&message.name, message.args), Ok(notice));
        }
    }

    /// An error or a message, and a message of these bytes is written and read again.
    #[test]
    fn any_bytes_are_an_error_or_a_message(frame in proptest::collection::vec(any::<u8>(), 0..60), cut in 0..60_usize) {
        for codec in CODECS {
            let start = encoded(codec, Call::Ping.into_message(Some(MessageId(Value::Int(1)))));
            let mut bytes = start[..cut.min(start.len())].to_vec();
            bytes.extend_from_slice(&frame);
            if let Ok(message) = codec.decode(&bytes.into(), LIMITS) {
                let _ = Call::parse(&message.name, message.args.clone());
                let _ = Notice::parse(&message.name, message.args.clone());
                let _ = Fault::parse(message.args.clone());
                let mut rope = Rope::default();
                let _ = codec.encode(message, &mut rope);
            }
        }
    }
}

#[test]
fn depth_and_number_of_values_are_limited() {
    let deep = |codec| match codec {
        Codec::Pickle => [b"\x80\x03(K\x01\x89X\x04\x00\x00\x00ping)".as_slice(), &[0x85; 1_000_000], b"t."].concat(),
        Codec::Msgpack => [b"\x94\x01\xc2\xa4ping".as_slice(), &[0x91; 1_000_000], b"\x90"].concat(),
    };
    let wide = |codec| match codec {
        Codec::Pickle => [b"\x80\x03(K\x01\x89X\x04\x00\x00\x00ping(".as_slice(), &[b'N'; 1_000_000], b"tt."].concat(),
        Codec::Msgpack => [b"\x94\x01\xc2\xa4ping\xdd\x00\x0f\x42\x40".as_slice(), &[0xc0; 1_000_000]].concat(),
    };
    for codec in CODECS {
        for bytes in [deep(codec), wide(codec)] {
            let error = codec.decode(&bytes.into(), LIMITS).unwrap_err().to_string();
            let known = ["nest", "more values than are allowed"];
            assert!(known.iter().any(|known| error.contains(known)), "{codec:?}: {error}");
        }
    }
    let announced = Bytes::from_static(b"\xdd\xff\xff\xff\xff");
    assert!(Codec::Msgpack.decode(&announced, LIMITS).unwrap_err().to_string().contains("ends before"));
}

#[test]
fn a_pickle_that_zeo_refuses_is_refused() {
    let cases: [(&[u8], &str); 5] = [
        (b"(K\x01\x89X\x04\x00\x00\x00pingX\x03\x00\x00\x00a\nbX\x01\x00\x00\x00c\x93)R\x85t.", "more than one line"),
        (b"\x80\x04(K\x01\x89X\x04\x00\x00\x00ping)t.", "protocol above 3"),
        (b"\x80\x02(K\x01\x89X\x04\x00\x00\x00pingc_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R\x85t.", "Python 2"),
        (b"\x80\x03(K\x01\x89X\x04\x00\x00\x00pingt.", "is no message"),
        (b"", "before its STOP"),
    ];
    for (pickle, why) in cases {
        let error = Codec::Pickle.decode(&Bytes::from_static(pickle), LIMITS).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // Bytes after the pickle are ignored, as is a memo.
    let lenient = Bytes::from_static(b"\x80\x03(K\x01\x89X\x04\x00\x00\x00pingq\x00)tq\x01.more");
    assert!(Codec::Pickle.decode(&lenient, LIMITS).is_ok());
    assert!(Codec::Msgpack.decode(&Bytes::from_static(b"\x94\x01\xc2\xa4ping\x90\x00"), LIMITS).is_err());
}

/// ZEO's own tests send such serials.
#[test]
fn a_new_object_may_have_no_serial() {
    let eight = |bytes: &'static [u8; 8]| Value::Bytes(Bytes::from_static(bytes));
    let store = |serial| {
        let args = vec![eight(&[0; 8]), serial, Value::Bytes(Bytes::from_static(b"data")), Value::Int(1)];
        Call::parse(&Value::Text("storea".to_owned()), Value::Tuple(args))
    };
    let new = store(eight(&[0; 8])).unwrap();
    assert_eq!(store(Value::None).unwrap(), new);
    assert_eq!(store(Value::Text("\0".repeat(8))).unwrap(), new);
    assert!(store(Value::Text("\0".repeat(7))).is_err());
}

#[test]
fn an_invalid_oid_names_no_object() {
    let load = |oid| {
        let args = vec![oid, Value::Bytes(Bytes::from_static(&[0; 8]))];
        Call::parse(&Value::Text("loadBefore".to_owned()), Value::Tuple(args))
    };
    let short = Value::Bytes(Bytes::from_static(b"short"));
    assert_eq!(load(short.clone()), Err(BadCall::NoObject(short)));
    assert_eq!(load(Value::None), Err(BadCall::NoObject(Value::None)));
    let args = Value::Tuple(vec![]);
    assert!(matches!(Call::parse(&Value::Text("getTid".to_owned()), args), Err(BadCall::Arguments(_))));
}

/// A program's own kind of dict pickles itself so. ZEO's server reads it; of other classes it wants to hear nothing.
#[test]
fn a_dict_may_be_called_and_no_other_class_is_sent() {
    let message = |class: &str, args: &[u8]| {
        let pickle = [b"\x80\x03(K\x00\x88X\x04\x00\x00\x00pingc", class.as_bytes(), args, b"\x85t."].concat();
        Codec::Pickle.decode(&Bytes::from(pickle), LIMITS)
    };
    let pairs = b"X\x01\x00\x00\x00aK\x01\x86\x85\x85R";
    let dict = Value::Dict(vec![(Value::Text("a".to_owned()), Value::Int(1))]);
    let called = message("builtins\ndict\n", pairs).unwrap();
    assert_eq!(called.args, Value::Tuple(vec![dict]));
    assert_eq!(called.foreign_class(), None);
    assert!(message("builtins\ndict\n", b"K\x01\x85R").unwrap_err().to_string().contains("an invalid dict"));
    let named = |class, args| message(class, args).unwrap().foreign_class().map(|class| class.name.clone());
    assert_eq!(named("datetime\ndate\n", b""), Some("date".to_owned()));
    assert_eq!(named("os\nsystem\n", b"X\x01\x00\x00\x00x\x85R"), Some("system".to_owned()));
    assert_eq!(named("ZopeUndo.Prefix\nPrefix\n", b"X\x01\x00\x00\x00x\x85R"), None);
    assert_eq!(named("ZopeUndo.Prefix\nPrefix\n", b"cos\nsystem\n\x85R"), Some("system".to_owned()));
}
