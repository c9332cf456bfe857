//! The compact format: a byte for the event, and the differences to the record before.
//!
//! ```text
//!   "VLTRACE1" │ records:  kind (1) │ seconds, difference │ oid, difference │ fields of the kind
//! ```
//!
//! A number is a varint: 7 bits in a byte, the lowest first; the highest bit says that more follow. A difference is
//! taken modulo 2^64 from the record before (0 at the beginning) and folded: 0, -1, 1, -2 are 0, 1, 2, 3. Each tid is a
//! difference to the tid before it, in whatever record that was.

use super::{Event, Fault, Record, Trace};

/// The first bytes of a file.
pub const MAGIC: &[u8; 8] = b"VLTRACE1";

const OPEN: u8 = 0;
const MISS: u8 = 1;
const HIT: u8 = 2;
const MISS_OLD: u8 = 3;
const HIT_OLD: u8 = 4;
const STORE: u8 = 5;
const STORE_OLD: u8 = 6;
const INVALIDATE: u8 = 7;
const FORGET: u8 = 8;
const REFERENCES: u8 = 9;

/// The numbers before, from which differences are taken.
#[derive(Default)]
struct Before {
    seconds: u64,
    oid: u64,
    tid: u64,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    before: Before,
}

/// Why a record was not read.
enum Stop {
    Cut,
    Wrong(String),
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Cut)?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, Stop> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Stop::Wrong("a number has more than 64 bits".to_owned()))
    }

    fn small(&mut self) -> Result<u32, Stop> {
        let number = self.number()?;
        u32::try_from(number).map_err(|_| Stop::Wrong(format!("a size of {number} bytes is too large")))
    }

    fn difference(&mut self) -> Result<u64, Stop> {
        let folded = self.number()?;
        Ok((folded >> 1) ^ 0_u64.wrapping_sub(folded & 1))
    }

    fn tid(&mut self) -> Result<u64, Stop> {
        self.before.tid = self.before.tid.wrapping_add(self.difference()?);
        Ok(self.before.tid)
    }

    fn record(&mut self) -> Result<Record, Stop> {
        let kind = self.byte()?;
        self.before.seconds = self.before.seconds.wrapping_add(self.difference()?);
        let seconds = u32::try_from(self.before.seconds)
            .map_err(|_| Stop::Wrong(format!("the time {} has more than 32 bits", self.before.seconds)))?;
        self.before.oid = self.before.oid.wrapping_add(self.difference()?);
        let event = match kind {
            OPEN => Event::Open,
            MISS => Event::Load(None),
            HIT => Event::Load(Some((self.small()?, self.tid()?))),
            MISS_OLD => Event::LoadOld { before: self.tid()?, found: None },
            HIT_OLD => Event::LoadOld { before: self.tid()?, found: Some((self.small()?, self.tid()?, self.tid()?)) },
            STORE => Event::Store { size: self.small()?, tid: self.tid()?, end: None },
            STORE_OLD => Event::Store { size: self.small()?, tid: self.tid()?, end: Some(self.tid()?) },
            INVALIDATE => Event::Invalidate(self.tid()?),
            FORGET => Event::Forget,
            REFERENCES => {
                let count = self.number()?;
                let mut to = Vec::new();
                let mut last = self.before.oid;
                // Each takes bytes of the file, so the list ends with it.
                for _ in 0..count {
                    last = last.wrapping_add(self.difference()?);
                    to.push((last, self.small()?));
                }
                Event::References(to)
            }
            _ => return Err(Stop::Wrong(format!("the kind {kind} is unknown"))),
        };
        Ok(Record { seconds, oid: self.before.oid, event })
    }
}

/// Reads all records behind the magic.
///
/// # Errors
///
/// For an unknown kind, or a number that is too large.
pub fn read(bytes: &[u8]) -> Result<Trace, Fault> {
    let mut reader = Reader { bytes, at: MAGIC.len().min(bytes.len()), before: Before::default() };
    let mut trace = Trace::default();
    while reader.at < bytes.len() {
        let at = reader.at as u64;
        match reader.record() {
            Ok(record) => trace.records.push(record),
            Err(Stop::Cut) => {
                trace.is_cut = true;
                break;
            }
            Err(Stop::Wrong(what)) => return Err(Fault::Record { at, what }),
        }
    }
    Ok(trace)
}

/// Writes all records.
pub fn write(trace: &Trace, out: &mut Vec<u8>) {
    out.extend(MAGIC);
    let mut before = Before::default();
    for record in &trace.records {
        write_record(record, &mut before, out);
    }
}

fn number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn difference(from: &mut u64, to: u64, out: &mut Vec<u8>) {
    let step = to.wrapping_sub(*from) as i64;
    number((step << 1 ^ step >> 63) as u64, out);
    *from = to;
}

fn write_record(Record { seconds, oid, event }: &Record, before: &mut Before, out: &mut Vec<u8>) {
    out.push(match event {
        Event::Open => OPEN,
        Event::Load(None) => MISS,
        Event::Load(Some(_)) => HIT,
        Event::LoadOld { found: None, .. } => MISS_OLD,
        Event::LoadOld { .. } => HIT_OLD,
        Event::Store { end: None, .. } => STORE,
        Event::Store { .. } => STORE_OLD,
        Event::Invalidate(_) => INVALIDATE,
        Event::Forget => FORGET,
        Event::References(_) => REFERENCES,
    });
    difference(&mut before.seconds, u64::from(*seconds), out);
    difference(&mut before.oid, *oid, out);
    let tid = &mut before.tid;
    match event {
        Event::Open | Event::Load(None) | Event::Forget => {}
        Event::Load(Some((size, start))) => {
            number(u64::from(*size), out);
            difference(tid, *start, out);
        }
        Event::LoadOld { before, found } => {
            difference(tid, *before, out);
            if let Some((size, start, end)) = found {
                number(u64::from(*size), out);
                difference(tid, *start, out);
                difference(tid, *end, out);
            }
        }
        Event::Store { size, tid: start, end } => {
            number(u64::from(*size), out);
            difference(tid, *start, out);
            if let Some(end) = end {
                difference(tid, *end, out);
            }
        }
        Event::Invalidate(at) => difference(tid, *at, out),
        Event::References(to) => {
            number(to.len() as u64, out);
            let mut last = *oid;
            for (oid, size) in to {
                difference(&mut last, *oid, out);
                number(u64::from(*size), out);
            }
        }
    }
}
