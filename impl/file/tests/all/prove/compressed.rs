//! FileStorage below the layer that compresses records: the rules hold as without it, and so does every rule of the
//! file.

use std::sync::Arc;

use crate::common::{CAN, PATH, format_problems, open_under_harness_with};
use vellum_disk::SimDisk;
use vellum_file::Options;
use vellum_harness::campaign::Campaign;
use vellum_harness::compressed::Plainly;
use vellum_harness::subject::Subject;
use vellum_storage::Compression;

/// On a disk of its own for each history. Before each opening the whole file is checked.
fn subject() -> Plainly {
    let mut disk = SimDisk::new(0);
    Plainly::new("compressed FileStorage", CAN, Compression::On, move |opening, resolver| {
        if opening.fresh {
            disk = SimDisk::new(0);
        } else {
            assert_eq!(format_problems(&Options::new().disk(Arc::new(disk.clone())), PATH), []);
        }
        let options = Options::new().disk(Arc::new(disk.clone())).spill_after(300);
        Ok(open_under_harness_with(options, opening, resolver)?.into())
    })
}

#[test]
fn compressed_files_keep_the_rules() {
    let make = || Ok(Box::new(subject()) as Box<dyn Subject>);
    let campaign =
        Campaign { seed: 9, first: 0, cases: 1500, steps: 30, jobs: 1, keep_going: false, shrink_budget: 2000 };
    let report = campaign.run(&make, &|_| ()).unwrap();
    if let Some(found) = report.found.first() {
        panic!("case {}:\n{}", found.case, found.difference);
    }
    assert_eq!(report.coverage.missing(CAN), []);
}
