//! Dates and times as Python's `datetime` packs them into bytes.
//!
//! | class | bytes |
//! |---|---|
//! | `date` | year 2, month, day |
//! | `time` | hour, minute, second, microsecond 3 |
//! | `datetime` | those of the date, then those of the time |
//!
//! All big-endian. The top bit of the first byte after the year, or of the hour, is set for the second of two hours
//! with the same name when clocks are set back (the "fold").

use jiff::civil::{Date, DateTime, Time};

use crate::reference::ClassRef;

/// A packed date or time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) iso: String,
    /// Is it the second of two hours with the same name?
    pub(crate) fold: bool,
}

/// A packed date or time, if `class` is one of the three and the bytes are in order.
pub(crate) fn unpack(class: ClassRef<'_>, packed: &[u8]) -> Option<Unpacked> {
    if class.module != b"datetime" {
        return None;
    }
    match (class.name, packed) {
        (b"date", &[y1, y2, month, day]) => Some(Unpacked { iso: date(y1, y2, month, day)?.to_string(), fold: false }),
        (b"time", &[hour, ref rest @ ..]) => {
            Some(Unpacked { iso: time(hour & 0x7f, rest)?.to_string(), fold: hour & 0x80 != 0 })
        }
        (b"datetime", &[y1, y2, month, day, hour, ref rest @ ..]) => {
            let date = date(y1, y2, month & 0x7f, day)?;
            let iso = DateTime::from_parts(date, time(hour, rest)?).to_string();
            Some(Unpacked { iso, fold: month & 0x80 != 0 })
        }
        _ => None,
    }
}

fn date(y1: u8, y2: u8, month: u8, day: u8) -> Option<Date> {
    let year = i16::from_be_bytes([y1, y2]);
    // Python has no year 0.
    if year < 1 {
        return None;
    }
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

fn time(hour: u8, rest: &[u8]) -> Option<Time> {
    let &[minute, second, m1, m2, m3] = rest else {
        return None;
    };
    let small = |number: u8| i8::try_from(number).ok();
    let microsecond = i32::from_be_bytes([0, m1, m2, m3]);
    Time::new(small(hour)?, small(minute)?, small(second)?, microsecond.checked_mul(1000)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_times_are_iso_dates() {
        let unpack = |name: &str, packed: &[u8]| {
            let unpacked = unpack(ClassRef { module: b"datetime", name: name.as_bytes() }, packed)?;
            Some(format!("{}{}", unpacked.iso, if unpacked.fold { " fold" } else { "" }))
        };
        assert_eq!(unpack("date", b"\x07\xd3\x04\x01").as_deref(), Some("2003-04-01"));
        assert_eq!(unpack("time", b"\x17\x3b\x3a\x00\x00\x00").as_deref(), Some("23:59:58"));
        assert_eq!(unpack("time", b"\x97\x3b\x3a\x00\x00\x00").as_deref(), Some("23:59:58 fold"));
        let moment = b"\x07\xd3\x04\x01\x00\x25\x00\x01\xe2\x40";
        assert_eq!(unpack("datetime", moment).as_deref(), Some("2003-04-01T00:37:00.123456"));
        let folded = b"\x07\xd3\x84\x01\x00\x25\x00\x00\x00\x00";
        assert_eq!(unpack("datetime", folded).as_deref(), Some("2003-04-01T00:37:00 fold"));
        assert_eq!(unpack("date", b"\x00\x01\x01\x01").as_deref(), Some("0001-01-01"));
        assert_eq!(unpack("date", b"\x00\x00\x01\x01"), None);
        assert_eq!(unpack("date", b"\x07\xd3\x04"), None);
        assert_eq!(unpack("date", b"\x07\xd3\x0d\x01"), None);
        assert_eq!(unpack("time", b"\x17\x3b\x3a\xff\xff\xff"), None, "sixteen million microseconds");
    }
}
