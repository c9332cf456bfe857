//! Log files that are put aside when they are large, or when their time is over.
//!
//! | | the file is put aside | as |
//! |---|---|---|
//! | `max-size` | before a line with which it would have so many bytes | `zeo.log.1`; an older one moves to `.2`, and so on |
//! | `when` | with the first line after its time is over | `zeo.log.2026-11-30`, with the time as far as the period needs it |
//!
//! Names are those of Python's `logging.handlers`, so that an operator's other tools find them. Python's removes a file
//! that has the name already; here the new one gets a number behind its name.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use vellum_server::conf::{Period, Rotation, Turn};

/// The rotation of one file.
pub struct Rotating {
    path: PathBuf,
    rotation: Rotation,
    /// The size, or the moment, at which the file is put aside next.
    next: Next,
}

enum Next {
    Bytes(u64),
    Time(Timestamp),
}

impl Rotating {
    /// The file at `path`, which was opened now. If it was there, its time began with its last line.
    pub fn new(path: &Path, rotation: &Rotation, file: &File, now: &Zoned) -> Rotating {
        let written = || {
            let metadata = file.metadata().ok().filter(|metadata| metadata.len() > 0)?;
            Timestamp::try_from(metadata.modified().ok()?).ok()
        };
        let next = match rotation.turn {
            Turn::Size(bytes) => Next::Bytes(bytes),
            Turn::Every(count, period) => {
                let from = written().unwrap_or(now.timestamp()).to_zoned(now.time_zone().clone());
                Next::Time(end(&from, count, period))
            }
        };
        Rotating { path: path.to_owned(), rotation: rotation.clone(), next }
    }

    /// Whether the file is put aside before a line of so many bytes is written to it. Only what is in a file of its own
    /// can be.
    pub fn is_due(&self, file: &File, line: usize, now: &Zoned) -> bool {
        let is_over = |length: u64| match self.next {
            Next::Bytes(bytes) => length > 0 && length + line as u64 >= bytes,
            Next::Time(end) => now.timestamp() >= end,
        };
        match (&self.next, file.metadata()) {
            (Next::Time(end), _) if now.timestamp() < *end => false,
            (_, Ok(metadata)) => metadata.is_file() && is_over(metadata.len()),
            (_, Err(_)) => false,
        }
    }

    /// Puts the file aside. The next one is still to be opened.
    ///
    /// # Errors
    ///
    /// Those of the file system. The file stays where it is, and its next time is one size or period later.
    pub fn turn(&mut self, now: &Zoned) -> io::Result<()> {
        let turned = match self.rotation.turn {
            Turn::Size(_) => self.shift(),
            Turn::Every(count, period) => self.put_aside(count, period, now.time_zone()),
        };
        self.next = match self.rotation.turn {
            Turn::Size(bytes) => Next::Bytes(match turned {
                Ok(()) => bytes,
                Err(_) => std::fs::metadata(&self.path).map_or(bytes, |metadata| metadata.len().saturating_add(bytes)),
            }),
            Turn::Every(count, period) => Next::Time(end(now, count, period)),
        };
        turned
    }

    /// The old files move on by one number, and the last one goes.
    fn shift(&self) -> io::Result<()> {
        for number in (1..self.rotation.old_files).rev() {
            unless_missing(std::fs::rename(self.beside(&number.to_string()), self.beside(&(number + 1).to_string())))?;
        }
        unless_missing(std::fs::rename(&self.path, self.beside("1")))
    }

