//! Oids and moments as people type them.

use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use vellum_storage::{Clock, ManualClock, Oid, SystemClock, Tid};

/// A time as people name it: one tid, or all tids of a second, minute, hour or day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its first tid: the start of a range from this time on.
    pub first: Tid,
    /// Its last tid: the end of a range up to this time.
    pub last: Tid,
}

/// The clock that gives new transactions their time: it shows what [`now`] returns.
pub fn clock() -> Result<Arc<dyn Clock>, String> {
    Ok(match std::env::var_os("VELLUM_NOW") {
        None => Arc::new(SystemClock),
        Some(_) => Arc::new(ManualClock::at(now()?)),
    })
}

/// The current time, or the one in `VELLUM_NOW`, so that tests have a clock that stands still.
pub fn now() -> Result<Timestamp, String> {
    match std::env::var("VELLUM_NOW") {
        Err(_) => Ok(Timestamp::now()),
        Ok(text) => text.parse().map_err(|_| format!("VELLUM_NOW is `{text}`, which is no RFC 3339 time")),
    }
}

/// An oid: hex, with or without `0x`, or decimal with a `d` behind it.
///
/// `d` is a hex digit, too. Sixteen digits are hex, as they are printed; otherwise decimal digits and a `d` are
/// decimal.
pub fn oid(text: &str) -> Result<Oid, String> {
    if let Some(digits) = text.strip_suffix(['d', 'D'])
        && text.len() != 16
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
    {
        return digits.parse().map(Oid).map_err(|_| "too large: an oid has 64 bits".to_owned());
    }
    let lower = text.to_ascii_lowercase();
    lower.parse().map_err(|_| "an oid is up to 16 hex digits (1f, 0x1f), or a decimal number with a d (31d)".to_owned())
}

/// A moment: a tid, a date, a time, or so long ago.
pub fn moment(text: &str) -> Result<Moment, String> {
    moment_at(text, now()?)
}

/// A length of time: 30d, 12h. A day has 24 hours.
pub fn keep(text: &str) -> Result<std::time::Duration, String> {
    let why = || "a length of time is 30d, 12h or 90m, for example".to_owned();
    let span: jiff::Span = text.trim().parse().map_err(|_| why())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| why())?;
    length.try_into().map_err(|_| "a length of time is not negative".to_owned())
}

/// A transaction as people name it: by its tid, by a time at which there is only one, or as the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// The newest one.
    Last,
    /// The one at this time, and the text that named it.
    At(Moment, String),
}

/// A transaction: a tid, a time, or `last`.
pub fn transaction(text: &str) -> Result<Named, String> {
    match text.trim().eq_ignore_ascii_case("last") {
        true => Ok(Named::Last),
        false => moment(text).map(|moment| Named::At(moment, text.to_owned())),
    }
}

fn moment_at(text: &str, now: Timestamp) -> Result<Moment, String> {
    let text = text.trim();
    if text.len() == 16
        && let Ok(tid) = text.parse()
    {
        return Ok(Moment { first: tid, last: tid });
    }
    let lower = text.to_ascii_lowercase();
    let found = match relative(&lower, now) {
        Some(found) => found,
        None => absolute(text),
    };
    found.ok_or_else(|| {
        "a time is a tid (16 hex digits), a date (2026-11-22), a time (\"2026-11-22 11:14\", 2026-11-22T11:14:03Z), \
         or \"2 hours ago\", yesterday, today, now"
            .to_owned()
    })
}

/// None if the text is not relative to now; `Some(None)` if it is, and means a time that the calendar does not have.
fn relative(text: &str, now: Timestamp) -> Option<Option<Moment>> {
    let today = TimeZone::UTC.to_datetime(now).date().to_datetime(Default::default());
    match text {
        "now" => return Some(Some(instant(now))),
        "today" => return Some(span_from(today, 1.day())),
        "yesterday" => return Some(today.checked_sub(1.day()).ok().and_then(|day| span_from(day, 1.day()))),
        _ => {}
    }
    let mut words = text.strip_suffix("ago")?.split_whitespace();
    let (number, unit) = (words.next()?, words.next()?);
    if words.next().is_some() {
        return Some(None);
    }
    let number = match number {
        "a" | "an" | "one" => 1,
        digits => match digits.parse::<i64>() {
            Ok(number) if number >= 0 => number,
            _ => return Some(None),
        },
    };
    let span = Span::new();
    let span = match unit.strip_suffix('s').unwrap_or(unit) {
        "second" => span.try_seconds(number),
        "minute" => span.try_minutes(number),
        "hour" => span.try_hours(number),
        "day" => span.try_days(number),
        "week" => span.try_weeks(number),
        "month" => span.try_months(number),
        "year" => span.try_years(number),
        _ => return Some(None),
    };
    let then = span.and_then(|span| now.to_zoned(TimeZone::UTC).checked_sub(span));
    Some(then.ok().map(|then| instant(then.timestamp())))
}

