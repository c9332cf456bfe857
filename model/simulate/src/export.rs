//! Loads for other simulators: libCacheSim's `oracleGeneral`.
//!
//! ```text
//!   0 seconds (4) │ 4 object (8) │ 12 size (4) │ 16 number of the next load of the object (8), -1 if there is none
//! ```
//!
//! All numbers are little-endian; a load has 24 bytes. The first load has the number 1. The format knows no changes, so
//! a changed object gets another number: its oid in the low bits, and how often it changed in the high 16 ones.

use hashbrown::HashMap;

use crate::policy::NEVER;
use crate::workload::{Step, Workload};

/// Bytes of a load.
pub const LOAD_BYTES: usize = 24;

/// All loads of a workload.
pub fn oracle_general(workload: &Workload) -> Vec<u8> {
    let mut changes = HashMap::<u64, u64>::new();
    let mut out = Vec::with_capacity(workload.loads() as usize * LOAD_BYTES);
    for (at, (step, seconds)) in workload.steps.iter().zip(&workload.seconds).enumerate() {
        match *step {
            Step::Load { oid, size } => {
                let next = workload.next(oid, at);
                let next = if next == NEVER { -1 } else { next as i64 };
                let changed = changes.get(&oid).copied().unwrap_or(0);
                out.extend(seconds.to_le_bytes());
                out.extend((oid ^ changed << 48).to_le_bytes());
                out.extend(size.to_le_bytes());
                out.extend(next.to_le_bytes());
            }
            Step::Change { oid } => *changes.entry(oid).or_default() += 1,
            Step::Arrive { .. } => {}
        }
    }
    out
}
