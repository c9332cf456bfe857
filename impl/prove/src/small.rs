//! `vellum-prove --exhaustive`: every history of the small worlds.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;
use vellum_harness::coverage::{Corner, Coverage};
use vellum_harness::small::{Bound, CUT_WORLDS, Report, Search, WORLDS};
use vellum_harness::subject::{Can, Limited, Subject};
use vellum_terminal::people::count;
use vellum_terminal::{Failure, Meter, Out, Outcome, Run};

use crate::{Adapter, JsonFound, Prove};

/// How large the small worlds are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Some seconds
    Seconds,
    /// Some minutes
    Minutes,
    /// A night
    Night,
}

#[derive(Serialize)]
struct Answer<'a> {
    storage: &'a str,
    worlds: Vec<JsonWorld>,
    corners_reached: usize,
    found: Vec<JsonFound>,
}

#[derive(Serialize)]
struct JsonWorld {
    world: String,
    bound: String,
    states: u64,
    tests: u64,
    steps_max: usize,
    crashes: u64,
    seconds: f64,
}

/// The worlds to explore, by name.
fn worlds(prove: &Prove) -> Vec<(&'static str, Bound)> {
    match (prove.bound, prove.exhaustive) {
        (Some(bound), _) => vec![("as given", bound)],
        (None, size) => {
            let n = size.map_or(1, |size| size as usize);
            let worlds = if prove.crashes { CUT_WORLDS } else { WORLDS };
            worlds.iter().map(|world| (world.name, world.bounds[n])).collect()
        }
    }
}

/// Explores each world, and stops at the first difference.
pub fn run(prove: &Prove, out: &mut Out) -> Run {
    let adapter = Adapter::new(prove)?;
    let without = prove.without.iter().try_fold(Can::default(), |can, word| can.with(word));
    let without = without.map_err(Failure::Message)?;
    let make =
        || -> Result<Box<dyn Subject>, String> { Ok(Box::new(Limited { subject: adapter.subject(prove)?, without })) };
    let tried = if prove.crashes { Some(prove.on_disk()?) } else { None };
    let jobs = prove.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let name = make().map_err(Failure::Message)?.name();
    let can = make().map_err(Failure::Message)?.can();
    let mut answer = Answer { storage: &name, worlds: Vec::new(), corners_reached: 0, found: Vec::new() };
    let mut coverage = Coverage::default();
    if !prove.json {
        writeln!(
            out,
            "{name}\n{:<19} {:>9} {:>9} {:>6} {:>9} {:>7}",
            "world", "states", "tests", "steps", "crashes", "s"
        )?;
    }
    let (mut tests, mut seconds) = (0, 0.0);
    for (world, bound) in worlds(prove) {
        let meter = Meter::new("exploring");
        let search = Search { bound, jobs };
        let report = search.run(&make, tried.as_ref(), &mut |states, tests| meter.update(states, tests));
        let report = report.map_err(Failure::Message)?;
        drop(meter);
        coverage.add(&report.coverage);
        let row = row(world, bound, &report);
        if !prove.json {
            let JsonWorld { states, tests, steps_max, crashes, seconds, .. } = &row;
            let [states, tests, crashes] = [*states, *tests, *crashes].map(count);
            writeln!(out, "{world:<19} {states:>9} {tests:>9} {steps_max:>6} {crashes:>9} {seconds:>7.1}")?;
        }
        (tests, seconds) = (tests + report.tests + row.crashes, seconds + row.seconds);
        answer.worlds.push(row);
        if let Some((case, difference)) = report.found {
            if !prove.json {
                writeln!(out, "\nA difference, in test {case} of {world} ({bound}):\n\n{difference}")?;
            }
            let kind = vellum_harness::campaign::kind(&difference);
            answer.found.push(JsonFound { case, times: 1, kind, script: difference.to_string() });
            break;
        }
    }
    let reachable = Corner::ALL.iter().filter(|corner| can.covers(corner.needs())).count();
    answer.corners_reached = reachable - coverage.missing(can).len();
    if prove.json {
        out.json(&answer)?;
    } else {
        let reached = answer.corners_reached;
        writeln!(
            out,
            "{} tests in {:.1} minutes; {reached} of {reachable} corners reached",
            count(tests),
            seconds / 60.0
        )?;
    }
    Ok(if answer.found.is_empty() { Outcome::Fine } else { Outcome::Problems })
}

fn row(world: &str, bound: Bound, report: &Report) -> JsonWorld {
    JsonWorld {
        world: world.to_owned(),
        bound: bound.to_string(),
        states: report.states,
        tests: report.tests,
        steps_max: report.steps_max,
        crashes: report.crashes.crashes,
        seconds: report.elapsed.as_secs_f64(),
    }
}