    /// The file gets the name of the time in which it began, and the oldest ones go.
    fn put_aside(&self, count: u32, period: Period, zone: &TimeZone) -> io::Result<()> {
        let Next::Time(end) = self.next else { return Ok(()) };
        let began = begin(&end.to_zoned(zone.clone()), count, period);
        let name = jiff::fmt::strtime::format(format(period), &began).unwrap_or_else(|_| end.to_string());
        let numbered = (1..).map(|number: u64| format!("{name}.{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !self.beside(name).exists());
        unless_missing(std::fs::rename(&self.path, self.beside(&free.unwrap_or(name))))?;
        let mut old = self.old(period)?;
        old.sort();
        let gone = old.len().saturating_sub(self.rotation.old_files.try_into().unwrap_or(usize::MAX));
        old[..gone].iter().try_for_each(|(_, _, path)| unless_missing(std::fs::remove_file(path)))
    }

    /// The files that were put aside, by the time in their names and the number behind it.
    fn old(&self, period: Period) -> io::Result<Vec<(DateTime, u64, PathBuf)>> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Some(own) = self.path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(own)?.strip_prefix('.')) else { continue };
            let (time, number) = match rest.split_once('.') {
                None => (rest, Some(0)),
                Some((time, number)) => (time, number.parse().ok()),
            };
            if let (Some(time), Some(number)) = (time_of(time, period), number) {
                found.push((time, number, entry.path()));
            }
        }
        Ok(found)
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(".");
        name.push(end);
        name.into()
    }
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The time in a file's name.
fn format(period: Period) -> &'static str {
    match period {
        Period::Second => "%Y-%m-%d_%H-%M-%S",
        Period::Minute => "%Y-%m-%d_%H-%M",
        Period::Hour => "%Y-%m-%d_%H",
        Period::Day | Period::Midnight | Period::Week(_) => "%Y-%m-%d",
    }
}

fn time_of(name: &str, period: Period) -> Option<DateTime> {
    let time = match period {
        Period::Day | Period::Midnight | Period::Week(_) => Date::strptime(format(period), name).ok()?.into(),
        // jiff wants minutes where there are hours.
        Period::Hour => DateTime::strptime("%Y-%m-%d_%H-%M", format!("{name}-00")).ok()?,
        Period::Minute | Period::Second => DateTime::strptime(format(period), name).ok()?,
    };
    (time.strftime(format(period)).to_string() == name).then_some(time)
}

/// The seconds of a period that is not one of the calendar.
fn seconds(period: Period) -> Option<i64> {
    match period {
        Period::Second => Some(1),
        Period::Minute => Some(60),
        Period::Hour => Some(60 * 60),
        Period::Day => Some(24 * 60 * 60),
        Period::Midnight | Period::Week(_) => None,
    }
}

/// The end of the time of a file that began then.
fn end(from: &Zoned, count: u32, period: Period) -> Timestamp {
    let count = i64::from(count);
    let found = match (seconds(period), period) {
        (Some(seconds), _) => from.checked_add(SignedDuration::from_secs(seconds * count)),
        (None, Period::Week(day)) => {
            let today = i64::from(from.weekday().to_monday_zero_offset());
            let days = (i64::from(day) - today).rem_euclid(7) + 1 + 7 * (count - 1);
            from.checked_add(days.days()).and_then(|then| then.start_of_day())
        }
        (None, _) => from.checked_add(count.days()).and_then(|then| then.start_of_day()),
    };
    found.map_or(Timestamp::MAX, |end| end.timestamp())
}

