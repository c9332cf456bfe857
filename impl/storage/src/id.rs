//! [`Oid`] and [`Tid`]: the identity of an object, and that of a transaction. Both are eight bytes.

use std::array::TryFromSliceError;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// An object's identity. Printed, as everywhere in ZODB, as 16 hex digits.
///
/// ```
/// use vellum_storage::Oid;
///
/// let oid: Oid = "1f".parse()?;
/// assert_eq!((oid, oid.to_string()), (Oid(31), "000000000000001f".to_owned()));
/// assert_eq!(format!("{oid:x}"), "1f");
/// assert_eq!(Oid::from_bytes(oid.to_bytes()), oid);
/// # Ok::<(), vellum_storage::ParseIdError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(pub u64);

impl Oid {
    /// The root object, from which everything that lives is reached.
    pub const ROOT: Oid = Oid(0);
    /// The greatest oid there can be.
    pub const MAX: Oid = Oid(u64::MAX);
}

/// A transaction's identity, which is also its time: minutes in the high four bytes, and in the low four the fraction
/// of the minute in units of 60 / 2³² seconds. As the *serial* of a revision, the identity of the transaction that
/// wrote it.
///
/// ```
/// use vellum_storage::Tid;
/// let tid = Tid::at("2003-04-01T12:00:00Z".parse().unwrap());
/// assert_eq!(tid.to_string(), "034bf57000000000");
/// assert_eq!(tid.time().unwrap().to_string(), "2003-04-01T12:00:00Z");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub u64);

const MINUTES_A_DAY: u64 = 24 * 60;
const NANOS_A_MINUTE: u128 = 60_000_000_000;

impl Tid {
    /// Before every transaction; the serial of an object that is not there yet.
    pub const ZERO: Tid = Tid(0);
    /// After every transaction.
    pub const MAX: Tid = Tid(u64::MAX);

    /// Returns the greatest tid that is not later than the moment; [`Tid::ZERO`] for moments before 1900.
    pub fn at(moment: Timestamp) -> Tid {
        let t = TimeZone::UTC.to_datetime(moment);
        let Ok(years) = u64::try_from(i64::from(t.year()) - 1900) else {
            return Tid::ZERO;
        };
        // A year of twelve months of 31 days each: the waste buys dates without a calendar.
        let months = years * 12 + t.month() as u64 - 1;
        let minutes = (months * 31 + t.day() as u64 - 1) * MINUTES_A_DAY + t.hour() as u64 * 60 + t.minute() as u64;
        let nanos = t.second() as u128 * 1_000_000_000 + t.subsec_nanosecond() as u128;
        Tid(minutes << 32 | ((nanos << 32) / NANOS_A_MINUTE) as u64)
    }

    /// Returns the moment for which [`Tid::at`] returns this tid: the whole microsecond if there is one, and otherwise
    /// the nanosecond. None if these eight bytes name no day of the calendar, as in a damaged file.
    pub fn time(self) -> Option<Timestamp> {
        let (minutes, fraction) = (self.0 >> 32, u128::from(self.0 & 0xffff_ffff));
        let exact = (fraction * NANOS_A_MINUTE).div_ceil(1 << 32);
        // A tid counts in 14 ns: at most one whole microsecond lies in that, and most clocks tell no more.
        let round = exact.next_multiple_of(1000);
        let nanos = if (round << 32) / NANOS_A_MINUTE == fraction { round } else { exact };
        let (days, minute_of_day) = (minutes / MINUTES_A_DAY, minutes % MINUTES_A_DAY);
        let (months, day) = (days / 31, days % 31 + 1);
        let (years, month) = (months / 12, months % 12 + 1);
        let civil = DateTime::new(
            i16::try_from(years + 1900).ok()?,
            month as i8,
            day as i8,
            (minute_of_day / 60) as i8,
            (minute_of_day % 60) as i8,
            (nanos / 1_000_000_000) as i8,
            (nanos % 1_000_000_000) as i32,
        )
        .ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    }

