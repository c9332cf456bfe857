//! The options that look further than at the file or its tables.

use serde::Serialize;
use vellum_storage::BTreesChecked;
use vellum_terminal::{Out, Run};

use super::{Check, btrees, gone, python_2};
use crate::file::Database;

/// The counts of the options that were given.
#[derive(Serialize, Default)]
pub struct Further {
    #[serde(skip_serializing_if = "Option::is_none")]
    dangling_references: Option<u64>,
    /// Records that count now of which it cannot be told what they refer to.
    #[serde(skip_serializing_if = "Option::is_none")]
    untold_records: Option<u64>,
    /// Objects that name a removed class.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_class_objects: Option<u64>,
    /// Objects of which it cannot be told what they name.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_class_unreadable: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    btrees: Option<BTrees>,
    /// Objects with text of Python 2 that Python 3 cannot load.
    #[serde(skip_serializing_if = "Option::is_none")]
    python_2_objects: Option<u64>,
    /// Objects of which it cannot be told whether they have such text.
    #[serde(skip_serializing_if = "Option::is_none")]
    python_2_unreadable: Option<u64>,
}

impl Further {
    /// Looks as far as is asked for, and shows what is found, except for lost references: `lost` has the count of them,
    /// and of the records that may hide some.
    pub fn look(
        out: &mut Out,
        open: impl Fn() -> Run<Database>,
        what: &Check,
        lost: Option<(u64, u64)>,
        at_most: u64,
    ) -> Run<Further> {
        let mut further = Further {
            dangling_references: lost.map(|(references, _)| references),
            untold_records: lost.map(|(_, records)| records),
            ..Further::default()
        };
        if what.gone.is_asked() {
            let gone::Found { objects, unreadable, .. } = what.gone.list(out, &open()?, what.json, at_most)?;
            (further.gone_class_objects, further.gone_class_unreadable) = (Some(objects), Some(unreadable));
        }
        if what.btrees {
            further.btrees = Some(BTrees::of(&btrees::list(out, &open()?, what.json, at_most)?));
        }
        if what.python2 {
            let gone::Found { objects, unreadable, .. } = python_2::list(out, &open()?, what.json, at_most)?;
            (further.python_2_objects, further.python_2_unreadable) = (Some(objects), Some(unreadable));
        }
        Ok(further)
    }

    /// Whether nothing was found.
    pub fn is_fine(&self) -> bool {
        let Further {
            dangling_references,
            untold_records,
            gone_class_objects,
            gone_class_unreadable,
            btrees,
            python_2_objects,
            python_2_unreadable,
        } = self;
        let counts = [
            dangling_references,
            untold_records,
            gone_class_objects,
            gone_class_unreadable,
            python_2_objects,
            python_2_unreadable,
        ];
        counts.iter().all(|count| count.unwrap_or_default() == 0) && btrees.as_ref().is_none_or(BTrees::is_fine)
    }
}

/// The counts of the look at BTrees.
#[derive(Serialize)]
struct BTrees {
    trees: u64,
    nodes: u64,
    /// Buckets in no tree.
    buckets_alone: u64,
    faults: u64,
    /// Nodes that cannot be read.
    untold_nodes: u64,
    /// Nodes with keys whose order only their class knows.
    unordered_nodes: u64,
    /// Objects of which it cannot be told whether they are BTrees.
    unreadable_objects: u64,
}

impl BTrees {
    fn of(checked: &BTreesChecked) -> BTrees {
        let BTreesChecked { trees, nodes, alone, faults, untold, unordered, unreadable } = *checked;
        BTrees {
            trees,
            nodes,
            buckets_alone: alone,
            faults,
            untold_nodes: untold,
            unordered_nodes: unordered,
            unreadable_objects: unreadable,
        }
    }

    fn is_fine(&self) -> bool {
        self.faults == 0 && self.untold_nodes == 0 && self.unreadable_objects == 0
    }
}
