//! Reads references, class names and plain values out of pickles, without running anything.
//!
//! # What a record is
//!
//! ZODB keeps an object as a *record*: two of Python's pickles, one after the other. The first says what class the
//! object is of, the second is its state.
//!
//! ```text
//!   80 03  c mail\nMessage\n  q 00  .    80 03  } q 01 X 05000000 title ... Q ... u  .
//!  '------------- class ------------'   '------------------ state ----------------'
//!          class_of(record)                render(record), references(record)
//! ```
//!
//! A pickle is not a description of a value but a program that makes it: push a string, push a tuple, put the top of
//! the stack in the memo, call this class with those arguments. Python runs the program, and then does whatever it
//! says. A database engine must not, need not and cannot: the classes are foreign code, in another language.
//! But it wants to know seven things about a record:
//!
//! - **What does it refer to?** A pack keeps what can be reached from the root, so all that a record refers to must be
//!   found, and nothing else: [`references`], and [`Scanner`] for a whole database.
//! - **What class is it of?** [`class_of`], for lists and messages.
//! - **What does it look like?** [`render`], for a person who wonders why an object does not load.
//! - **What does it hold, for a program?** [`to_json`] loses nothing of the state.
//! - **What is its state made of?** [`Record`] shows it part by part, references included, and [`encode_record`] writes
//!   a new record from parts of old ones: this is what merging two changes needs.
//! - **Can Python 3 load it?** Not if text of Python 2 in it is not ASCII: [`python_2_text`].
//! - **What plain data is there?** The `.index` file and the extension of a transaction are pickles of numbers,
//!   strings, tuples and dicts: [`decode_plain`] and [`encode`].
//!
//! A record may be compressed where it lies, as zc.zlibstorage does it: [`plain()`] gives the two pickles. Functions
//! that return values of their own do that by themselves ([`class_of`], [`render`], [`to_json`], [`Scanner`],
//! [`rewrite_references`]); what returns something that is borrowed from the record, [`references`] and [`Record`],
//! wants plain bytes.
//!
//! # How it is done
//!
//! There is one machine which carries out all opcodes of protocols 0 to 5 (`machine.rs`), and it builds whatever it is
//! told to build. The scanner has it build tokens that say "a string at byte 17" or "something" (`references.rs`); the
//! others have it build a tree in an arena (`tree.rs`). The meaning of a persistent id is defined once, for both
//! (`reference.rs`).
//!
//! | read | for |
//! |---|---|
//! | `opcode`, `machine`, `registers`, `memo`, `input`, `strings` | the pickle language |
//! | `plain` | records that are compressed |
//! | `reference`, `references`, `rewrite` | references |
//! | `tree`, `class`, `value`, `decode` | values |
//! | `part`, `anatomy`, `identity` | the parts of a record, looked at one by one |
//! | `python_2` | text that Python 3 cannot load |
//! | `encode`, `piece` | writing values; writing records from parts of others |
//! | `render`, `quote`, `layout` | values for a human reader |
//! | `json` | values as JSON |
//! | `object`, `dates`, `sharing` | the form of objects in both, and the values that they write only once |
//!
//! # What holds for every input
//!
//! A record may be damaged, or malicious. For all bytes:
//!
//! - Nothing panics, and nothing recurses on the input's depth: a million nested lists are read, and dropped, with a
//!   flat stack.
//! - Memory is bounded by the input's length; of a compressed record, by its plain length and [`PLAIN_BYTES_MAX`]. A
//!   length that points beyond the input is an error before anything is allocated, and memo entry 4,294,967,295 is one
//!   entry.
//! - Shared values stay shared. A pickle of a hundred bytes can describe a value of 2^30 parts; here it is a hundred
//!   nodes, it is shown with `*1` for an earlier value, and it is refused where it would have to be written out.
//! - An error says at which byte which opcode wanted what: [`PickleError`].
//!
//! # Not here
//!
//! No class is looked up, and nothing is called, so a state can be shown but never loaded. Nothing is known of any
//! class but the few in `object.rs`, and the shapes of BTrees in `json/btree.rs`. Plain values are written at protocol
//! 3 only, as ZODB writes them; a record can be written at protocol 2 as well, for what Python 2 reads.

#![forbid(unsafe_code)]

mod anatomy;
mod class;
mod dates;
mod decode;
mod encode;
mod error;
mod identity;
mod input;
mod json;
mod layout;
mod machine;
mod memo;
mod object;
mod opcode;
mod part;
mod piece;
mod plain;
mod python_2;
mod quote;
mod reference;
mod references;
mod registers;
mod render;
mod rewrite;
mod sharing;
mod strings;
mod tree;
mod value;

pub use anatomy::{AddedParts, Anatomy};
pub use class::{ClassName, class_of};
pub use decode::{decode_message, decode_plain};
pub use encode::{Sink, encode, encode_into};
pub use error::{PickleError, Problem, Untold};
pub use json::{JsonOptions, to_json};
pub use part::{Part, Parts, Record, View};
pub use piece::{Piece, encode_record};
pub use plain::{PLAIN_BYTES_MAX, compressed, is_compressed, is_encrypted, plain, plain_within};
pub use python_2::{NativeText, python_2_text};
pub use reference::{ClassRef, Reference};
pub use references::{Scanner, references};
pub use render::{RenderOptions, render};
pub use rewrite::rewrite_references;
pub use tree::Scratch;
pub use value::{Class, Object, Value};