    /// Returns the number after this one, with which a range begins or ends just after this tid. [`Tid::MAX`] has none,
    /// and returns itself. A new transaction gets [`Tid::later`].
    pub fn next(self) -> Tid {
        Tid(self.0.saturating_add(1))
    }

    /// Returns the tid of the moment that was so long before. [`Tid::ZERO`] if there is none, or if this tid names no
    /// day of the calendar.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vellum_storage::Tid;
    /// let tid = Tid::at("2026-03-01T00:00:30Z".parse().unwrap());
    /// let before = tid.earlier_by(Duration::from_secs(60));
    /// assert_eq!(before.time().unwrap().to_string(), "2026-02-28T23:59:30Z");
    /// assert_eq!(tid.earlier_by(Duration::ZERO), tid);
    /// ```
    pub fn earlier_by(self, time: Duration) -> Tid {
        if time.is_zero() {
            return self;
        }
        let then = self.time().and_then(|now| now.checked_sub(time).ok());
        then.map_or(Tid::ZERO, Tid::at)
    }

    /// Returns the earliest tid of a new transaction after this one (rule 1.1): plus one within a minute, and after its
    /// last instant the first one of the next minute of the calendar. So the end of February is followed by the first
    /// of March, as in ZODB. [`Tid::MAX`] has none, and returns itself.
    ///
    /// ```
    /// use vellum_storage::Tid;
    /// let end_of_february = Tid(0x0407_32df_ffff_ffff);
    /// assert_eq!(end_of_february.later().time().unwrap().to_string(), "2026-03-01T00:00:00Z");
    /// ```
    pub fn later(self) -> Tid {
        let next = self.next();
        if next.0 & 0xffff_ffff != 0 || next.time().is_some() {
            return next;
        }
        // A day that its month doesn't have.
        let months = (next.0 >> 32) / MINUTES_A_DAY / 31 + 1;
        Tid((months * 31 * MINUTES_A_DAY) << 32)
    }
}

