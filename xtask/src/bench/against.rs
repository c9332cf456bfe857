//! `cargo xtask bench --against PROGRAM`: two builds of the engine on the same file, taking turns.
//!
//! ```text
//!   for each row:    before  after │ after  before │ before  after │ ...      a process for each measurement
//! ```
//!
//! Each process measures its row once, so the best and the median of each build are taken over the same time, and a
//! slow moment of the machine hits both. The order changes from round to round, because the first of two processes
//! finds another page cache than the second.
//!
//! The processes work in a target folder of their own. It has a link to the mail database, so that no build makes it
//! again, and a script instead of ZODB's Python, which answers at once: ZODB is the same for both builds.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Row, table};
use crate::{Outcome, venv};

/// A row may take this many times as long as before.
const RATIO_MAX: f64 = 1.03;
/// So often a row that seems slower is measured for as many rounds again.
const MORE_MAX: usize = 2;

/// Stands in for the Python that has ZODB.
const NO_ZODB: &str = "#!/bin/sh\necho '{\"seconds\": 0.0}'\n";

/// The xtask binaries of two builds.
pub struct Builds {
    pub before: PathBuf,
    pub after: PathBuf,
}

/// The target folder that the processes of both builds work in.
pub struct Ground {
    folder: PathBuf,
    messages: u64,
}

impl Ground {
    /// Prepares the folder: the database, and the script instead of ZODB.
    pub fn new(folder: &Path, database: &Path, messages: u64) -> std::io::Result<Ground> {
        let (bench, venv) = (folder.join("bench"), folder.join("peer/venv"));
        fs::create_dir_all(&bench)?;
        // A build may have set up its own here, in which the Python is a link to the machine's: it must not be written
        // through.
        if venv.exists() {
            fs::remove_dir_all(&venv)?;
        }
        fs::create_dir_all(venv.join("bin"))?;
        let link = bench.join(database.file_name().unwrap_or_default());
        let _ = fs::remove_file(&link);
        fs::hard_link(database, &link)?;
        // With this mark a build believes that the Python is the one that it would set up.
        fs::copy(venv::script("requirements.txt"), venv.join("installed.txt"))?;
        let ground = Ground { folder: folder.to_owned(), messages };
        fs::write(ground.python(), NO_ZODB)?;
        fs::set_permissions(ground.python(), fs::Permissions::from_mode(0o755))?;
        Ok(ground)
    }

    fn python(&self) -> PathBuf {
        self.folder.join("peer/venv/bin/python")
    }

    /// Has a build measure a row once, in a process of its own.
    fn measure(&self, program: &Path, row: Row) -> Result<Duration, Box<dyn std::error::Error>> {
        let mut command = Command::new(program);
        command.args(["bench", "--exact", "--rounds", "1", "--messages", &self.messages.to_string()]);
        command.args(["--only", &row.name()]).env("CARGO_TARGET_DIR", &self.folder);
        let output = command.output().map_err(|e| format!("{}: {e}", program.display()))?;
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        if fs::read(self.python()).ok().as_deref() != Some(NO_ZODB.as_bytes()) {
            return Err(format!("{} wants another ZODB than this build, and has set it up", program.display()).into());
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        Ok(table::time_of_only_row(&printed).ok_or(format!("{} prints no row {}", program.display(), row.name()))?)
    }
}

/// The times of one row, of both builds.
#[derive(Default)]
struct Times {
    before: Vec<Duration>,
    after: Vec<Duration>,
}

impl Times {
    fn best(times: &[Duration]) -> Duration {
        times.iter().min().copied().unwrap_or_default()
    }

    fn median(times: &[Duration]) -> Duration {
        let mut times = times.to_vec();
        times.sort_unstable();
        let upper = times.len() / 2;
        match times.len() {
            0 => Duration::ZERO,
            even if even % 2 == 0 => (times[upper - 1] + times[upper]) / 2,
            _ => times[upper],
        }
    }

    /// How many times as long as before it takes, by a figure of all rounds.
    fn ratio(&self, figure: fn(&[Duration]) -> Duration) -> f64 {
        figure(&self.after).as_secs_f64() / figure(&self.before).as_secs_f64()
    }

    /// Whether the best round and the median round are both slower than they may be. Noise seldom slows down both.
    fn is_slower(&self) -> bool {
        self.ratio(Times::best) > RATIO_MAX && self.ratio(Times::median) > RATIO_MAX
    }

