//! Extensions of the protocol for versions, of which ZEO's has none any more.
//!
//! ```text
//!   get_info ─▶ {..., "vellum": (..., "versions")}      if the storage has versions
//!
//!   vellum.loadInVersion(oid, version)              ◀─ (data, tid): rule 2.1
//!   vellum.modifiedInVersion(oid)                   ◀─ a version
//!   vellum.versions()                               ◀─ [version, ...]
//!   vellum.nextInVersion(iterator)                  ◀─ (oid, tid, data, source, version, base): rule 2.6
//!
//!   vellum.storeInVersion(oid, serial, data, version, transaction)           one-way: the vote has their faults
//!   vellum.restoreInVersion(oid, data, version, source, base, transaction)
//!   vellum.commitVersion(from, to, transaction)
//!   vellum.abortVersion(from, transaction)
//! ```
//!
//! A version is the bytes of its name; the trunk is the empty one.

pub(crate) const LOAD: &str = "vellum.loadInVersion";
pub(crate) const MODIFIED: &str = "vellum.modifiedInVersion";
pub(crate) const VERSIONS: &str = "vellum.versions";
pub(crate) const STORE: &str = "vellum.storeInVersion";
pub(crate) const COMMIT: &str = "vellum.commitVersion";
pub(crate) const ABORT: &str = "vellum.abortVersion";
pub(crate) const RESTORE: &str = "vellum.restoreInVersion";
pub(crate) const NEXT: &str = "vellum.nextInVersion";