/// The beginning of the time that ends then.
fn begin(end: &Zoned, count: u32, period: Period) -> Zoned {
    let count = i64::from(count);
    let found = match (seconds(period), period) {
        (Some(seconds), _) => end.checked_sub(SignedDuration::from_secs(seconds * count)),
        (None, Period::Week(_)) => end.checked_sub((7 * count).days()),
        (None, _) => end.checked_sub(count.days()),
    };
    found.unwrap_or_else(|_| end.clone())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse::<DateTime>().unwrap().to_zoned(TimeZone::get("Europe/Berlin").unwrap()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = std::fs::read_to_string(entry.path()).unwrap();
                format!("{}: {}", entry.file_name().to_string_lossy(), text.replace('\n', "/"))
            })
            .collect();
        names.sort_by(|a, b| a.split(':').cmp(b.split(':')));
        names
    }

    /// Writes lines as a log does.
    fn log(path: &Path, rotation: &Rotation, lines: &[(&str, &str)]) {
        let open = || File::options().append(true).create(true).open(path).unwrap();
        let mut file = open();
        let mut rotating = Rotating::new(path, rotation, &file, &at(lines[0].0));
        for (now, line) in lines {
            if rotating.is_due(&file, line.len() + 1, &at(now)) {
                rotating.turn(&at(now)).unwrap();
                file = open();
            }
            writeln!(file, "{line}").unwrap();
        }
    }

    #[test]
    fn a_large_file_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Rotation { turn: Turn::Size(8), old_files: 2 };
        let now = "2026-11-30T10:00";
        let lines: Vec<_> = ["1", "2", "3", "4", "long long", "6", "7"].iter().map(|line| (now, *line)).collect();
        log(&folder.path().join("zeo.log"), &rotation, &lines);
        assert_eq!(names(folder.path()), ["zeo.log: 6/7/", "zeo.log.1: long long/", "zeo.log.2: 4/"]);
    }

    #[test]
    fn a_file_is_put_aside_at_midnight() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("zeo.log.2026-03-backup"), "another's").unwrap();
        let rotation = Rotation { turn: Turn::Every(1, Period::Midnight), old_files: 2 };
        let lines = [
            ("2026-03-27T10:00", "a"),
            ("2026-03-27T23:59:59", "b"),
            ("2026-03-28T00:00", "c"),
            // The night has an hour less.
            ("2026-03-29T10:00", "d"),
            ("2026-03-30T00:00", "e"),
        ];
        log(&folder.path().join("zeo.log"), &rotation, &lines);
        let right =
            ["zeo.log: e/", "zeo.log.2026-03-28: c/", "zeo.log.2026-03-29: d/", "zeo.log.2026-03-backup: another's"];
        assert_eq!(names(folder.path()), right);
    }

    #[test]
    fn no_file_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("zeo.log.2026-11-30_10"), "of a run before\n").unwrap();
        let rotation = Rotation { turn: Turn::Every(1, Period::Hour), old_files: 5 };
        log(&folder.path().join("zeo.log"), &rotation, &[("2026-11-30T10:30", "a"), ("2026-11-30T11:30", "b")]);
        let right = ["zeo.log: b/", "zeo.log.2026-11-30_10: of a run before/", "zeo.log.2026-11-30_10.1: a/"];
        assert_eq!(names(folder.path()), right);
    }

    #[test]
    fn periods_end_as_python_s_do() {
        let end_of = |from, count, period| end(&at(from), count, period).to_zoned(at(from).time_zone().clone());
        // A Monday.
        let monday = "2026-11-30T10:30:15";
        for (count, period, right) in [
            (5, Period::Second, "2026-11-30T10:30:20"),
            (2, Period::Minute, "2026-11-30T10:32:15"),
            (1, Period::Hour, "2026-11-30T11:30:15"),
            (1, Period::Day, "2026-12-01T10:30:15"),
            (1, Period::Midnight, "2026-12-01T00:00"),
            (1, Period::Week(0), "2026-12-01T00:00"),
            (1, Period::Week(2), "2026-12-03T00:00"),
            (1, Period::Week(6), "2026-12-07T00:00"),
            (2, Period::Week(6), "2026-12-14T00:00"),
        ] {
            assert_eq!(end_of(monday, count, period), at(right), "{count} {period:?}");
        }
        assert_eq!(end_of("2026-12-01T10:00", 1, Period::Week(0)), at("2026-12-08T00:00"));
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_stays() {
        let folder = tempfile::tempdir().unwrap();
        // A folder stands where the old file would go.
        std::fs::create_dir_all(folder.path().join("zeo.log.1/full")).unwrap();
        let path = folder.path().join("zeo.log");
        std::fs::write(&path, "1\n2\n3\n").unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        let now = at("2026-11-30T10:00");
        let rotation = Rotation { turn: Turn::Size(8), old_files: 1 };
        let mut rotating = Rotating::new(&path, &rotation, &file, &now);
        assert!(rotating.is_due(&file, 2, &now));
        assert!(rotating.turn(&now).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n");
        assert!(!rotating.is_due(&file, 2, &now), "the next attempt is so many bytes later");
    }
}
