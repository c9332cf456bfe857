//! The faults that the bytes of a file can have.

use std::fmt;
use std::path::Path;

use vellum_storage::{Damage, Error, Oid, Tid};

/// Something that breaks the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The position of the transaction or record.
    pub position: u64,
    /// The transaction, where its header could be read.
    pub tid: Option<Tid>,
    /// The object, where it is about one.
    pub oid: Option<Oid>,
    /// The fault.
    pub kind: FaultKind,
}

/// The faults that the bytes of a transaction can have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages below say it")]
pub enum FaultKind {
    NoHeader { bytes: u64, zeros: bool },
    HeaderCutOff { there: u64 },
    CutOff { length: u64, there: u64 },
    Unfinished,
    BadStatus(u8),
    LengthTooSmall { length: u64, header: u64 },
    TwinDiffers { length: u64, twin: u64 },
    NotLater { last: Tid },
    NotEarlier { next: Tid },
    RecordCutOff { left: u64 },
    RecordTooLong { length: Option<u64>, left: u64 },
    WrongTransaction { named: u64 },
    WrongTid { named: Tid },
    BackpointerTooHigh { named: u64 },
    BackpointerAstray { named: u64 },
    WrongPrevious { named: u64, found: u64 },
    TrunkAstray { named: u64 },
    VersionAstray { named: u64 },
    Unreadable(String),
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use FaultKind::*;
        match self {
            NoHeader { bytes, zeros: true } => {
                write!(f, "the last {bytes} bytes begin with zeros where a transaction's header should be")
            }
            NoHeader { bytes, zeros: false } => {
                write!(f, "the last {bytes} bytes do not begin with the header of a transaction")
            }
            HeaderCutOff { there } => write!(f, "the file ends {there} bytes into a transaction's header of 23"),
            CutOff { length, there } => {
                write!(f, "the transaction is cut at byte {there} of {}", length.saturating_add(8))
            }
            Unfinished => write!(f, "the transaction was never finished (status c)"),
            BadStatus(status) => write!(f, "no transaction has the status 0x{status:02x}"),
            LengthTooSmall { length, header } => {
                write!(f, "the transaction says that it has {length} bytes, but its header alone has {header}")
            }
            TwinDiffers { length, twin } => write!(f, "the transaction's length is {length}, but its twin says {twin}"),
            NotLater { last } => write!(f, "the transaction is not later than the one before it ({last})"),
            NotEarlier { next } => write!(f, "the transaction is not earlier than the one after it ({next})"),
            RecordCutOff { left } => {
                write!(
                    f,
                    "the transaction's records do not add up: what follows the last of them is too short for another ({left} B)"
                )
            }
            RecordTooLong { length: Some(length), left } => {
                write!(f, "the record has {length} bytes, but only {left} are left in its transaction")
            }
            RecordTooLong { length: None, left } => {
                write!(f, "the record's length is beyond all measure: its transaction has only {left} bytes more")
            }
            WrongTransaction { named } => {
                write!(f, "the record says that its transaction is at {named}, which it is not")
            }
            WrongTid { named } => write!(f, "the record says that its transaction is {named}, which it is not"),
            BackpointerTooHigh { named } => write!(f, "the backpointer to {named} does not point backwards"),
            BackpointerAstray { named } => write!(f, "the backpointer to {named} points to no record of the object"),
            WrongPrevious { named, found: 0 } => {
                write!(f, "the previous record should be at {named}, but the object has none before this")
            }
            WrongPrevious { named, found } => {
                write!(f, "the previous record should be at {named}, but it is at {found}")
            }
            TrunkAstray { named } => write!(f, "the object's trunk record should be at {named}, but there is none"),
            VersionAstray { named } => {
                write!(f, "the version's previous record should be at {named}, but there is none")
            }
            Unreadable(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}: {}", self.position, self.kind)
    }
}

impl Fault {
    /// As an error, with what to do about it.
    pub(crate) fn damage(&self, path: &Path, remedy: &str) -> Error {
        let Fault { position, tid, oid, ref kind } = *self;
        let (path, what, remedy) = (path.to_owned(), kind.to_string(), remedy.to_owned());
        Error::Damaged(Box::new(Damage { path, position, tid, oid, what, remedy }))
    }
}
