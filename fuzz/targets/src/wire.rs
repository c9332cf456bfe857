//! The bytes of the other side of a connection: a stream of frames, in both codecs, to a server and to a client.
//!
//! The first byte says in which pieces the stream arrives; the rest is the stream.

use bytes::{Buf, Bytes};
use vellum_wire::{Call, Codec, Fault, Frames, Greeting, Limits, Message, MessageId, Notice, Rope};

const SIZE_MAX: usize = 1 << 20;
const LIMITS: Limits = Limits { parts_max: 4096 };

/// Takes the stream apart, reads each frame in every way, and writes it again.
pub fn wire(input: &[u8]) {
    let Some((how, stream)) = input.split_first() else { return };
    let (mut frames, mut rest) = (Frames::new(SIZE_MAX), stream);
    let piece = usize::from(*how).max(1);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        frames.push(now);
        rest = later;
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => one(&frame),
                Ok(None) => break,
                Err(too_large) => {
                    assert!(too_large.size > SIZE_MAX);
                    return;
                }
            }
        }
    }
    // Without lengths more of the bytes are looked at.
    one(&Bytes::copy_from_slice(stream));
}

/// A stream of one frame.
pub fn input(frame: &[u8]) -> Vec<u8> {
    [&[64][..], &(frame.len() as u32).to_be_bytes(), frame].concat()
}

fn one(frame: &Bytes) {
    let _ = (Greeting::of(frame), Greeting::answer(frame));
    for codec in [Codec::Pickle, Codec::Msgpack] {
        let Ok(message) = codec.decode(frame, LIMITS) else { continue };
        let _ = (message.is_heartbeat(), message.is_one_way());
        let _ = Fault::parse(message.args.clone()).map(|fault| (fault.to_string(), fault.into_value(codec)));
        if let Ok(call) = Call::parse(&message.name, message.args.clone()) {
            assert_same(&message.name, call.name());
            let sent = call.clone().into_message(Some(MessageId(message.id.clone())));
            // A call that was read is written as a client writes it, and read as the same.
            if let Some(again) = through(codec, sent) {
                assert_eq!(format!("{:?}", Call::parse(&again.name, again.args)), format!("{:?}", Ok::<_, ()>(&call)));
            }
        }
        if let Ok(notice) = Notice::parse(&message.name, message.args.clone()) {
            let again = through(codec, notice.clone().into_message()).expect("a notice can be written");
            assert_eq!(Notice::parse(&again.name, again.args), Ok(notice));
        }
        if let Some(again) = through(codec, message.clone()) {
            // Not by equality: a number may be none.
            assert_eq!(format!("{again:?}"), format!("{message:?}"));
        }
    }
}

/// A message after it was sent. None if it cannot be.
fn through(codec: Codec, message: Message) -> Option<Message> {
    let mut rope = Rope::default();
    codec.encode(message, &mut rope).ok()?;
    let frame = rope.copy_to_bytes(rope.remaining()).slice(4..);
    // Shared parts are written out, so it may have more values than before.
    Some(codec.decode(&frame, Limits { parts_max: 1 << 20 }).expect("the written frame can be read"))
}

fn assert_same(name: &vellum_wire::Value, method: &str) {
    assert!(matches!(name, vellum_wire::Value::Text(name) if name == method));
}
