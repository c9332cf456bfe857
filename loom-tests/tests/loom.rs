//! Runs each scenario under loom, in a process of its own: see the crate's documentation.

use std::env;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use vellum_loom_tests::scenarios::{SCENARIOS, Scenario, Size};

/// Names the test that a process is to run.
const CHILD: &str = "VELLUM_LOOM_TEST";
/// The line of a process in which loom has nothing more to try.
const COMPLETED: &str = "completed, executions: ";
/// Shared operations of one execution. More is a failure, and not the end of a run.
const OPERATIONS_MAX: usize = 20_000;

/// A test: a scenario, the threads that it has beside the one that begins, and the bound.
#[derive(Clone, Copy)]
struct Case {
    scenario: &'static str,
    readers: usize,
    threads: usize,
    /// Preemptions of an execution; none is every interleaving.
    bound: Option<usize>,
}

impl Case {
    fn name(&self) -> String {
        let bound = self.bound.map_or("without_a_bound".to_owned(), |bound| format!("bound_{bound}"));
        format!("{}::{}_threads_{bound}", self.scenario, self.threads)
    }

    fn scenario(&self) -> Scenario {
        let found = SCENARIOS.iter().find(|(name, _)| *name == self.scenario);
        found.unwrap_or_else(|| panic!("there is no scenario {}", self.scenario)).1
    }
}

const fn case(scenario: &'static str, readers: usize, threads: usize, bound: Option<usize>) -> Case {
    Case { scenario, readers, threads, bound }
}

const CASES: &[Case] = &[
    case("loads_and_an_invalidation", 1, 2, None),
    case("loads_and_an_invalidation", 2, 3, Some(3)),
    case("a_transaction_of_two_objects", 1, 2, None),
    case("a_transaction_of_two_objects", 2, 3, Some(3)),
    case("an_answer_around_an_invalidation", 1, 2, None),
    case("an_answer_around_an_invalidation", 2, 3, Some(3)),
    case("an_eviction_during_a_read", 1, 2, None),
    case("an_eviction_during_a_read", 2, 3, Some(3)),
    case("a_move_around_an_invalidation", 0, 2, None),
    case("a_move_around_an_invalidation", 1, 3, Some(3)),
    case("a_verification_while_readers_go_on", 1, 2, None),
    case("a_verification_while_readers_go_on", 2, 3, Some(3)),
    case("an_answer_around_a_verification", 0, 2, None),
    case("an_answer_around_a_verification", 1, 3, Some(3)),
    case("a_group_around_an_invalidation", 0, 2, None),
    case("a_group_around_an_invalidation", 1, 3, Some(3)),
    case("a_store_and_a_first_read", 1, 2, None),
    case("a_store_and_a_first_read", 2, 3, Some(3)),
    case("a_rollback_while_readers_go_on", 1, 2, None),
    case("a_rollback_while_readers_go_on", 2, 3, Some(3)),
    case("a_copy_into_memory_around_an_invalidation", 1, 2, None),
    case("a_copy_into_memory_around_an_invalidation", 2, 3, Some(3)),
    case("a_copy_into_memory_around_a_verification", 1, 2, None),
    case("a_copy_into_memory_around_a_verification", 2, 3, Some(3)),
    case("changed_objects_leave_while_readers_go_on", 0, 2, None),
    case("changed_objects_leave_while_readers_go_on", 1, 3, Some(3)),
    case("close_during_everything", 0, 3, Some(3)),
    case("close_during_everything", 1, 4, Some(2)),
];

/// The tests that were run to their ends.
static COMPLETE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A model that fails, so that it is seen that failing models fail.
const FAILS: &str = "a_model_that_fails::is_noticed";

fn main() -> ExitCode {
    if let Ok(name) = env::var(CHILD) {
        run(&name);
        return ExitCode::SUCCESS;
    }
    let mut tests: Vec<Trial> = CASES.iter().map(|case| Trial::test(case.name(), || passes(*case))).collect();
    for (scenario, _) in SCENARIOS {
        assert!(CASES.iter().any(|case| case.scenario == *scenario), "no test has the scenario {scenario}");
    }
    tests.push(Trial::test(FAILS, failing_models_fail));
    let conclusion = libtest_mimic::run(&Arguments::from_args(), tests);
    // Here, so that the lines of the tests stay whole.
    for line in COMPLETE.lock().unwrap_or_else(|e| e.into_inner()).iter() {
        println!("{line}");
    }
    conclusion.exit_code()
}

/// Runs a test in this process.
fn run(name: &str) {
    let executions = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&executions);
    if name == FAILS {
        return model(Some(1)).check(|| panic!("a lost invalidation"));
    }
    let case = CASES.iter().find(|case| case.name() == name).expect("a test has this name");
    let (scenario, size) = (case.scenario(), Size { readers: case.readers, rounds: 1 });
    model(case.bound).check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        scenario(size);
    });
    println!("{COMPLETED}{}", executions.load(Ordering::Relaxed));
}

/// loom, with this bound and no other limit, whatever the environment says.
fn model(bound: Option<usize>) -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = OPERATIONS_MAX;
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    builder
}

/// Runs a test in a process of its own; its output, and whether it succeeded.
fn child(name: &str) -> Result<(bool, String), Failed> {
    let mut command = Command::new(env::current_exe()?);
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("LOOM_") {
            command.env_remove(variable);
        }
    }
    let output = command.env(CHILD, name).output()?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.success(), text))
}

/// A run passes if it says that it was completed, and that there was more than one order of things.
fn passes(case: Case) -> Result<(), Failed> {
    let (name, started) = (case.name(), Instant::now());
    let (is_ok, text) = child(&name)?;
    let executions = text.lines().find_map(|line| line.strip_prefix(COMPLETED)?.parse::<u64>().ok());
    match executions.filter(|_| is_ok) {
        Some(executions) if executions > 1 => {
            let seconds = started.elapsed().as_secs_f64();
            let mut completed = COMPLETE.lock().unwrap_or_else(|e| e.into_inner());
            completed.push(format!("{executions:>9} executions in {seconds:>5.1} s: {name}"));
            Ok(())
        }
        Some(_) => Err("there was only one execution".into()),
        None => Err(reason(&text).into()),
    }
}

/// The message of a failed model: the first panic, and not that of a process that ends while it panics.
fn reason(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at"));
    let place = lines.next().unwrap_or("it ended without a word");
    format!("{}\n{place}", lines.next().unwrap_or_default())
}

fn failing_models_fail() -> Result<(), Failed> {
    let (is_ok, text) = child(FAILS)?;
    if is_ok || !reason(&text).starts_with("a lost invalidation") {
        return Err(format!("a failing model passes: {text}").into());
    }
    Ok(())
}
