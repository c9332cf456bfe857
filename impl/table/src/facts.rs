//! The single numbers of a database.

use std::path::Path;

use redb::{ReadableTable, Table};
use vellum_storage::{Error, Result, Tid};

use crate::tables::{damaged, trouble};

/// The form of the tables.
pub(crate) const FORMAT: u64 = 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The form of the tables; 0 in a store that was just made.
    pub format: u64,
    /// The time of the last pack: all up to it is packed.
    pub packed_to: Tid,
    /// The last transaction that was copied as a packed one.
    pub copied_packed: Tid,
    /// Whether the revisions in `doomed` are removed: no reader sees them. If not, a pack is only preparing that.
    pub is_sweeping: bool,
    /// The references of the records up to this number are counted in `holders`.
    pub counted: u64,
    /// How many of those records may hide references (rule 4.10).
    pub untold: u64,
    /// How many objects there were after the last pack with collection.
    pub collected_objects: u64,
    /// Whether a record may refer into another database. Then there are several, and the others may need what looks
    /// like garbage here.
    pub is_one_of_several: bool,
    /// Whether each commit forgets what is old (rule 4.12).
    pub is_history_free: bool,
}

const FORMAT_NAME: &str = "format";
const PACKED_TO: &str = "packed to";
const COPIED_PACKED: &str = "last copied as packed";
const SWEEPING: &str = "sweeping";
const COUNTED: &str = "counted to";
const UNTOLD: &str = "may hide references";
const COLLECTED: &str = "objects after the last collection";
const SEVERAL: &str = "may refer into other databases";
const HISTORY_FREE: &str = "history-free";

impl Facts {
    pub fn read(path: &Path, table: &impl ReadableTable<&'static str, u64>) -> Result<Facts> {
        let get = |name: &str| -> Result<u64> {
            Ok(table.get(name).map_err(|error| trouble(path, error))?.map_or(0, |value| value.value()))
        };
        let is_sweeping = match get(SWEEPING)? {
            0 => false,
            1 => true,
            _ => return Err(damaged(path, "table `facts`, row `sweeping`: it is neither 0 nor 1")),
        };
        let is_one_of_several = get(SEVERAL)? != 0;
        let is_history_free = get(HISTORY_FREE)? != 0;
        Ok(Facts {
            format: get(FORMAT_NAME)?,
            packed_to: Tid(get(PACKED_TO)?),
            copied_packed: Tid(get(COPIED_PACKED)?),
            is_sweeping,
            counted: get(COUNTED)?,
            untold: get(UNTOLD)?,
            collected_objects: get(COLLECTED)?,
            is_one_of_several,
            is_history_free,
        })
    }

    pub fn write(&self, path: &Path, table: &mut Table<'_, &'static str, u64>) -> Result<(), Error> {
        for (name, value) in [
            (FORMAT_NAME, self.format),
            (PACKED_TO, self.packed_to.0),
            (COPIED_PACKED, self.copied_packed.0),
            (SWEEPING, u64::from(self.is_sweeping)),
            (COUNTED, self.counted),
            (UNTOLD, self.untold),
            (COLLECTED, self.collected_objects),
            (SEVERAL, u64::from(self.is_one_of_several)),
            (HISTORY_FREE, u64::from(self.is_history_free)),
        ] {
            table.insert(name, value).map_err(|error| trouble(path, error))?;
        }
        Ok(())
    }
}
