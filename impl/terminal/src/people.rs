//! Sizes, times and foreign text as people read them.

use std::fmt::Write;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use vellum_storage::Tid;

/// A number with commas.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things.
pub fn counted(number: u64, thing: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {thing}{s}", count(number))
}

/// A number of bytes, in a unit that leaves few digits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return counted(bytes, "byte");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // A value that would be rounded to 1024 belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A number of bytes in a unit, and the exact number behind it.
pub fn exact_size(bytes: u64) -> String {
    if bytes < 1024 {
        return size(bytes);
    }
    format!("{} ({} bytes)", size(bytes), count(bytes))
}

/// A part of a whole, in percent.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        p if part > 0 && p < 0.1 => "< 0.1 %".to_owned(),
        p if part < whole && p > 99.9 => "> 99.9 %".to_owned(),
        p => format!("{p:.1} %"),
    }
}

/// The time zone in which times are shown beside UTC.
static LOCAL: OnceLock<TimeZone> = OnceLock::new();

/// Shows all times in the time zone of the system, too.
pub fn show_local_times() {
    // A second call changes nothing: the system has one time zone.
    let _ = LOCAL.set(TimeZone::system());
}

/// A transaction's time, and how long ago that is.
pub fn time(tid: Tid, now: Timestamp) -> String {
    time_in(tid, now, LOCAL.get())
}

fn time_in(tid: Tid, now: Timestamp, local: Option<&TimeZone>) -> String {
    match tid.time() {
        None => "no date of the calendar".to_owned(),
        Some(moment) => {
            let civil = TimeZone::UTC.to_datetime(moment);
            let utc = civil.strftime("%Y-%m-%d %H:%M:%S");
            let local = local.map(|zone| moment.to_zoned(zone.clone()).strftime(" = %Y-%m-%d %H:%M:%S%:z").to_string());
            format!("{utc} UTC{} ({})", local.unwrap_or_default(), age(moment, now))
        }
    }
}

/// How long ago a moment is.
fn age(moment: Timestamp, now: Timestamp) -> String {
    const UNITS: [(i64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let seconds = now.as_second() - moment.as_second();
    let distance = seconds.abs();
    let Some((unit, name)) = UNITS.into_iter().find(|&(unit, _)| distance >= unit) else {
        return "now".to_owned();
    };
    let span = counted((distance / unit).unsigned_abs(), name);
    if seconds > 0 { format!("{span} ago") } else { format!("{span} in the future") }
}

/// A transaction's time for programs.
pub fn rfc3339(tid: Tid) -> Option<String> {
    tid.time().map(|moment| moment.to_string())
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Text from a database in one line, safe for a terminal. Control characters are written as escapes, and so are
/// characters without width and those that change the direction of text.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e0fff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// As [`printable`], for bytes that need not be UTF-8. Keeps their lines.
pub fn printable_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.trim().lines().map(printable).collect();
    lines.join("\n")
}

/// The first line of the bytes, for a table.
pub fn printable_start(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.trim().lines();
    let first = printable(lines.next().unwrap_or_default());
    if lines.next().is_some() { format!("{first} ...") } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_few_digits() {
        let shown = [0, 1, 1023, 1024, 1_048_530, 1_048_576, 720_027_742, u64::MAX].map(size);
        let expected = ["0 bytes", "1 byte", "1,023 bytes", "1.0 KiB", "1.0 MiB", "1.0 MiB", "686.7 MiB", "16.0 EiB"];
        assert_eq!(shown, expected);
        assert_eq!(exact_size(720_027_742), "686.7 MiB (720,027,742 bytes)");
        assert_eq!(exact_size(7), "7 bytes");
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_part_is_never_rounded_to_nothing_or_to_all() {
        assert_eq!(percent(1, 1_000_000), "< 0.1 %");
        assert_eq!(percent(999_999, 1_000_000), "> 99.9 %");
        assert_eq!([percent(0, 9), percent(9, 9), percent(1, 3), percent(0, 0)], ["0.0 %", "100.0 %", "33.3 %", "0 %"]);
    }

    #[test]
    fn times_say_how_long_ago_they_are() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (moment, shown) in [
            ("2026-11-22T12:00:00Z", "2026-11-22 12:00:00 UTC (now)"),
            ("2026-11-22T11:59:59Z", "2026-11-22 11:59:59 UTC (1 second ago)"),
            ("2026-11-22T11:14:03.9Z", "2026-11-22 11:14:03 UTC (45 minutes ago)"),
            ("2026-11-21T11:59:00Z", "2026-11-21 11:59:00 UTC (1 day ago)"),
            ("2026-09-20T12:00:00Z", "2026-09-20 12:00:00 UTC (2 months ago)"),
            ("2003-04-01T00:00:00Z", "2003-04-01 00:00:00 UTC (23 years ago)"),
            ("2026-11-22T14:00:00Z", "2026-11-22 14:00:00 UTC (2 hours in the future)"),
        ] {
            assert_eq!(time(Tid::at(moment.parse().unwrap()), now), shown);
        }
        let february_31 = ((103 * 12 + 1) * 31 + 30) * 24 * 60;
        assert_eq!(time(Tid(february_31 << 32), now), "no date of the calendar");
        let second = Tid::at("2026-11-22T11:14:03Z".parse().unwrap());
        assert_eq!(rfc3339(second).unwrap(), "2026-11-22T11:14:03Z");
        assert!(time(Tid(second.0 - 1), now).contains("11:14:02"), "not yet");
    }

    #[test]
    fn a_local_time_says_how_far_it_is_from_utc() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let shown = |zone: TimeZone| time_in(Tid::at("2026-11-22T11:59:59Z".parse().unwrap()), now, Some(&zone));
        let east = TimeZone::fixed(jiff::tz::offset(13));
        assert_eq!(shown(east), "2026-11-22 11:59:59 UTC = 2026-11-23 00:59:59+13:00 (1 second ago)");
        assert_eq!(shown(TimeZone::UTC), "2026-11-22 11:59:59 UTC = 2026-11-22 11:59:59+00:00 (1 second ago)");
    }

    #[test]
    fn foreign_text_does_nothing_to_a_terminal() {
        assert_eq!(printable("é ☃ \u{1b}[2J\r\u{202e}\u{9b}"), "é ☃ \\x1b[2J\\r\\u202e\\x9b");
        assert_eq!(printable_lines(b" a\nb\x07\n"), "a\nb\\x07");
        assert_eq!(printable_start(b"/folder\nadded"), "/folder ...");
        assert_eq!(printable_start(b"\xff"), "\u{fffd}");
    }
}
