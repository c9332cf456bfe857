//! Whether a record's pointers lead where they should.

use vellum_storage::Status;

use crate::format::fault::{Fault, FaultKind};
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{RecordHeader, TransactionHeader, UNFINISHED};
use crate::read::index::Index;

/// Whether a record may name `previous` as the object's record before it, which is at `found`. A pack cuts the chain.
pub(super) fn is_previous(found: u64, previous: u64, packed: bool) -> bool {
    previous == found || (packed && previous == 0)
}

/// Whether a record's pointers lead where they should, given the index as it was before its transaction.
pub(crate) fn pointers(
    index: &Index,
    side: &mut Scanner<'_>,
    header: &TransactionHeader,
    record: &Record,
) -> Result<(), Fault> {
    let RecordHeader { oid, previous, .. } = record.header;
    let fault = |kind| Err(Fault { position: record.position, tid: Some(header.tid), oid: Some(oid), kind });
    let found = index.get(oid).unwrap_or(0);
    // One that is not marked yet may be about to be marked as packed.
    let packed = header.status == Status::Packed.byte() || header.status == UNFINISHED;
    if !is_previous(found, previous, packed) {
        return fault(FaultKind::WrongPrevious { named: previous, found });
    }
    let named = record.backpointer;
    if named != 0 && side.pointed_at(named).is_none_or(|r| r.header.oid != oid) {
        return fault(FaultKind::BackpointerAstray { named });
    }
    if let Some(version) = &record.in_version {
        let named = version.trunk;
        let astray = |r: Record| named >= record.position || r.header.oid != oid || r.in_version.is_some();
        if named != 0 && side.pointed_at(named).is_none_or(astray) {
            return fault(FaultKind::TrunkAstray { named });
        }
        let named = version.previous;
        let same = |r: &Record| r.in_version.as_ref().is_some_and(|v| v.version == version.version);
        if named != 0 && (named >= record.position || !side.pointed_at(named).is_some_and(|r| same(&r))) {
            return fault(FaultKind::VersionAstray { named });
        }
    }
    Ok(())
}
