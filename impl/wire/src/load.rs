//! The message that a server gets most, read without a value for each of its parts.

use vellum_storage::{Oid, Tid};

use crate::Codec;

/// A call of `loadBefore`, in the bytes in which ZEO's clients write it:
///
/// ```text
///   pickle    80 03 (   id   89   X 0a 00 00 00 loadBefore   C 08 oid   C 08 tid   86   t .
///   msgpack   94        id   c2   aa            loadBefore   92   c4 08 oid   c4 08 tid
/// ```
///
/// Other bytes can mean the same; [`Codec::decode`] reads them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlainLoad {
    /// The client's name for the call.
    pub id: i64,
    /// The object.
    pub oid: Oid,
    /// It is to be shown as it was before this.
    pub before: Tid,
}

impl PlainLoad {
    /// Reads a frame; none, if it is anything else.
    pub fn of(codec: Codec, frame: &[u8]) -> Option<PlainLoad> {
        let mut frame = Rest(frame);
        let id = match codec {
            Codec::Pickle => {
                frame.skip(b"\x80\x03(")?;
                let id = match frame.byte()? {
                    b'K' => i64::from(frame.byte()?),
                    b'M' => i64::from(u16::from_le_bytes(frame.take()?)),
                    b'J' => i64::from(i32::from_le_bytes(frame.take()?)),
                    _ => return None,
                };
                frame.skip(b"\x89X\x0a\0\0\0loadBeforeC\x08")?;
                id
            }
            Codec::Msgpack => {
                frame.skip(b"\x94")?;
                let id = match frame.byte()? {
                    small @ 0..=0x7f => i64::from(small),
                    0xcc => i64::from(frame.byte()?),
                    0xcd => i64::from(u16::from_be_bytes(frame.take()?)),
                    0xce => i64::from(u32::from_be_bytes(frame.take()?)),
                    _ => return None,
                };
                frame.skip(b"\xc2\xaaloadBefore\x92\xc4\x08")?;
                id
            }
        };
        let oid = Oid::from_bytes(frame.take()?);
        frame.skip(if codec == Codec::Pickle { b"C\x08" } else { b"\xc4\x08" })?;
        let before = Tid::from_bytes(frame.take()?);
        frame.skip(if codec == Codec::Pickle { b"\x86t." } else { b"" })?;
        (frame.0.is_empty() && id >= 0).then_some(PlainLoad { id, oid, before })
    }
}

/// The rest of a frame.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn skip(&mut self, wanted: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(wanted)?;
        Some(())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};
    use proptest::prelude::*;
    use vellum_pickle::Value;

    use super::*;
    use crate::{Call, Limits, Message, Rope};

    fn codecs() -> impl Strategy<Value = Codec> {
        prop_oneof![Just(Codec::Pickle), Just(Codec::Msgpack)]
    }

    /// Ids of one, two and four bytes.
    fn ids() -> impl Strategy<Value = i64> {
        prop_oneof![0..256_i64, 0..65_536_i64, 0..i64::from(i32::MAX)]
    }

    /// A call of `loadBefore` as a frame without its length.
    fn frame(codec: Codec, id: i64, oid: u64, before: u64) -> Bytes {
        let eight = |id: u64| Value::Bytes(Bytes::copy_from_slice(&id.to_be_bytes()));
        let mut rope = Rope::default();
        codec.encode(Message::call(Value::Int(id), "loadBefore", vec![eight(oid), eight(before)]), &mut rope).unwrap();
        rope.advance(4);
        rope.copy_to_bytes(rope.remaining())
    }

    /// Reads the whole message. Returns the same if it is a load that is answered.
    fn slowly(codec: Codec, frame: &Bytes) -> Option<PlainLoad> {
        let message = codec.decode(frame, Limits { parts_max: 100 }).ok()?;
        let is_call = !message.is_heartbeat() && !message.is_one_way();
        match (message.id.clone(), Call::parse(&message.name, message.args)) {
            (Value::Int(id), Ok(Call::LoadBefore { oid, before })) if is_call => Some(PlainLoad { id, oid, before }),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn calls_of_a_client_are_read(codec in codecs(), id in ids(), oid: u64, before: u64) {
            let wanted = PlainLoad { id, oid: oid.into(), before: before.into() };
            prop_assert_eq!(PlainLoad::of(codec, &frame(codec, id, oid, before)), Some(wanted));
        }

        #[test]
        fn the_quick_reader_agrees_with_the_slow_one(
            codec in codecs(), id in prop_oneof![-3..3_i64, ids()], oid: u64, before: u64,
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3), cut in 0..3_usize,
        ) {
            let mut bytes = frame(codec, id, oid, before).to_vec();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut);
            let bytes = Bytes::from(bytes);
            if let Some(load) = PlainLoad::of(codec, &bytes) {
                prop_assert_eq!(Some(load), slowly(codec, &bytes));
            }
        }
    }

    #[test]
    fn a_client_of_zeo_writes_these_bytes() {
        let ids = b"C\x08\0\0\0\0\0\0\0\x07C\x08\x01\x01\x01\x01\x01\x01\x01\x01\x86t.";
        let pickled = [&b"\x80\x03(M,\x01\x89X\n\0\0\0loadBefore"[..], ids].concat();
        let packed =
            b"\x94\xcd\x01,\xc2\xaaloadBefore\x92\xc4\x08\0\0\0\0\0\0\0\x07\xc4\x08\x01\x01\x01\x01\x01\x01\x01\x01";
        let wanted = PlainLoad { id: 300, oid: 7.into(), before: 0x0101_0101_0101_0101.into() };
        assert_eq!(PlainLoad::of(Codec::Pickle, &pickled), Some(wanted));
        assert_eq!(PlainLoad::of(Codec::Msgpack, packed), Some(wanted));
    }
}
