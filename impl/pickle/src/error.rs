//! The faults of a pickle, and where they are.

use crate::opcode;

/// A pickle that cannot be read: where reading stopped, at which opcode, and why.
///
/// Reading a pickle changes nothing, so nothing is lost by this error. The offset counts from the start of the slice
/// that was handed in, so it means the same for both pickles of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {}{problem}", Opcode(*opcode))]
pub struct PickleError {
    /// The offset of the opcode that could not be carried out; of the end of the input, if there was none.
    pub offset: usize,
    /// The opcode, unless the input ended where one was due or the pickle was read and its meaning is the trouble.
    pub opcode: Option<u8>,
    /// The fault.
    pub problem: Problem,
}

/// Why it cannot be told what a record refers to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// It cannot be read to its end.
    #[error(transparent)]
    Unreadable(#[from] PickleError),
    /// A persistent id is none of the known kinds.
    #[error("byte {offset}: a persistent id of an unknown shape: {why}")]
    Shape {
        /// The offset, in the record, of the opcode that uses the id.
        offset: usize,
        /// A description of the id.
        why: &'static str,
    },
}

impl Untold {
    /// Whether the record is encrypted, so that there is nothing wrong with it.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Untold::Unreadable(PickleError { problem: Problem::Encrypted, .. }))
    }
}

/// The ways in which a pickle can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No pickle knows this opcode.
    #[error("is no pickle opcode")]
    UnknownOpcode,
    /// A PROTO opcode announces a protocol that is newer than this reader.
    #[error("announces protocol {0}, and 5 is the newest known")]
    Protocol(u8),
    /// An opcode needs more values than were pushed, or than were pushed since the last MARK.
    #[error("finds an empty stack")]
    EmptyStack,
    /// An opcode takes everything back to the last MARK, and there is none.
    #[error("finds no MARK")]
    NoMark,
    /// The input ends inside an opcode's argument.
    #[error("needs {needed} bytes after it, and the input has {left}")]
    Truncated {
        /// How many bytes the argument has.
        needed: u64,
        /// How many bytes the input has after the opcode and its length.
        left: u64,
    },
    /// The argument is a line of text, and its newline is missing.
    #[error("needs a line of text after it, and the input ends first")]
    NoNewline,
    /// A length that counts below zero.
    #[error("has the negative length {0}")]
    NegativeLength(i32),
    /// A GET of something that was never PUT.
    #[error("asks for memo entry {0}, which was never made")]
    NotInMemo(u64),
    /// The text argument of INT, LONG, FLOAT, GET or PUT is not a number.
    #[error("has an argument that is no number")]
    NotANumber,
    /// DICT or SETITEMS with a key that has no value.
    #[error("finds a key without a value")]
    OddItems,
    /// OBJ without a class above the MARK.
    #[error("finds no class above its MARK")]
    NoClass,
    /// The input ended before a STOP.
    #[error("the pickle ends before its STOP")]
    NoStop,
    /// A record holds its class pickle and nothing after it.
    #[error("the second pickle of the record, the object's state, is missing")]
    NoState,
    /// A record longer than 4 GiB.
    #[error("the record has {0} bytes, and at most 4 GiB can be read")]
    TooLong(u64),
    /// The first pickle of a record is not one of the forms in which a class is written.
    #[error("the class pickle holds {0}, which names no class")]
    NotAClass(&'static str),
    /// A pickle that should hold plain data holds something else.
    #[error("the pickle holds {0}, which is not plain data")]
    NotPlain(&'static str),
    /// Plain data nested deeper than the reader allows.
    #[error("the pickle nests its data more than {0} deep, or in a circle")]
    TooDeep(usize),
    /// Plain data which shares its parts so often that writing it out would be out of proportion to the pickle.
    #[error("the pickle repeats its parts so often that {0} bytes would become far more")]
    TooLarge(usize),
    /// A message of more values than its reader allows.
    #[error("comes after more values than are allowed")]
    TooManyParts,
    /// A message at a protocol that its reader does not speak.
    #[error("is of a pickle protocol above 3, which messages must not use")]
    NewProtocol,
    /// The stream of a compressed record is wrong.
    #[error("a compressed record whose stream {0}")]
    Stream(&'static str),
    /// A compressed record that would be longer than is allowed.
    #[error("a compressed record that would become longer than {0} bytes, and that is the most that is read")]
    Inflated(u64),
    /// A record that is encrypted. It may be sound; only the holder of the key can tell.
    #[error("the record is encrypted (cipher.encryptingstorage)")]
    Encrypted,
    /// A reference whose oid has another length than the new one would have.
    #[error("refers to an object by {0}, where another oid cannot be put without rewriting the whole record")]
    OidInPlace(&'static str),
    /// A reference whose oid is, by way of the memo, also something else.
    #[error("refers to an object by bytes that the record also uses for something else, which would change with them")]
    OidShared,
}

/// The opcode's part of the message: its code and its name.
struct Opcode(Option<u8>);

impl std::fmt::Display for Opcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.map(|code| (code, opcode::name(code))) {
            None => Ok(()),
            Some((code, Some(name))) => write!(f, "opcode {code:#04x} ({name}) "),
            Some((code, None)) => write!(f, "opcode {code:#04x} "),
        }
    }
}
