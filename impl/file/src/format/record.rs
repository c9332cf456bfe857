//! A data record as it stands in the file, and the way from it to older ones.

use vellum_storage::Version;

use crate::format::{RecordHeader, START, TransactionHeader};

/// A data record in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it starts.
    pub position: u64,
    /// Its fixed part.
    pub header: RecordHeader,
    /// The further fields of a record in a version.
    pub in_version: Option<InVersion>,
    /// Where there is no data: the position of the record that has it, 0 for nothing.
    pub backpointer: u64,
}

/// The further fields of a record in a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InVersion {
    /// The position of the object's newest trunk record, 0 if it has none.
    pub trunk: u64,
    /// The position of the previous record in this version, 0 if it has none.
    pub previous: u64,
    /// The version.
    pub version: Version,
}

impl Record {
    /// The version it is in.
    pub fn version(&self) -> Version {
        self.in_version.as_ref().map_or(Version::TRUNK, |v| v.version.clone())
    }

    /// Where its data, or the backpointer in its place, starts.
    pub fn body(&self) -> u64 {
        self.position + self.header.body_at()
    }

    /// Rule 1.6: the record that the trunk shows from this one on: itself, or the one under the version it is in; 0 for
    /// none.
    pub fn on_trunk(&self) -> u64 {
        self.in_version.as_ref().map_or(self.position, |version| version.trunk)
    }

    /// A position in this record that does not lie before it. Code that follows records must check this, or it may go
    /// in circles.
    pub fn astray(&self) -> Option<u64> {
        let trunk = self.in_version.as_ref().map_or(0, |version| version.trunk);
        let is_astray =
            |named: &u64| *named >= self.position || (1..START + TransactionHeader::SIZE as u64).contains(named);
        [self.header.previous, self.backpointer, trunk].into_iter().find(is_astray)
    }
}

/// Where an object's past continues behind a record (rule 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Older {
    /// To the record at this position, and on.
    To(u64),
    /// To the trunk's record at this position, under a packed one; it is the last.
    Last(u64),
    /// There is no more.
    End,
}

impl Older {
    /// Whereto from this record, to which this step led.
    pub fn from(self, record: &Record) -> Older {
        match (self, &record.in_version, record.header.previous) {
            (Older::To(_), Some(version), 0) if version.trunk != 0 => Older::Last(version.trunk),
            (Older::To(_), _, previous) if previous != 0 => Older::To(previous),
            _ => Older::End,
        }
    }

    /// The position it leads to.
    pub fn position(self) -> Option<u64> {
        match self {
            Older::To(position) | Older::Last(position) => Some(position),
            Older::End => None,
        }
    }
}
