//! `vellum-explore`: every order of events, on the machines that ship.
//!
//! It is a command of its own, as `vellum-prove` is, so that the operator's `vellum` does not need the specification.
#![forbid(unsafe_code)]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use stateright::Model;
use vellum_explore::{DEEP, Outcome, SITUATIONS, Seen, Situation, World, explore, nobody_waits, transcript};
use vellum_terminal::people::{count, size};
use vellum_terminal::{Failure, Out, Run, output};

/// Explore every order of messages, failures and reconnections of clients and a server
#[derive(Parser)]
#[command(name = "vellum-explore", version)]
#[command(after_help = "\
Examples:
  vellum-explore                         lists the situations
  vellum-explore crossing                opens one in the browser
  vellum-explore --check                 goes through all that the tests have
  vellum-explore --check --deep          goes through the large ones
  vellum-explore locks --check --waits   also looks for endless waiting
  vellum-explore --replay found.path     tells a saved path as a story

A situation is a server, a few clients and what they do, and how often
something may fail. Without --check it is shown step by step in the browser:
each state, and all that may happen next.

With --check all states are visited, and each is held to the rules. If one is
broken, the shortest way to it is told as a story; --save keeps it as a file
that --replay reads. A run that --steps cuts short is reported as cut short:
it says nothing of what it did not see. docs/exploring.md has the details.

The exit code is 0 if all rules hold, 1 if one is broken, 2 if something
else failed, 3 if the run was cut short.")]
struct Explore {
    /// Situations; without --check only one
    situations: Vec<String>,
    /// Visit all states, and hold each to the rules
    #[arg(long)]
    check: bool,
    /// The large situations, which take minutes to hours
    #[arg(long)]
    deep: bool,
    /// Clients with the core of the cache that ships, in place of the simple cache
    #[arg(long)]
    core: bool,
    /// Also search the graph of all states for those who wait for ever; this takes more memory
    #[arg(long, requires = "check")]
    waits: bool,
    /// Tell the lie of the situation's self-test, which must be found
    #[arg(long)]
    lie: bool,
    /// End after so many steps; the result is then "cut short"
    #[arg(long, value_name = "N", requires = "check")]
    steps: Option<u64>,
    /// Threads (default: the number of cores)
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// A file for the path on which a rule is broken
    #[arg(long, value_name = "FILE", requires = "check")]
    save: Option<PathBuf>,
    /// Tell a saved path as a story
    #[arg(long, value_name = "FILE", conflicts_with_all = ["situations", "check", "deep"])]
    replay: Option<PathBuf>,
    /// Where the browser finds the explorer. It has no password: anybody who reaches the address can use it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3100")]
    address: String,
}

/// The exit code of a run that was cut short.
const CUT: u8 = 3;

fn main() -> ExitCode {
    let arguments = Explore::parse();
    let mut is_cut = false;
    let code = output::run("vellum-explore", |out| arguments.run(out, &mut is_cut));
    if is_cut { ExitCode::from(CUT) } else { code }
}

fn find(name: &str) -> Run<&'static Situation> {
    let known = || SITUATIONS.iter().chain(DEEP);
    let names = || known().map(|situation| situation.name).collect::<Vec<_>>().join(", ");
    known()
        .find(|situation| situation.name == name)
        .ok_or_else(|| Failure::Message(format!("there is no situation `{name}`. There are: {}", names())))
}

impl Explore {
    fn run(&self, out: &mut Out, is_cut: &mut bool) -> Run<vellum_terminal::Outcome> {
        if let Some(file) = &self.replay {
            return self.replay(out, file);
        }
        let named = self.situations.iter().map(|name| find(name)).collect::<Run<Vec<_>>>()?;
        if !self.check {
            return match named.as_slice() {
                [] => list(out),
                [situation] => self.open(out, situation),
                _ => Err(Failure::Message("the browser shows one situation at a time".to_owned())),
            };
        }
        let all = if self.deep { DEEP } else { SITUATIONS };
        let chosen = if named.is_empty() { all.iter().collect() } else { named };
        let mut holds = true;
        for situation in chosen {
            holds &= self.check(out, situation, is_cut)?;
        }
        Ok(if holds { vellum_terminal::Outcome::Fine } else { vellum_terminal::Outcome::Problems })
    }

    fn world(&self, situation: &Situation) -> World {
        let situation = situation.clone();
        let world = World::new(if self.core { situation.over_core() } else { situation });
        let world = if self.lie { world.lying() } else { world };
        match self.steps {
            Some(steps) => world.at_most(steps),
            None => world,
        }
    }

