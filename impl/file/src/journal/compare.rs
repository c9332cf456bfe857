//! A journal beside its data file: what is missing there, and whether the file moved on.
//!
//! The data file gets nothing that the journal does not have durably. So after a crash each sector behind the synced
//! part has a beginning of the journal's bytes, with zeros for the rest. A status may still be `c`. Other bytes are
//! another program's.
//!
//! ```text
//!   the sectors of the payloads     behind the payloads     the meaning
//!   ─────────────────────────────   ─────────────────────   ──────────────────────────────────────────────────────
//!   as they should be, or zeros     nothing, or zeros       a crash: apply the journal
//!   all as they should be           something else          another program went on from there: nothing is missing
//!   anything else                                           another program wrote over it: left alone
//! ```

use std::io;

use vellum_disk::DiskFile;
use vellum_storage::Tid;

use super::overlay::Overlaid;
use crate::format::{START, TransactionHeader, UNFINISHED, u64_at};

/// A crash leaves or loses so many bytes at once.
const SECTOR: u64 = 512;

/// The data file beside the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// It lacks so many of the journal's bytes; none if it has all of them, and ends with them.
    Missing(u64),
    /// It has all of them, and goes on behind them.
    WentOn,
    /// It has something else behind the part that both have in common, for this reason.
    Astray(String),
    /// It is not the file that the journal continues, for this reason.
    OfAnother(String),
}

/// Compares the data file with the same file under the payloads. `transactions`: those of the payloads.
pub(crate) fn compare(
    file: &dyn DiskFile,
    applied: &Overlaid,
    transactions: &[(u64, TransactionHeader)],
) -> io::Result<Compared> {
    let (start, end, size) = (applied.start(), applied.end(), file.len()?);
    if let Some(why) = base_differs(file, size, start, applied.entries()[0].header.before)? {
        return Ok(Compared::OfAnother(why));
    }
    let statuses: Vec<u64> = transactions.iter().map(|(at, _)| at + TransactionHeader::STATUS_AT).collect();
    let (mut missing, mut at) = (0, start);
    let (mut should, mut is) = ([0; SECTOR as usize], [0; SECTOR as usize]);
    while at < end {
        let next = ((at / SECTOR + 1) * SECTOR).min(end);
        let length = (next - at) as usize;
        applied.read_full_at(&mut should[..length], at)?;
        let there = file.read_full_at(&mut is[..length], at)?;
        is[there..length].fill(0);
        let from = statuses.partition_point(|&status| status < at);
        for status in statuses[from..].iter().take_while(|&&status| status < next).map(|status| (status - at) as usize)
        {
            if is[status] == UNFINISHED {
                is[status] = should[status];
                missing += 1;
            }
        }
        let same = should[..length].iter().zip(&is).take_while(|(should, is)| should == is).count();
        if is[same..length].iter().any(|&byte| byte != 0) {
            let differ = at + same as u64;
            return Ok(Compared::Astray(format!("it and the journal differ at position {differ}")));
        }
        missing += (length - same) as u64;
        at = next;
    }
    Ok(match (missing, goes_on(file, end, size)?) {
        (_, false) => Compared::Missing(missing),
        (0, true) => Compared::WentOn,
        (_, true) => Compared::Astray(format!("it lacks {missing} bytes of the journal, and goes on behind them")),
    })
}

/// Why the journal is not one of this file: it must end at `start` with the transaction `before`.
fn base_differs(file: &dyn DiskFile, size: u64, start: u64, before: Tid) -> io::Result<Option<String>> {
    if size < start {
        return Ok(Some(format!("it ends at position {size}, and the journal begins at {start}")));
    }
    if start == START {
        return Ok((before != Tid::ZERO).then(|| format!("the journal follows transaction {before}")));
    }
    let otherwise = || Ok(Some(format!("at position {start}, no transaction {before} ends in it")));
    let mut twin = [0; TransactionHeader::TWIN_SIZE as usize];
    let twin_at = start.checked_sub(TransactionHeader::TWIN_SIZE).filter(|&at| at >= START);
    let Some(twin_at) = twin_at else { return otherwise() };
    file.read_full_at(&mut twin, twin_at)?;
    let length = u64_at(&twin, 0);
    let Some(position) = twin_at.checked_sub(length).filter(|&at| at >= START) else { return otherwise() };
    let mut header = [0; TransactionHeader::SIZE];
    file.read_full_at(&mut header, position)?;
    let header = TransactionHeader::parse(&header);
    if header.tid == before && header.length == length && header.status != UNFINISHED { Ok(None) } else { otherwise() }
}

/// Whether anything but zeros stands between the two positions.
fn goes_on(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<bool> {
    let mut buffer = vec![0; to.saturating_sub(from).min(1 << 20) as usize];
    let mut at = from;
    while at < to {
        let length = (to - at).min(buffer.len() as u64) as usize;
        let there = file.read_full_at(&mut buffer[..length], at)?;
        if buffer[..there].iter().any(|&byte| byte != 0) {
            return Ok(true);
        }
        if there == 0 {
            break;
        }
        at += there as u64;
    }
    Ok(false)
}
