//! How many rows each table has, and how much of the file it takes.

use redb::{Key, ReadOnlyTable, ReadableTableMetadata, Value};
use vellum_storage::Result;

use crate::storage::TableStorage;
use crate::tables::{Reading, Tables, door};

/// A table of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableSummary {
    /// Its name.
    pub name: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// Bytes of the file that are its pages, with the free part of each.
    pub bytes: u64,
}

impl TableStorage {
    /// Returns what each table has. It reads the pages above the rows, and not the rows.
    ///
    /// # Errors
    ///
    /// The store cannot be read on.
    pub fn summary(&self) -> Result<Vec<TableSummary>> {
        let now = self.shared.store.now_full();
        door(self.path(), || {
            let tables = &now.tables;
            let mut all = vec![
                of(tables, "objects", &tables.objects)?,
                of(tables, "past", &tables.past)?,
                of(tables, "overwritten", &tables.overwritten)?,
                of(tables, "places", &tables.places)?,
                of(tables, "data", &tables.data)?,
                of(tables, "counts", &tables.counts)?,
                of(tables, "references", &tables.references)?,
                of(tables, "holders", &tables.holders)?,
                of(tables, "unheld", &tables.unheld)?,
                of(tables, "spared", &tables.spared)?,
                of(tables, "transactions", &tables.transactions)?,
                of(tables, "names", &tables.names)?,
                of(tables, "versions", &tables.versions)?,
                of(tables, "in_versions", &tables.in_versions)?,
                of(tables, "doomed", &tables.doomed)?,
                of(tables, "facts", &tables.stored_facts)?,
            ];
            if let Some(unowned) = &tables.unowned {
                all.push(of(tables, "unowned", unowned)?);
            }
            Ok(all)
        })
    }
}

fn of<K: Key + 'static, V: Value + 'static>(
    tables: &Tables<Reading>,
    name: &'static str,
    table: &ReadOnlyTable<K, V>,
) -> Result<TableSummary> {
    let rows = table.len().map_err(|e| tables.trouble(e))?;
    let stats = table.stats().map_err(|e| tables.trouble(e))?;
    let bytes = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
    Ok(TableSummary { name, rows, bytes })
}