    fn check(&self, out: &mut Out, situation: &Situation, is_cut: &mut bool) -> Run<bool> {
        let world = self.world(situation);
        let threads = self.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
        writeln!(out, "{}: {}", situation.name, situation.about)?;
        out.flush()?;
        let run = explore(&world, threads);
        let seconds = run.time.as_secs_f64();
        let steps = format!("{} steps in {seconds:.1} s, {} of memory at most", count(run.steps), size(memory_max()));
        match &run.outcome {
            Outcome::Holds { states, unseen } => {
                writeln!(out, "  all rules hold in {} states; {steps}", count(*states as u64))?;
                for seen in unseen {
                    writeln!(out, "  NOT SEEN: {}", seen.name())?;
                }
                for seen in Seen::ALL.into_iter().filter(|seen| world.times_seen(*seen) > 0) {
                    writeln!(out, "  {:>12} times {}", count(world.times_seen(seen)), seen.name())?;
                }
                let waits = !self.waits || self.look_for_waiting(out, situation, &world)?;
                return Ok(unseen.is_empty() && waits);
            }
            Outcome::Cut { states } => {
                *is_cut = true;
                writeln!(out, "  CUT SHORT: nothing was found in {} states; {steps}", count(*states as u64))?;
                return Ok(true);
            }
            Outcome::Broken(failure) => {
                writeln!(out, "  BROKEN after {} steps: {}", failure.path.len(), failure.rule)?;
                self.show(out, &world, &failure.path)?;
            }
        }
        Ok(false)
    }

    fn look_for_waiting(&self, out: &mut Out, situation: &Situation, world: &World) -> Run<bool> {
        let begins = Instant::now();
        match nobody_waits(&self.world(situation)) {
            Ok(_) => {
                writeln!(out, "  nobody waits for ever; {:.1} s", begins.elapsed().as_secs_f64())?;
                Ok(true)
            }
            Err(failure) => {
                writeln!(out, "  BROKEN after {} steps: {}", failure.path.len(), failure.rule)?;
                self.show(out, world, &failure.path)?;
                Ok(false)
            }
        }
    }

    fn show(&self, out: &mut Out, world: &World, path: &[vellum_explore::Action]) -> Run<()> {
        writeln!(out, "\n{}", transcript::transcript(world, path))?;
        if let Some(file) = &self.save {
            std::fs::write(file, transcript::save(world, path))
                .map_err(|error| Failure::Message(format!("{} cannot be written: {error}", file.display())))?;
        }
        Ok(())
    }

    fn replay(&self, out: &mut Out, file: &Path) -> Run<vellum_terminal::Outcome> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::Message(format!("{} cannot be read: {error}", file.display())))?;
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let situation = find(lines.next().unwrap_or_default().trim())?;
        let world = self.world(situation);
        let (path, state) = transcript::replay(&world, &lines.collect::<Vec<_>>()).map_err(Failure::Message)?;
        writeln!(out, "{}", transcript::transcript(&world, &path))?;
        Ok(match state.broken {
            Some(_) => vellum_terminal::Outcome::Problems,
            None => vellum_terminal::Outcome::Fine,
        })
    }

    /// Opens stateright's explorer. It ends with the process.
    fn open(&self, out: &mut Out, situation: &Situation) -> Run<vellum_terminal::Outcome> {
        // The explorer panics where it cannot listen.
        drop(
            TcpListener::bind(self.address.as_str())
                .map_err(|error| Failure::Message(format!("{} cannot be listened at: {error}", self.address)))?,
        );
        // Files of a folder `ui` of the current directory would be served in place of the explorer's own.
        let folder = std::env::temp_dir();
        std::env::set_current_dir(&folder)
            .map_err(|error| Failure::Message(format!("{} cannot be entered: {error}", folder.display())))?;
        writeln!(out, "{}: {}", situation.name, situation.about)?;
        writeln!(out, "http://{}/ shows it. Ctrl-C ends it.", self.address)?;
        out.flush()?;
        self.world(situation).checker().serve(self.address.as_str());
        Ok(vellum_terminal::Outcome::Fine)
    }
}

fn list(out: &mut Out) -> Run<vellum_terminal::Outcome> {
    for situation in SITUATIONS.iter().chain(DEEP) {
        writeln!(out, "{:<18} {}", situation.name, situation.about)?;
    }
    Ok(vellum_terminal::Outcome::Fine)
}

/// The most memory that this process had, in bytes; 0 where the system does not tell.
fn memory_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