macro_rules! hex {
    ($name:ident) => {
        impl $name {
            /// Returns the eight bytes, big-endian, that stand in files and messages.
            pub fn to_bytes(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }

            /// Reads eight bytes, big-endian.
            pub fn from_bytes(bytes: [u8; 8]) -> Self {
                $name(u64::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        impl fmt::UpperHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::UpperHex::fmt(&self.0, f)
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                $name(number)
            }
        }

        impl From<$name> for u64 {
            fn from(id: $name) -> u64 {
                id.0
            }
        }

        impl From<[u8; 8]> for $name {
            fn from(bytes: [u8; 8]) -> Self {
                $name::from_bytes(bytes)
            }
        }

        impl From<$name> for [u8; 8] {
            fn from(id: $name) -> [u8; 8] {
                id.to_bytes()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = TryFromSliceError;

            /// Reads eight bytes, big-endian.
            ///
            /// # Errors
            ///
            /// If there are more than eight bytes, or less.
            fn try_from(bytes: &[u8]) -> Result<Self, TryFromSliceError> {
                <[u8; 8]>::try_from(bytes).map($name::from_bytes)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Reads up to 16 hex digits, with or without `0x`.
            ///
            /// # Errors
            ///
            /// If the text is empty, or longer, or has anything else in it.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(ParseIdError(text.to_owned()));
                }
                u64::from_str_radix(digits, 16).map($name).map_err(|_| ParseIdError(text.to_owned()))
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
hex!(Oid);
hex!(Tid);

/// The error for a text that is neither an oid nor a tid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not up to 16 hex digits")]
pub struct ParseIdError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tid_is_a_time_and_back() {
        // ZODB's own TimeStamp gives these for these moments.
        for (text, hex) in [
            ("1900-01-01T00:00:00Z", "0000000000000000"),
            ("2003-04-01T00:00:59Z", "034bf2a0fbbbbbbb"),
            ("2003-04-01T00:01:00Z", "034bf2a100000000"),
            ("2026-11-21T23:59:59.5Z", "040d2cdffddddddd"),
        ] {
            let tid = Tid::at(text.parse().unwrap());
            assert_eq!(tid.to_string(), hex, "{text}");
            assert_eq!(tid.time().unwrap().to_string(), text);
            assert_eq!(Tid::at(tid.time().unwrap()), tid, "{text}");
        }
    }

    #[test]
    fn a_tid_that_names_no_day_has_no_time() {
        let minutes_of = |month: u64, day: u64| (((103 * 12 + month - 1) * 31) + day - 1) * MINUTES_A_DAY;
        assert_eq!(Tid(minutes_of(2, 31) << 32).time(), None);
        assert!(Tid(minutes_of(2, 28) << 32).time().is_some());
        assert_eq!(Tid::at(Timestamp::MIN), Tid::ZERO);
    }

    #[test]
    fn the_tid_after_a_tid_follows_the_calendar() {
        // `t.laterThan(t)` of ZODB's TimeStamp.
        for (tid, later) in [
            (0x0000_0000_0000_0000, 0x0000_0000_0000_0001),
            (0x0407_32de_ffff_ffff, 0x0407_32df_0000_0000),
            (0x0407_32df_ffff_fffe, 0x0407_32df_ffff_ffff),
            (0x0407_32df_ffff_ffff, 0x0407_43c0_0000_0000),
            (0xffff_fffe_ffff_ffff, 0xffff_ffff_0000_0000),
        ] {
            assert_eq!(Tid(tid).later(), Tid(later), "{}", Tid(tid));
        }
        assert_eq!(Tid::MAX.later(), Tid::MAX);
        let end_of = |minutes: u64| Tid(minutes << 32 | 0xffff_ffff);
        // The last minute of each of the 31 days that tids have room for, of each month there is.
        for day in 0..(1 << 32) / MINUTES_A_DAY {
            let tid = end_of(day * MINUTES_A_DAY + MINUTES_A_DAY - 1);
            let later = tid.later();
            assert!(later > tid && later.time().is_some(), "{tid}");
            if let Some(time) = Tid(tid.0 & !0xffff_ffff).time() {
                assert_eq!(later.time().unwrap(), time + jiff::Span::new().minutes(1), "{tid}");
            }
        }
        // A file can hold tids of days that no month has. ZODB commits nothing after them.
        assert_eq!(end_of(0x0407_3300).later(), Tid(0x0407_43c0_0000_0000));
        assert_eq!(Tid(0x0407_3300_0000_0000).later(), Tid(0x0407_3300_0000_0001));
    }

    #[test]
    fn ids_read_what_they_print() {
        assert_eq!("0x1f".parse(), Ok(Oid(31)));
        assert_eq!(Oid(31).to_string().parse(), Ok(Oid(31)));
        for bad in ["", "0x", "g", "00000000000000000", "+1", " 1"] {
            assert!(bad.parse::<Oid>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_convert_from_and_to_numbers_and_bytes() {
        let oid = Oid(0x1f_ffff_ffff);
        assert_eq!((Oid::from(u64::from(oid)), Oid::from(<[u8; 8]>::from(oid))), (oid, oid));
        assert_eq!(Tid::try_from(&b"\x04\x0d\x2c\xdf\xfd\xdd\xdd\xdd"[..]).unwrap(), Tid(0x040d_2cdf_fddd_dddd));
        assert!(Oid::try_from(&[0; 7][..]).is_err() && Oid::try_from(&[0; 9][..]).is_err());
        assert_eq!(format!("{:x} {:#X} {:08x}", Tid(0xab), Tid(0xab), Oid(0xab)), "ab 0xAB 000000ab");
    }
}