    fn line(&self, row: Row) -> String {
        let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
        let mut line = format!("{:<16}{:>7}", row.name(), self.before.len());
        for figure in [Times::best, Times::median] {
            let [before, after] = [&self.before, &self.after].map(|times| ms(figure(times)));
            line.push_str(&format!(" {before:>10} {after:>10} {:>6.2}", self.ratio(figure)));
        }
        if self.is_slower() {
            line.push_str("  SLOWER");
        }
        line
    }
}

/// Measures the rows with both builds, and prints them. Fails if one is slower than it may be.
pub fn compare(ground: &Ground, builds: &Builds, rows: &[Row], rounds: usize) -> Outcome {
    println!("before: {}\nafter:  {}\n", builds.before.display(), builds.after.display());
    println!("{:<16}{:>7} {:>28} {:>28}", "", "", "best, ms", "median, ms");
    let columns = format!(" {:>10} {:>10} {:>6}", "before", "after", "ratio").repeat(2);
    println!("{:<16}{:>7}{columns}", "row", "rounds");
    let mut slower = Vec::new();
    // The memory of a pack is no time.
    for row in rows.iter().copied().filter(|row| !matches!(row, Row::PackMemory | Row::ObjectMemory)) {
        let times = measure(ground, builds, row, rounds)?;
        println!("{}", times.line(row));
        std::io::stdout().flush()?;
        if times.is_slower() {
            slower.push(row.name());
        }
    }
    let percent = (RATIO_MAX - 1.0) * 100.0;
    if slower.is_empty() {
        println!("\nno row is more than {percent:.0} % slower than before, by its best round and by its median round");
        return Ok(());
    }
    Err(format!("more than {percent:.0} % slower than before: {}", slower.join(", ")).into())
}

/// Measures one row with both builds in turn.
fn measure(ground: &Ground, builds: &Builds, row: Row, rounds: usize) -> Result<Times, Box<dyn std::error::Error>> {
    let mut times = Times::default();
    for _ in 0..=MORE_MAX {
        for round in 0..rounds {
            let before = || ground.measure(&builds.before, row);
            let after = || ground.measure(&builds.after, row);
            let (old, new) = if round % 2 == 0 {
                let old = before()?;
                (old, after()?)
            } else {
                let new = after()?;
                (before()?, new)
            };
            times.before.push(old);
            times.after.push(new);
        }
        if !times.is_slower() {
            break;
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that notes its name and its arguments, and prints a table with one row.
    ///
    /// A shell writes it. If this process did, a child that another test starts at that moment would have the file open
    /// for writing too, and the system starts no program that is open for writing.
    fn program(folder: &Path, name: &str, ms: f64) -> PathBuf {
        let path = folder.join(name);
        let head = format!("{:<44} {:>10}   bare limit", "", "vellum");
        let row = format!("{:<44} {ms:>7.1} ms", "a row");
        let script = format!(
            "#!/bin/sh\necho {name} $* >> {}\ncat <<'END'\n{head}\n{row}\n\nindex: 3 bytes\nEND\n",
            folder.join("log").display()
        );
        let written = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let status = Command::new("sh").args(["-c", written]).arg(&path).arg(script).status().unwrap();
        assert!(status.success());
        path
    }

    #[test]
    fn the_python_that_a_build_has_set_up_is_not_written_through_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let (database, machines) = (folder.path().join("mail-9.fs"), folder.path().join("python3"));
        fs::write(&database, "mail").unwrap();
        fs::write(&machines, "the machine's").unwrap();
        let bin = folder.path().join("ground/peer/venv/bin");
        fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink(&machines, bin.join("python")).unwrap();
        let ground = Ground::new(&folder.path().join("ground"), &database, 9).unwrap();
        assert_eq!(fs::read_to_string(&machines).unwrap(), "the machine's");
        assert_eq!(fs::read_to_string(ground.python()).unwrap(), NO_ZODB);
    }

    fn played(before: f64, after: f64) -> (Outcome, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("mail-9.fs");
        fs::write(&database, "mail").unwrap();
        let ground = Ground::new(&folder.path().join("ground"), &database, 9).unwrap();
        assert_eq!(fs::read(folder.path().join("ground/bench/mail-9.fs")).unwrap(), b"mail");
        let before = program(folder.path(), "old", before);
        let after = program(folder.path(), "new", after);
        let outcome = compare(&ground, &Builds { before, after }, &[Row::Load, Row::PackMemory], 2);
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        (outcome, log.lines().map(str::to_owned).collect())
    }

    #[test]
    fn the_builds_take_turns_and_change_their_order() {
        let (outcome, log) = played(100.0, 102.9);
        outcome.unwrap();
        let arguments = "bench --exact --rounds 1 --messages 9 --only load";
        assert_eq!(log, ["old", "new", "new", "old"].map(|name| format!("{name} {arguments}")));
    }

    #[test]
    fn a_slower_row_is_measured_again_and_then_fails() {
        let (outcome, log) = played(100.0, 103.1);
        assert_eq!(outcome.unwrap_err().to_string(), "more than 3 % slower than before: load");
        assert_eq!(log.len(), 2 * 2 * (1 + MORE_MAX));
    }

    #[test]
    fn noise_in_the_best_or_in_the_median_alone_is_no_slower_row() {
        let ms = |times: [u64; 3]| times.map(Duration::from_millis).to_vec();
        let times = |before, after| Times { before: ms(before), after: ms(after) };
        assert!(!times([100, 120, 120], [110, 120, 120]).is_slower());
        assert!(!times([100, 110, 120], [100, 120, 130]).is_slower());
        let both = times([120, 100, 110], [115, 130, 110]);
        assert!(both.is_slower());
        let line = "load                  3     100.00     110.00   1.10     110.00     115.00   1.05  SLOWER";
        assert_eq!(both.line(Row::Load), line);
    }
}
