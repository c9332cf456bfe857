//! A database of tables on a simulated disk, as the harness wants it.

use std::sync::Arc;

use vellum_harness::hosted::{Merger, Opening};
use vellum_harness::subject::Can;
use vellum_storage::{Error, Result, Storage};
use vellum_table::{OpenError, Options};

pub const PATH: &str = "site.vellum";

/// The capabilities that TableStorage declares to the harness.
pub const CAN: Can = Can { blobs: false, ..Can::EVERYTHING };

/// Opens a database as the harness wants it: a new one if there is none.
pub fn open_under_harness(options: Options, opening: Opening) -> Result<Box<dyn Storage>> {
    let options = options.clock(opening.clock).resolver(Arc::new(Merger)).threads(1).cache_bytes(1 << 20);
    let opened = if opening.read_only { options.read_only().open(PATH) } else { options.open_or_create(PATH) };
    match opened {
        Ok(storage) => {
            let mut problems = Vec::new();
            storage.check(&mut |problem| problems.push(problem.to_string()))?;
            assert_eq!(problems, [""; 0]);
            Ok(Box::new(storage))
        }
        Err(OpenError::Storage(error)) => Err(error),
        Err(other) => Err(Error::io(PATH, "opening it", std::io::Error::other(other.to_string()))),
    }
}
