//! Checking the counts of references, up to the last record that is counted.

use std::collections::HashMap;

use redb::ReadableTable;
use vellum_storage::{Oid, Result};

use super::Check;
use crate::row::{UNTOLD, decode_newest};

/// The references to so many objects are counted in one walk over the table `references`.
const WINDOW: usize = 1 << 20;

impl Check<'_> {
    /// The counts are those of the counted records.
    pub(super) fn holders(&mut self) -> Result<()> {
        let mut from = Some(0);
        while let Some(first) = from {
            from = self.window(first)?;
        }
        Ok(())
    }

    /// Checks the counts of some objects, from one on, and returns the first object behind them.
    fn window(&mut self, first: u64) -> Result<Option<u64>> {
        let tables = self.tables;
        let mut noted = Vec::new();
        for found in tables.holders.range(first..).map_err(|e| tables.trouble(e))?.take(WINDOW) {
            let (oid, count) = found.map_err(|e| tables.trouble(e))?;
            noted.push((oid.value(), count.value()));
        }
        let last = noted.last().map(|(oid, _)| *oid).filter(|_| noted.len() == WINDOW).unwrap_or(u64::MAX);
        let (mut counts, mut untold): (HashMap<u64, u64>, u64) = (HashMap::with_capacity(noted.len()), 0);
        for found in tables.references.range(..=tables.facts.counted).map_err(|e| tables.trouble(e))? {
            let list = found.map_err(|e| tables.trouble(e))?.1;
            if list.value() == UNTOLD {
                untold += 1;
                continue;
            }
            let oids = list.value().as_chunks().0.iter().map(|oid| u64::from_be_bytes(*oid));
            oids.filter(|oid| *oid >= first && *oid <= last).for_each(|oid| *counts.entry(oid).or_default() += 1);
        }
        for (oid, noted) in noted {
            let count = counts.remove(&oid).unwrap_or(0);
            if noted != count {
                self.problem("holders", Oid(oid), format!("it says {noted}, and {count} counted records refer to it"));
            }
        }
        let mut missing: Vec<_> = counts.into_iter().collect();
        missing.sort_unstable();
        for (oid, count) in missing {
            self.problem(
                "holders",
                Oid(oid),
                format!("it is missing, and {count} counted records refer to the object"),
            );
        }
        if first == 0 && untold != tables.facts.untold {
            let what = format!("it says {}, and {untold} counted records may", tables.facts.untold);
            self.problem("facts", "may hide references", what);
        }
        Ok(last.checked_add(1))
    }

    /// The objects to which no counted record refers are in `unheld`, and no others.
    pub(super) fn unheld(&mut self) -> Result<()> {
        let tables = self.tables;
        for found in tables.unheld.iter().map_err(|e| tables.trouble(e))? {
            let oid = Oid(found.map_err(|e| tables.trouble(e))?.0.value());
            if oid == Oid::ROOT {
                self.problem("unheld", oid, "it is the root, which needs no reference");
            }
            if tables.holders_of(oid)? > 0 {
                self.problem("unheld", oid, "counted records refer to the object");
            }
            if tables.objects.get(oid.0).map_err(|e| tables.trouble(e))?.is_none() {
                self.problem("unheld", oid, "there is no such object");
            }
        }
        for found in tables.objects.iter().map_err(|e| tables.trouble(e))? {
            let (oid, newest) = found.map_err(|e| tables.trouble(e))?;
            let oid = Oid(oid.value());
            let is_counted = decode_newest(newest.value()).is_ok_and(|(_, row)| row.number <= tables.facts.counted);
            let is_noted = tables.unheld.get(oid.0).map_err(|e| tables.trouble(e))?.is_some();
            if is_counted && !is_noted && oid != Oid::ROOT && tables.holders_of(oid)? == 0 {
                self.problem("unheld", oid, "it is missing, and no counted record refers to the object");
            }
        }
        Ok(())
    }
}
