//! Moments for histories: minutes, counted from 1. The tid of a moment is written `@3`, the next tid after it `@3+1`.
//!
//! Whole minutes, because every clock and every tid can say them exactly, ZODB's floating point seconds included.

use std::fmt;

use vellum_storage::Tid;

/// Minutes from 1900 (in months of 31 days, as tids count) to the first of January 2026.
const START: u64 = 126 * 12 * 31 * 24 * 60;
/// So far from a whole minute a tid is still written as one and so much.
const NEAR: u64 = 1000;

/// The tid of a moment; zero for moment 0.
pub fn tick(moment: u64) -> Tid {
    Tid(if moment == 0 { 0 } else { (START + moment) << 32 })
}

/// The last moment that is not later than the tid.
pub fn moment(tid: Tid) -> u64 {
    (tid.0 >> 32).saturating_sub(START)
}

/// A tid, for people.
pub struct Tick(pub Tid);

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minute, rest) = (moment(self.0), self.0.0 & 0xffff_ffff);
        match self.0 {
            Tid(0) => f.write_str("@0"),
            Tid::MAX => f.write_str("@max"),
            _ if minute == 0 || minute > 1 << 24 || rest >= NEAR => write!(f, "@0x{}", self.0),
            _ if rest == 0 => write!(f, "@{minute}"),
            _ => write!(f, "@{minute}+{rest}"),
        }
    }
}

/// Reads what [`Tick`] writes.
pub fn parse(text: &str) -> Option<Tid> {
    let text = text.strip_prefix('@')?;
    if text == "max" {
        return Some(Tid::MAX);
    }
    if text.starts_with("0x") {
        return text.parse().ok();
    }
    let (minute, rest) = text.split_once('+').unwrap_or((text, "0"));
    let (minute, rest) = (minute.parse::<u64>().ok()?, rest.parse::<u64>().ok()?);
    (minute <= 1 << 24 && rest < NEAR).then(|| Tid(tick(minute).0 + rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_and_the_storages_agree_on_the_next_tid() {
        // The last minute of each day that tids have room for, those that no month has among them.
        for day in 1..=(1 << 32) / (24 * 60_u64) {
            let minute = day * 24 * 60 - 1;
            for rest in [0, 0xffff_fffe, 0xffff_ffff] {
                let tid = Tid(minute << 32 | rest);
                assert_eq!(vellum_spec::later(tid.0), Some(tid.later().0), "{tid}");
            }
        }
        assert_eq!(vellum_spec::later(u64::MAX), None);
    }

    #[test]
    fn moments_are_tids_and_back() {
        for tid in [Tid::ZERO, tick(1), tick(77), tick(3).next().next(), Tid::MAX, Tid(5), Tid(1 << 40)] {
            assert_eq!(parse(&Tick(tid).to_string()), Some(tid), "{}", Tick(tid));
        }
        assert_eq!(tick(1).time().unwrap().to_string(), "2026-01-01T00:01:00Z");
        assert_eq!(Tid::at(tick(90).time().unwrap()), tick(90));
    }
}
