//! The format of ZEO's clients, and of RelStorage.
//!
//! ```text
//!   0 seconds │ 4 bytes of the record (3), code (1) │ 8 bytes of the oid │ 10 tid │ 18 end or moment │ 26 oid
//! ```
//!
//! All numbers are big-endian. ZEO's oids have 8 bytes, and so have all records 34. RelStorage writes the oid 0 with no
//! byte at all. Both begin with a record of the code 0 for each opening of the cache.

use super::{Event, Fault, Record, Trace};

/// Bytes of a record without its oid.
pub const HEAD_BYTES: usize = 26;
/// Bytes of a revision that the format can say.
pub const SIZE_MAX: u32 = (1 << 23) - 1;

/// Reads all records.
///
/// # Errors
///
/// For an unknown code, or an oid that has neither 8 bytes nor none.
pub fn read(bytes: &[u8]) -> Result<Trace, Fault> {
    let mut trace = Trace::default();
    let mut at = 0;
    while at < bytes.len() {
        let Some(head) = bytes.get(at..at + HEAD_BYTES) else {
            trace.is_cut = true;
            break;
        };
        let seconds = number(&head[0..4]) as u32;
        if seconds == 0 {
            // As ZEO's tools do: a crash left something here.
            trace.skipped += 1;
            at += 8;
            continue;
        }
        let fault = |what: String| Fault::Record { at: at as u64, what };
        let field = number(&head[4..8]) as u32;
        let (size, code) = ((field & 0x7fff_ff00) >> 8, (field & 0x7e) as u8);
        let oid_bytes = number(&head[8..10]) as usize;
        let (start, end) = (number(&head[10..18]), number(&head[18..26]));
        if oid_bytes != 0 && oid_bytes != 8 {
            return Err(fault(format!("the oid has {oid_bytes} bytes, and not 8")));
        }
        let Some(oid) = bytes.get(at + HEAD_BYTES..at + HEAD_BYTES + oid_bytes) else {
            trace.is_cut = true;
            break;
        };
        let event = event(code, size, start, end).ok_or_else(|| fault(format!("the code {code:#04x} is unknown")))?;
        trace.records.push(Record { seconds, oid: number(oid), event });
        at += HEAD_BYTES + oid_bytes;
    }
    Ok(trace)
}

fn event(code: u8, size: u32, start: u64, end: u64) -> Option<Event> {
    Some(match code {
        0x00 => Event::Open,
        0x10..=0x1e if start == 0 => Event::Forget,
        0x10..=0x1e => Event::Invalidate(start),
        0x20 => Event::Load(None),
        0x22 => Event::Load(Some((size, start))),
        0x24 => Event::LoadOld { before: end, found: None },
        0x26 => Event::LoadOld { before: end, found: Some((size, start, end)) },
        0x50..=0x56 => Event::Store { size, tid: start, end: (end != 0).then_some(end) },
        _ => return None,
    })
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Writes the records that the format can say; how many it cannot.
pub fn write(trace: &Trace, out: &mut Vec<u8>) -> u64 {
    let mut left_out = 0;
    for Record { seconds, oid, event } in &trace.records {
        let (code, size, start, end) = match event {
            Event::Open => (0x00, 0, 0, 0),
            Event::Load(None) => (0x20, 0, 0, 0),
            Event::Load(Some((size, tid))) => (0x22, *size, *tid, 0),
            Event::LoadOld { before, found: None } => (0x24, 0, 0, *before),
            Event::LoadOld { found: Some((size, tid, end)), .. } => (0x26, *size, *tid, *end),
            Event::Store { size, tid, end: None } => (0x52, *size, *tid, 0),
            Event::Store { size, tid, end: Some(end) } => (0x54, *size, *tid, *end),
            Event::Invalidate(tid) => (0x1c, 0, *tid, 0),
            Event::Forget => (0x1e, 0, 0, 0),
            Event::References(_) => {
                left_out += 1;
                continue;
            }
        };
        if size > SIZE_MAX || *seconds == 0 {
            left_out += 1;
            continue;
        }
        out.extend(seconds.to_be_bytes());
        out.extend((size << 8 | code).to_be_bytes());
        let has_oid = *event != Event::Open;
        out.extend(if has_oid { 8_u16 } else { 0 }.to_be_bytes());
        out.extend(start.to_be_bytes());
        out.extend(end.to_be_bytes());
        if has_oid {
            out.extend(oid.to_be_bytes());
        }
    }
    left_out
}