/// A date means its whole day, a time without seconds its whole minute.
fn absolute(text: &str) -> Option<Moment> {
    // The form in which this command prints times.
    let text = text.strip_suffix("UTC").unwrap_or(text).trim_end();
    let Some((date, time)) = text.split_once(['T', 't', ' ']) else {
        return span_from(format!("{text}T00:00").parse().ok()?, 1.day());
    };
    let (clock, offset) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let start: Timestamp = format!("{date}T{clock}{offset}").parse().ok()?;
    let span = match clock.matches(':').count() {
        _ if clock.contains(['.', ',']) => return Some(instant(start)),
        1 => 1.minute(),
        2 => 1.second(),
        _ => return None,
    };
    span_from(TimeZone::UTC.to_datetime(start), span)
}

fn instant(moment: Timestamp) -> Moment {
    let tid = Tid::at(moment);
    Moment { first: tid, last: tid }
}

/// All tids from `start` on, up to the end of the span, which is excluded.
fn span_from(start: DateTime, span: Span) -> Option<Moment> {
    let at = |moment: DateTime| TimeZone::UTC.to_timestamp(moment).ok().map(Tid::at);
    let (first, next) = (at(start)?, at(start.checked_add(span).ok()?)?);
    Some(Moment { first, last: Tid(next.0.saturating_sub(1)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_are_hex_or_decimal_with_a_d() {
        for (text, expected) in [
            ("0", 0),
            ("1f", 31),
            ("1F", 31),
            ("0x1f", 31),
            ("0X1F", 31),
            ("31d", 31),
            ("0x31d", 0x31d),
            ("d", 13),
            ("1fd", 0x1fd),
            ("000000000000001d", 29),
            ("ffffffffffffffff", u64::MAX),
            ("18446744073709551615d", u64::MAX),
        ] {
            assert_eq!(oid(text), Ok(Oid(expected)), "{text}");
        }
        for bad in ["", "g", "-1", "+1d", "0x", "18446744073709551616d", "11111111111111111", "1 d"] {
            assert!(oid(bad).is_err(), "{bad}");
        }
    }

    fn tid(text: &str) -> Tid {
        Tid::at(text.parse().unwrap())
    }

    fn read(text: &str) -> Option<Moment> {
        moment_at(text, "2026-11-22T12:00:00Z".parse().unwrap()).ok()
    }

    #[test]
    fn a_tid_is_itself() {
        let tid = Tid(0x040d_2ed7_5fd2_9fbb);
        assert_eq!(read("040d2ed75fd29fbb"), Some(Moment { first: tid, last: tid }));
    }

    #[test]
    fn a_time_means_all_that_it_leaves_open() {
        for (text, first, next) in [
            ("2026-11-21", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            ("2026-11-21 10:05", "2026-11-21T10:05:00Z", "2026-11-21T10:06:00Z"),
            ("2026-11-21 10:05:07", "2026-11-21T10:05:07Z", "2026-11-21T10:05:08Z"),
            ("2026-11-21 10:05:07 UTC", "2026-11-21T10:05:07Z", "2026-11-21T10:05:08Z"),
            ("2026-11-21T10:05:07Z", "2026-11-21T10:05:07Z", "2026-11-21T10:05:08Z"),
            ("2026-11-21t10:05:07z", "2026-11-21T10:05:07Z", "2026-11-21T10:05:08Z"),
            ("2026-11-21T10:05:07+01:00", "2026-11-21T09:05:07Z", "2026-11-21T09:05:08Z"),
            ("2026-12-31T23:59:59-00:00", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
            ("20261121", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            ("yesterday", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            ("Today", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
        ] {
            let expected = Moment { first: tid(first), last: Tid(tid(next).0 - 1) };
            assert_eq!(read(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn so_long_ago_is_one_moment() {
        for (text, expected) in [
            ("now", "2026-11-22T12:00:00Z"),
            ("2026-11-21T10:05:07.25Z", "2026-11-21T10:05:07.25Z"),
            ("90 seconds ago", "2026-11-22T11:58:30Z"),
            ("1 minute ago", "2026-11-22T11:59:00Z"),
            ("2 hours ago", "2026-11-22T10:00:00Z"),
            ("an hour ago", "2026-11-22T11:00:00Z"),
            ("3  Days ago", "2026-11-19T12:00:00Z"),
            ("1 week ago", "2026-11-15T12:00:00Z"),
            ("1 month ago", "2026-10-22T12:00:00Z"),
            ("20 years ago", "2006-11-22T12:00:00Z"),
        ] {
            let tid = tid(expected);
            assert_eq!(read(text), Some(Moment { first: tid, last: tid }), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "ago",
            "2 ago",
            "hours ago",
            "two hours ago",
            "-2 hours ago",
            "2 hours",
            "2 fortnights ago",
            "99999999999999999 years ago",
            "9223372036854775807 seconds ago",
            "2026-13-01",
            "2026-02-30",
            "2026-11-21 25:00",
            "2026-11-21T10",
            "10:05",
            "2026-11-21 10:05 CET",
            "tomorrow",
            "040d2ed75fd29fb",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
