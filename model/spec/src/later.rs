//! The tid after a tid (rule 1.1), by the calendar.

use crate::Tid;

const MINUTES_A_DAY: u64 = 24 * 60;

/// Returns the earliest tid after `last` that a new transaction can get when no clock gives a later one; none if there
/// is none. It is the last one plus one, unless a minute ends there. Then it is the first moment of the next minute of
/// the calendar: a tid counts months of 31 days each, and the days that a month doesn't have are passed over.
pub fn later(last: Tid) -> Option<Tid> {
    if last & 0xffff_ffff < 0xffff_ffff {
        return Some(last + 1);
    }
    let minute = (last >> 32) + 1;
    let day = minute / MINUTES_A_DAY;
    let (month, day) = (day / 31, day % 31 + 1);
    let minute =
        if day <= days_of(1900 + month / 12, month % 12 + 1) { minute } else { (month + 1) * 31 * MINUTES_A_DAY };
    u32::try_from(minute).ok().map(|minute| u64::from(minute) << 32)
}

/// The days of a month, counted from 1.
fn days_of(year: u64, month: u64) -> u64 {
    let leaps = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leaps => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
