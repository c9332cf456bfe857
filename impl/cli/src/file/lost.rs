//! The objects that are referred to and are not there, of any storage.
//!
//! `vellum check --references` tells the story of each, and reads a `Data.fs` for that. Here are the oids alone.

use vellum_pickle::{Reference, Scanner};
use vellum_storage::{Oid, OidSet, Storage};
use vellum_terminal::{Meter, Run};

use crate::ui::objects::each_object;

/// The lost objects of a storage.
pub struct Lost {
    /// They, in order.
    pub oids: Vec<Oid>,
    /// How many records do not say what they refer to.
    pub untold: u64,
}

/// Finds the objects that some record of now refers to strongly, and that are not there.
///
/// Costs: reads all transactions; two bits of memory for each object.
pub fn find(storage: &dyn Storage, meter: Meter) -> Run<Lost> {
    let (there, wanted) = (OidSet::new(), OidSet::new());
    let (mut scanner, mut untold) = (Scanner::new(), 0);
    each_object(storage, meter, storage.object_count(), &mut |object| {
        for (_, _, data) in object.records() {
            there.insert(object.oid);
            let scanned = scanner.scan_all(data, |reference| {
                if let Reference::Strong { oid, .. } = reference {
                    wanted.insert(Oid(oid));
                }
            });
            untold += u64::from(scanned.is_err());
        }
        Ok(())
    })?;
    let (mut oids, mut next) = (Vec::new(), wanted.next(Oid::ROOT));
    while let Some(oid) = next {
        if !there.contains(oid) {
            oids.push(oid);
        }
        next = oid.0.checked_add(1).and_then(|after| wanted.next(Oid(after)));
    }
    Ok(Lost { oids, untold })
}
