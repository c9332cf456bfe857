//! The rotation of log files, in the words of ZConfig and of Python's `logging.handlers`.

use std::fmt;

use super::plan::LogTarget;

/// `max-size`, `when`, `interval` and `old-files` of the section `logfile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The limit at which a file is put aside.
    pub turn: Turn,
    /// How many old files are kept, at least one.
    pub old_files: u64,
}

/// The limit at which a log file is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It would have this many bytes, or more.
    Size(u64),
    /// Its time is over: so many of these.
    Every(u32, Period),
}

/// A period of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From the first line.
    Second,
    /// From the first line.
    Minute,
    /// From the first line.
    Hour,
    /// 24 hours, from the first line.
    Day,
    /// Until a midnight.
    Midnight,
    /// Until the end of a day of the week; Monday is 0.
    Week(u8),
}

impl Period {
    /// As Python's `TimedRotatingFileHandler` names it; none if it is no period.
    pub fn of(name: &str) -> Option<Period> {
        Some(match name.to_ascii_uppercase().as_str() {
            "S" => Period::Second,
            "M" => Period::Minute,
            "H" => Period::Hour,
            "D" => Period::Day,
            "MIDNIGHT" => Period::Midnight,
            week => Period::Week(week.strip_prefix('W')?.parse().ok().filter(|day| *day <= 6)?),
        })
    }
}

impl Rotation {
    /// The rotation that these keys ask for, if they do.
    ///
    /// # Errors
    ///
    /// They contradict each other, or one is missing; the text says which.
    pub(super) fn of(
        to: &LogTarget,
        size: u64,
        old_files: u64,
        when: Option<&str>,
        interval: Option<u64>,
    ) -> Result<Option<Rotation>, String> {
        let is_asked = size > 0 || old_files > 0 || when.is_some() || interval.is_some();
        let turn = match (size, when) {
            _ if !is_asked => return Ok(None),
            _ if !matches!(to, LogTarget::File(_)) => return Err("a stream cannot be rotated".to_owned()),
            _ if old_files == 0 => return Err("a log that is rotated needs old-files".to_owned()),
            (1.., Some(_)) => return Err("a log has max-size or when, and not both".to_owned()),
            (1.., None) => Turn::Size(size),
            (0, None) => return Err("a log that is rotated needs max-size or when".to_owned()),
            (0, Some(when)) => {
                let count = interval.filter(|count| *count > 0).unwrap_or(1);
                let count = u32::try_from(count).ok().filter(|count| *count <= Rotation::COUNT_MAX);
                let count = count.ok_or_else(|| format!("interval is at most {}", Rotation::COUNT_MAX))?;
                let period = Period::of(when).ok_or("when is S, M, H, D, midnight, or W0 (Monday) to W6")?;
                Turn::Every(count, period)
            }
        };
        Ok(Some(Rotation { turn, old_files }))
    }

    /// Periods in one file.
    const COUNT_MAX: u32 = 1_000_000;
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rotation { turn, old_files } = self;
        match turn {
            Turn::Size(bytes) => write!(f, "put aside at {bytes} bytes")?,
            Turn::Every(1, period) => write!(f, "put aside every {period}")?,
            Turn::Every(count, period) => write!(f, "put aside every {count}th {period}")?,
        }
        write!(f, "; {old_files} old files are kept")
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
        f.write_str(match self {
            Period::Second => "second",
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "24 hours",
            Period::Midnight => "midnight",
            Period::Week(day) => DAYS.get(usize::from(*day)).unwrap_or(&"week"),
        })
    }
}
