//! Runs each scenario under shuttle: see the crate's documentation.
//!
//! Half of the schedules are drawn evenly. In the others threads have priorities that change a few times, which finds
//! mistakes that need one long delay.
//!
//! | variable | meaning |
//! |---|---|
//! | `VELLUM_SCHEDULES` | schedules of each scenario; 2,000 unless it is set |
//! | `VELLUM_SEED` | the seed of the first schedule; 1 unless it is set |
//! | `VELLUM_REPLAY` | a schedule, as a failed run printed it: only this one is run |

use std::env;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};
use vellum_shuttle_tests::scenarios::{SCENARIOS, Scenario, Size};

const SCHEDULES: &str = "VELLUM_SCHEDULES";
const SEED: &str = "VELLUM_SEED";
const REPLAY: &str = "VELLUM_REPLAY";
/// Makes a process run a scenario that fails in some schedules only.
const CHILD: &str = "VELLUM_SHUTTLE_TEST";
/// Threads that change their priorities, in a schedule.
const CHANGES: usize = 4;

/// Readers and rounds of each test: 4 to 8 threads in all.
const SIZES: [Size; 2] = [Size { readers: 3, rounds: 4 }, Size { readers: 5, rounds: 2 }];

/// The tests that were run.
static COMPLETE: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    if env::var_os(CHILD).is_some() {
        explore(fails_sometimes, SIZES[0], 1_000);
        return ExitCode::SUCCESS;
    }
    let schedules = number(SCHEDULES).unwrap_or(2_000);
    let mut tests = Vec::new();
    for (name, scenario) in SCENARIOS {
        for size in SIZES {
            let name = format!("{name}::{}_readers_{}_rounds", size.readers, size.rounds);
            let test = name.clone();
            tests.push(Trial::test(name, move || {
                let (started, count) = (Instant::now(), schedules as usize / SIZES.len());
                explore(*scenario, size, count);
                let seconds = started.elapsed().as_secs_f64();
                let mut complete = COMPLETE.lock().unwrap_or_else(|e| e.into_inner());
                complete.push(format!("{count:>9} schedules in {seconds:>5.1} s: {test}"));
                Ok(())
            }));
        }
    }
    tests.push(Trial::test("a_failing_schedule::is_replayed", failing_schedules_are_replayed));
    let conclusion = libtest_mimic::run(&Arguments::from_args(), tests);
    // Here, so that the lines of the tests stay whole.
    for line in COMPLETE.lock().unwrap_or_else(|e| e.into_inner()).iter() {
        println!("{line}");
    }
    conclusion.exit_code()
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{variable} is {text}: {e}")))
}

/// Runs so many schedules, or the one that is to be replayed. A schedule that fails panics.
fn explore(scenario: Scenario, size: Size, schedules: usize) {
    if let Ok(schedule) = env::var(REPLAY) {
        return shuttle::replay(move || scenario(size), &schedule);
    }
    let seed = number(SEED).unwrap_or(1);
    let even = schedules.div_ceil(2);
    let random = Runner::new(RandomScheduler::new_from_seed(seed, even), Config::new());
    assert_eq!(random.run(move || scenario(size)), even, "schedules are missing");
    let changing = PctScheduler::new_from_seed(seed, CHANGES, schedules - even);
    assert_eq!(Runner::new(changing, Config::new()).run(move || scenario(size)), schedules - even);
}

/// A counter that is read and written in two steps.
fn fails_sometimes(size: Size) {
    use vellum_shuttle_tests::sync::{Arc, Mutex, thread};
    let count = Arc::new(Mutex::new(0));
    let add = |count: Arc<Mutex<usize>>| {
        let seen = *count.lock();
        *count.lock() = seen + 1;
    };
    let threads: Vec<_> = (0..size.readers)
        .map(|_| {
            let count = Arc::clone(&count);
            thread::spawn(move || add(count))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread panicked"));
    let lost = size.readers - *count.lock();
    assert!(lost == 0, "{lost} lost");
}

/// Runs the failing scenario in a process of its own; its last words, and the schedule if it printed one.
fn child(replay: Option<&str>) -> Result<(String, Option<String>), Failed> {
    let mut command = Command::new(env::current_exe()?);
    command.env(CHILD, "1").env_remove(REPLAY);
    if let Some(schedule) = replay {
        command.env(REPLAY, schedule);
    }
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Err("a scenario that fails passes".into());
    }
    let lost = text.lines().find(|line| line.ends_with(" lost")).unwrap_or_default().to_owned();
    let mut lines = text.lines().skip_while(|line| *line != "failing schedule:");
    let schedule = lines.nth(2).map(str::to_owned);
    Ok((lost, schedule))
}

fn failing_schedules_are_replayed() -> Result<(), Failed> {
    let (lost, schedule) = child(None)?;
    let schedule = schedule.ok_or("no schedule was printed")?;
    let (again, _) = child(Some(&schedule))?;
    if lost.is_empty() || lost != again {
        return Err(format!("{lost:?}, and {again:?} when {schedule:?} is replayed").into());
    }
    Ok(())
}
