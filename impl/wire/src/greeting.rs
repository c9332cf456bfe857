//! The first frame of each side.

use bytes::Bytes;

use crate::Codec;

/// The greeting of a server that would like this codec. The client decides.
pub fn greet(codec: Codec) -> &'static [u8; 2] {
    match codec {
        Codec::Pickle => b"Z5",
        Codec::Msgpack => b"M5",
    }
}

/// The first frame of a client to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Greeting {
    /// Version 5, in this codec.
    Speaks(Codec),
    /// The client wants the server's status as JSON, and nothing else: `ruok`, "are you OK?".
    Status,
    /// Another version, or another protocol.
    Unknown(Bytes),
}

impl Greeting {
    /// Reads a client's first frame.
    pub fn of(frame: &Bytes) -> Greeting {
        match &**frame {
            b"Z5" => Greeting::Speaks(Codec::Pickle),
            b"M5" => Greeting::Speaks(Codec::Msgpack),
            b"ruok" => Greeting::Status,
            _ => Greeting::Unknown(frame.slice(..frame.len().min(Greeting::SHOWN_MAX))),
        }
    }

    /// So many bytes of an unknown greeting are kept for a message.
    pub const SHOWN_MAX: usize = 32;

    /// A client's answer to a server's greeting: the codec that the server prefers, at version 5. None if the server is
    /// too old, or if it is no ZEO server.
    pub fn answer(frame: &[u8]) -> Option<Codec> {
        let (codec, version) = frame.split_first()?;
        // Versions were dates once; all later ones sort after "5".
        if version < b"5".as_slice() {
            return None;
        }
        match codec {
            b'Z' => Some(Codec::Pickle),
            b'M' => Some(Codec::Msgpack),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides() {
        for codec in [Codec::Pickle, Codec::Msgpack] {
            assert_eq!(Greeting::of(&Bytes::from_static(greet(codec))), Greeting::Speaks(codec));
            assert_eq!(Greeting::answer(greet(codec)), Some(codec));
        }
        assert_eq!(Greeting::of(&Bytes::from_static(b"ruok")), Greeting::Status);
        for other in ["Z4", "Z309", "Z6", "5", "Z", "", "X5", "z5", "Z5\0", "GET / HTTP/1.1"] {
            assert!(matches!(Greeting::of(&Bytes::from(other)), Greeting::Unknown(_)), "{other}");
        }
    }

    #[test]
    fn a_client_speaks_with_later_servers_and_not_with_earlier_ones() {
        assert_eq!(["Z6", "Z50", "M6"].map(|it| Greeting::answer(it.as_bytes()).is_some()), [true; 3]);
        assert_eq!(["Z4", "Z309", "Z3101", "X5", "", "HTTP/1.1"].map(|it| Greeting::answer(it.as_bytes())), [None; 6]);
    }
}
