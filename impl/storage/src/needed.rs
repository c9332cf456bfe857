//! The objects that a pack to now keeps, of any storage.
//!
//! A storage that packs asks the collector about a moment in its own words. These are the words that every storage has,
//! and they are enough for now: an object has at most two records, its newest and the trunk's under that.
//!
//! ```text
//!   object o    place 2o + 2    its newest revision
//!               place 2o + 1    the revision that the trunk shows, if the newest one is in a version
//! ```

use crate::{
    AtPlace, Collected, Collecting, EachPlace, Error, Later, Oid, Place, Refers, Result, Storage, Survivors, Version,
    collect,
};

/// Finds the objects that the root reaches now, and the references of these that lead nowhere. `progress` is called
/// with the number of revisions that were read.
///
/// Costs: reads each object that is reached, on all cores. If others write to the storage at the same time, the answer
/// is not of one moment.
///
/// # Errors
///
/// - [`Error::Unreadable`] if a record that is needed does not say what it refers to.
/// - The storage fails.
pub fn needed(storage: &dyn Storage, progress: &dyn Fn(u64)) -> Result<Survivors> {
    collect(&Now(storage), Collecting::new().go_on(true).progress(progress))
}

/// A storage as it is now.
struct Now<'a>(&'a dyn Storage);

/// The largest oid that has places.
const LAST: Oid = Oid((u64::MAX >> 1) - 1);

impl Now<'_> {
    fn version(&self, oid: Oid) -> Result<Version> {
        self.0.versions().map_or(Ok(Version::TRUNK), |versions| versions.modified_in_version(oid))
    }
}

impl Collected for Now<'_> {
    fn newest(&self, oid: Oid) -> Result<Place> {
        match self.known(oid)? {
            false => Ok(0),
            true if oid > LAST => Err(Error::Exhausted { what: "the places of a search (oids up to 2^63)" }),
            true => Ok(2 * oid.0 + 2),
        }
    }

    fn known(&self, oid: Oid) -> Result<bool> {
        match self.0.history(oid, 1) {
            Ok(_) => Ok(true),
            Err(Error::KeyError { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    fn is_rootless(&self) -> Result<bool> {
        Ok(self.0.object_count() > 0 && !self.known(Oid::ROOT)?)
    }

    fn read(&self, places: &[Place], each: &mut EachPlace<'_>) -> Result<()> {
        for &place in places {
            let (oid, is_newest) = (Oid((place - 1) / 2), place.is_multiple_of(2));
            let version = self.version(oid)?;
            let shown = if is_newest { version.clone() } else { Version::TRUNK };
            let data = match self.0.load(oid, &shown) {
                Ok(loaded) => Some(loaded.data),
                Err(Error::KeyError { .. }) => None,
                Err(other) => return Err(other),
            };
            let base = if is_newest && !version.is_trunk() { place - 1 } else { 0 };
            each(AtPlace { oid, data: data.as_deref().map(Refers::Record), base })?;
        }
        Ok(())
    }

    fn later(&self, _: &mut dyn FnMut(Later<'_>) -> Result<()>) -> Result<()> {
        Ok(())
    }

    /// Not asked: garbage is collected.
    fn something(&self, _: &mut dyn FnMut(Oid) -> Result<()>) -> Result<()> {
        Ok(())
    }
}
