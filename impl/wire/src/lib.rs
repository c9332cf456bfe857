//! ZEO's protocol, version 5, without sockets: bytes to messages, and messages to bytes.
//!
//! A connection carries **frames**: four bytes of length, big-endian, and as many bytes. The first frame of each side
//! is its greeting; all others hold one message each, in the codec that the client's greeting names.
//!
//! ```text
//!   server ─▶ 00000002 "Z5"                               greeting: this server would like pickles
//!   client ─▶ 00000002 "M5"                               this client speaks msgpack, so both do
//!   client ─▶ 00000010 94 01 c2 a8 register 92 a1 1 00    (1, False, "register", ("1", 0))
//!   server ─▶ 00000013 94 01 00 a6 .reply c4 08 ........  (1, 0, ".reply", tid)
//! ```
//!
//! | read | for |
//! |---|---|
//! | [`Frames`] | a stream of bytes taken apart into frames |
//! | [`Greeting`] | the first frame of each side |
//! | [`Codec`], [`Message`] | a frame as a message, and back |
//! | [`Call`] | a client's call to a server, with its arguments checked |
//! | [`PlainLoad`] | the call that comes most, read from its bytes |
//! | [`Notice`] | a server's message to a client without a call |
//! | [`Fault`] | an exception that answers a call |
//! | [`Extension`] | calls that Vellum's servers offer in addition |
//! | [`Rope`] | bytes to be sent, in which a large record is shared and not copied |
//!
//! # What holds for every input
//!
//! Bytes from a socket never panic, recurse by their depth, or allocate what their length does not justify. A frame
//! longer than the limit is refused by its first four bytes. A message holds plain values only, a limited number of
//! them; a pickle is read without running anything, and an object in it is a class name with arguments.
//!
//! # Not here
//!
//! Nothing is known of storages, of the order of messages or of time: that is `vellum-server` and `vellum-client`.
#![forbid(unsafe_code)]

mod ahead;
mod arguments;
mod call;
mod codec;
mod fault;
mod frame;
mod greeting;
mod load;
mod msgpack;
mod notice;
mod rope;
mod versions;

pub use ahead::{Ahead, EXTENSIONS, Extension, Found, Reach};
pub use arguments::{BadArguments, BadCall};
pub use call::{Begin, Call, MessageId, TransactionId};
pub use codec::{Codec, DecodeError, Limits, Message, Unwritable};
pub use fault::{Fault, NotUndone};
pub use frame::{FrameMemory, FrameTooLarge, Frames};
pub use greeting::{Greeting, greet};
pub use load::PlainLoad;
pub use notice::Notice;
pub use rope::Rope;
pub use vellum_pickle::{Class, Object, Value};
