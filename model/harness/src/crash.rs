//! The power goes at every operation of the disk, and the database after it must be one that the rules allow.
//!
//! The histories are the same as elsewhere. One is played whole, which tells how many operations of the disk it takes
//! and which step each belongs to; then it is played again and again, and each time the power goes in another
//! operation, of which nothing, a part or all is done. Unsynced writes are lost, kept or torn, as the simulated disk
//! draws it.
//!
//! ```text
//!   store a 1 @0: 5      store b 2 @0: 6       vote a      vote b      finish a                 finish b
//!                                                                      │  │  │  │ write, sync,  │  │  │  │
//!                                                                      │  │  │  │ mark, sync    │  │  │  │
//!   must be there:   nothing ─────────────────────────────────────────────────────▶ a ────────────────────▶ a, b
//!   may be there:    nothing ────────────────────────────────────────▶ a ─────────────────────▶ a, b
//! ```
//!
//! The allowed databases follow from the harness's own [`World`], never from the storage: the database before the step
//! in which the power went; and, if that step was a finish or a pack that had not returned, the database after it.
//! Nothing else, and nothing in between: *all* that can be asked is asked, and every answer must be the one database's,
//! or every answer the other's. The database that is found must
//!
//! - be found again when the power goes while the storage is being opened (and repaired);
//! - be seen by a read-only opening, which changes nothing;
//! - go on: some more random steps, each with everything compared; and be there after a crash at the end of that.
//!
//! A storage whose promise is weaker ([`Promise::Holes`]) may have anything in the records of the transaction that was
//! being finished, which can put them into another version, too; and must be right about everything else.
//!
//! Several finishes at the same time are left out: then the machine would choose the order of the operations, and no
//! case could be played again. Transactions may be voted side by side, but they are finished one by one.

mod holes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use vellum_disk::{SimDisk, Tear};
use vellum_storage::{Error, Storage};

use crate::coverage::Coverage;
use crate::dice::{Dice, Seed};
use crate::expected;
use crate::generate;
use crate::hosted::{Hosted, Opening};
use crate::question::{self, Answer, Question};
use crate::run::{Difference, Play};
use crate::step::{Change, Outcome, Step};
use crate::subject::{Can, Subject};
use crate::world::World;

use holes::Holes;

/// Opens a storage on this disk: the existing one, or a new, empty one.
pub type Opener = dyn Fn(&SimDisk, Opening) -> Result<Box<dyn Storage>, Error> + Send + Sync;

/// A storage's promise about the transaction that was being finished when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It is there wholly or not at all.
    Whole,
    /// It is there or not, and if it is, there may be anything in it.
    Holes,
}

/// A storage under trial.
#[derive(Clone)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// Its capabilities.
    pub can: Can,
    /// Its promise.
    pub promise: Promise,
    /// Opens it. It must do the same each time: the histories are played on one thread, and so must it work on one.
    pub opener: Arc<Opener>,
}

/// The cases to try.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of all of it.
    pub seed: u64,
    /// The first case's number.
    pub first: u64,
    /// How many histories.
    pub cases: u64,
    /// Steps of each.
    pub steps: usize,
    /// At most so many operations of a history are cut, drawn from all of them; each with every [`Tear`].
    pub cuts_max: usize,
    /// The number of steps that a database continues after a crash, if it does.
    pub go_on: usize,
}

/// Event counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Histories.
    pub histories: u64,
    /// Operations of the disk that they take.
    pub operations: u64,
    /// Times that the power went.
    pub cuts: u64,
    /// The databases after that, of several possibilities each time.
    pub crashes: u64,
    /// The transaction that was being finished was there.
    pub there: u64,
    /// It was not, and no byte of it was on the disk.
    pub not_there: u64,
    /// It was not, and a part of it was on the disk.
    pub torn: u64,
    /// It was there with holes in it, where the storage promises no better.
    pub holes: u64,
    /// A pack that was under way was done, and was not.
    pub packs: [u64; 2],
    /// The power went again while the storage was opened.
    pub opening_cut: u64,
    /// It was opened for reading only.
    pub read_only: u64,
    /// It was continued, and crashed again.
    pub went_on: u64,
}

impl Report {
    /// Adds what another run counted.
    pub fn add(&mut self, other: &Report) {
        self.histories += other.histories;
        self.operations += other.operations;
        self.cuts += other.cuts;
        self.crashes += other.crashes;
        self.there += other.there;
        self.not_there += other.not_there;
        self.torn += other.torn;
        self.holes += other.holes;
        self.packs.iter_mut().zip(other.packs).for_each(|(mine, theirs)| *mine += theirs);
        self.opening_cut += other.opening_cut;
        self.read_only += other.read_only;
        self.went_on += other.went_on;
    }

    /// The events that should happen in every long run, and never did in this one.
    pub fn never(&self, tried: &Tried) -> Vec<&'static str> {
        let can = tried.can;
        [
            (true, self.there, "the transaction under way was there"),
            (true, self.not_there, "the transaction under way was not there"),
            (true, self.torn, "a part of the transaction under way was on the disk"),
            (tried.promise == Promise::Holes, self.holes, "the transaction under way had holes in it"),
            (can.pack, self.packs[0], "the pack under way was done"),
            (can.pack, self.packs[1], "the pack under way was not done"),
            (true, self.opening_cut, "the power went while the storage was opened"),
            (can.read_only, self.read_only, "it was opened for reading only"),
            (true, self.went_on, "it went on"),
        ]
        .into_iter()
        .filter_map(|(needed, count, what)| (needed && count == 0).then_some(what))
        .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { histories, operations, cuts, crashes, there, not_there, torn, holes, packs, .. } = self;
        writeln!(f, "{histories} histories of {operations} operations of the disk, {cuts} cuts, {crashes} crashes")?;
        writeln!(
            f,
            "the transaction under way: there {there}, not there {not_there}, torn {torn}, with holes {holes}"
        )?;
        writeln!(f, "the pack under way: done {}, not done {}", packs[0], packs[1])?;
        let Report { opening_cut, read_only, went_on, .. } = self;
        write!(f, "the opening was cut {opening_cut}, read-only {read_only}, went on {went_on}")
    }
}

/// The database after a crash is not one that the rules allow.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run's seed.
    pub seed: u64,
    /// The case.
    pub case: u64,
    /// The steps, up to the one in which the power went.
    pub steps: Vec<Step>,
    /// The moment of the crash and the state after it, in words.
    pub crash: String,
    /// The difference; its steps are those after the crash.
    pub difference: Difference,
    /// The operations of the disk.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# case {} of seed {}", self.case, self.seed)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        writeln!(f, "# {}", self.crash)?;
        writeln!(f, "{}", self.difference)?;
        writeln!(f, "the disk:")?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl Plan {
    /// Tries all of it; `progress` is told after each case how many are done.
    pub fn run(&self, tried: &Tried, progress: &mut dyn FnMut(u64)) -> Result<Report, Box<Failure>> {
        let mut report = Report::default();
        for n in 0..self.cases {
            self.case(tried, self.first + n, &mut report)?;
            progress(n + 1);
        }
        Ok(report)
    }

    /// One history, cut everywhere.
    pub fn case(&self, tried: &Tried, case: u64, report: &mut Report) -> Result<(), Box<Failure>> {
        let mut dice = Seed::of(self.seed, case);
        let whole = self.whole(tried, &mut dice, case, report)?;
        self.cut(tried, &whole, case, &mut dice, report)
    }

    /// The history that these dice say, as a fuzzer makes them up: it ends where they do. All else comes from the seed,
    /// as in the first case.
    pub fn case_of(&self, tried: &Tried, history: &mut dyn Dice, report: &mut Report) -> Result<(), Box<Failure>> {
        let whole = self.whole(tried, history, self.first, report)?;
        self.cut(tried, &whole, self.first, &mut Seed::of(self.seed, self.first), report)
    }

    fn failure(
        &self,
        case: u64,
        steps: Vec<Step>,
        crash: String,
        difference: Difference,
        trace: Vec<String>,
    ) -> Box<Failure> {
        Box::new(Failure { seed: self.seed, case, steps, crash, difference, trace })
    }

    fn whole(&self, tried: &Tried, dice: &mut dyn Dice, case: u64, report: &mut Report) -> Result<Whole, Box<Failure>> {
        let whole = Whole::play(tried, dice, self.steps, case);
        let before = "before any crash".to_owned();
        let whole = whole.map_err(|d| self.failure(case, Vec::new(), before, d, Vec::new()))?;
        report.histories += 1;
        report.operations += whole.operations;
        Ok(whole)
    }

    fn cut(
        &self,
        tried: &Tried,
        whole: &Whole,
        case: u64,
        dice: &mut Seed,
        report: &mut Report,
    ) -> Result<(), Box<Failure>> {
        let drawn = draw(dice, whole.operations + 1, self.cuts_max);
        self.cut_in(tried, whole, case, drawn, dice, report)
    }

    /// Cuts the power in each of these operations.
    fn cut_in(
        &self,
        tried: &Tried,
        whole: &Whole,
        case: u64,
        operations: impl IntoIterator<Item = u64>,
        dice: &mut Seed,
        report: &mut Report,
    ) -> Result<(), Box<Failure>> {
        for operation in operations {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                if operation == whole.operations && tear != Tear::NotAtAll {
                    continue;
                }
                let mut cut = Cut { tried, whole, case, operation, tear, go_on: self.go_on, how: String::new() };
                let mut chance = Seed::of(dice.roll(u64::MAX), operation);
                cut.explore(&mut chance, report).map_err(|difference| {
                    let trace = cut.trace();
                    let last = trace.last().cloned().unwrap_or_default();
                    let crash = format!("the power goes in operation {operation} ({tear:?}): {last}; {}", cut.how);
                    self.failure(case, cut.steps(), crash, difference, trace)
                })?;
            }
        }
        Ok(())
    }
}

/// So many of the numbers below `end`, or all of them, in order.
fn draw(dice: &mut dyn Dice, end: u64, count: usize) -> Vec<u64> {
    if end <= count as u64 {
        return (0..end).collect();
    }
    let mut drawn = BTreeSet::new();
    while drawn.len() < count {
        drawn.insert(dice.roll(end));
    }
    drawn.into_iter().collect()
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(disk: &SimDisk) -> Files {
    disk.paths().into_iter().filter_map(|path| disk.read_file(&path).map(|bytes| (path, bytes))).collect()
}

/// A history with its outcomes, and the disk operations of each step.
struct Whole {
    parts: Vec<Part>,
    /// How many operations the empty database took.
    created: u64,
    operations: u64,
    last: World,
}

/// A step that cannot be divided: see [`generate::parts`].
struct Part {
    step: Step,
    outcome: Outcome,
    before: World,
    operations: Range<u64>,
    /// The files on the disk after a finish, as programs see them.
    files: Option<Files>,
}

impl Whole {
    fn play(tried: &Tried, dice: &mut dyn Dice, steps: usize, seed: u64) -> Result<Whole, Difference> {
        let mut playing = Playing::begin(tried, seed)?;
        for n in 0..=steps {
            // A history ends with a close, so that the writes of a close are cut too.
            let over = n == steps || !dice.more();
            let close = over && tried.can.reopen;
            let step = if close { Step::Reopen { read_only: false } } else { generate::next(dice, &playing.world) };
            playing.step(&step, &mut |step| swell(dice, step))?;
            if over {
                break;
            }
        }
        Ok(playing.end())
    }
}

/// A history that is played on a disk which does not fail.
struct Playing<'a> {
    tried: &'a Tried,
    disk: SimDisk,
    subject: Hosted,
    world: World,
    parts: Vec<Part>,
    created: u64,
}

impl<'a> Playing<'a> {
    fn begin(tried: &'a Tried, seed: u64) -> Result<Playing<'a>, Difference> {
        let disk = SimDisk::new(seed);
        let mut subject = host(tried, &disk);
        subject.reset().map_err(|e| difference(tried, &[], "an empty database", "it is there", e))?;
        let created = disk.operations();
        Ok(Playing { tried, disk, subject, world: World::new(tried.can), parts: Vec::new(), created })
    }

    /// Plays the parts of a step, each as `change` leaves it.
    fn step(&mut self, step: &Step, change: &mut dyn FnMut(Step) -> Step) -> Result<(), Difference> {
        for step in generate::parts(&self.world, step).into_iter().map(change) {
            let Some(right) = self.world.expect(&step) else { break };
            let start = self.disk.operations();
            let outcome = self.subject.perform(&step);
            if !right.contains(&outcome) {
                let done: Vec<Step> = self.parts.iter().map(|part| &part.step).chain([&step]).cloned().collect();
                let right: Vec<_> = right.iter().map(Outcome::to_string).collect();
                return Err(difference(self.tried, &done, &step, right.join(", or "), outcome));
            }
            let before = self.world.clone();
            self.world.follow(&step, &outcome);
            let stop = matches!(outcome, Outcome::Refused { .. } | Outcome::Busy);
            let files = matches!(outcome, Outcome::Finished { .. }).then(|| files(&self.disk));
            let operations = start..self.disk.operations();
            self.parts.push(Part { step, outcome, before, operations, files });
            if stop {
                break;
            }
        }
        Ok(())
    }

    fn end(self) -> Whole {
        let operations = self.disk.operations();
        Whole { parts: self.parts, created: self.created, operations, last: self.world }
    }
}

/// Plays these steps, and cuts the power in every operation of the disk that the last one takes.
pub fn cut_last(tried: &Tried, steps: &[Step], report: &mut Report) -> Result<(), Box<Failure>> {
    let plan = Plan { seed: 1, first: 0, cases: 1, steps: steps.len(), cuts_max: usize::MAX, go_on: 0 };
    let (last, earlier) =
        steps.split_last().map_or((&[][..], &[][..]), |(last, earlier)| (std::slice::from_ref(last), earlier));
    let play = || {
        let mut playing = Playing::begin(tried, plan.first)?;
        for step in earlier {
            playing.step(step, &mut |step| step)?;
        }
        let start = playing.disk.operations();
        for step in last {
            playing.step(step, &mut |step| step)?;
        }
        Ok((start, playing.end()))
    };
    let before = "before any crash".to_owned();
    let (start, whole) = play().map_err(|d| plan.failure(plan.first, Vec::new(), before, d, Vec::new()))?;
    report.histories += 1;
    report.operations += whole.operations - start;
    plan.cut_in(tried, &whole, plan.first, start..whole.operations, &mut Seed::of(plan.seed, plan.first), report)
}

/// How often, in percent, a step is made larger than a sector of the disk, of which a crash can take one and leave
/// others.
const LARGE: u64 = 15;

fn swell(dice: &mut dyn Dice, mut step: Step) -> Step {
    let large = dice.chance(LARGE);
    match &mut step {
        Step::Begin { meta, .. } if large => meta.description = "x".repeat(500 + dice.roll(2000) as usize),
        Step::Change { change: Change::Store { oid, node: Some(node), .. }, .. } if large => {
            node.weak = vec![*oid; 40 + dice.roll(100) as usize];
        }
        _ => {}
    }
    step
}

fn host(tried: &Tried, disk: &SimDisk) -> Hosted {
    let (disk, opener) = (disk.clone(), Arc::clone(&tried.opener));
    Hosted::new(tried.name.clone(), tried.can, move |opening| opener(&disk, opening))
}

fn difference(
    tried: &Tried,
    steps: &[Step],
    at: impl fmt::Display,
    rules: impl fmt::Display,
    storage: impl fmt::Display,
) -> Difference {
    Difference {
        name: tried.name.clone(),
        steps: steps.to_vec(),
        at: at.to_string(),
        rules: rules.to_string(),
        storage: storage.to_string(),
    }
}

/// The allowed databases: one, one of two, or one of those that a stopped pack by counts may leave.
struct Allowed {
    /// The one before first.
    worlds: Vec<World>,
    questions: Vec<Question>,
    answers: Vec<Vec<Answer>>,
}

impl Allowed {
    fn new(can: Can, mut worlds: Vec<World>) -> Allowed {
        // Questions about objects of one of them are asked of both.
        let known = worlds.last().map(|world| world.known.clone()).unwrap_or_default();
        let questions = question::all(can, &known.oids, &known.versions, &known.tids);
        for world in &mut worlds {
            world.known = known.clone();
            world.follow(&Step::Reopen { read_only: false }, &Outcome::Done);
        }
        let answer = |world: &World| questions.iter().map(|q| expected::answer(&world.database, q)).collect();
        Allowed { answers: worlds.iter().map(answer).collect(), worlds, questions }
    }
}

/// The database that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// This one of the worlds.
    World(usize),
    /// The second, with something else in the last transaction.
    Holes,
}

/// The effect of a crash on unsynced writes.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Losing,
    Keeping,
    Drawn(u64),
}

impl Crash {
    fn of(self, disk: &SimDisk) -> SimDisk {
        match self {
            Crash::Losing => disk.crash_losing_everything(),
            Crash::Keeping => disk.crash_keeping_everything(),
            Crash::Drawn(seed) => disk.crash(seed),
        }
    }
}

/// One moment at which the power goes.
struct Cut<'a> {
    tried: &'a Tried,
    whole: &'a Whole,
    case: u64,
    operation: u64,
    tear: Tear,
    go_on: usize,
    /// The changes of the disk after that, for the report of a failure.
    how: String,
}

/// A history up to the moment when the power went.
struct Stopped {
    disk: SimDisk,
    /// Still open: closing it would write.
    _subject: Hosted,
    /// The outcome of the step in which it went.
    outcome: Option<Outcome>,
    /// The possible contents of each file before that step, at least and at most.
    before: [Files; 2],
}

/// Crashes drawn by chance at each cut, beside losing everything and keeping everything.
const DRAWN: u64 = 2;
/// The share, in percent, of databases that are continued; crashed again while being opened; opened for reading only.
const GO_ON: u64 = 25;
const CUT_AGAIN: u64 = 20;
const READ_ONLY: u64 = 15;
/// Operations that an opening is cut in.
const OPENING_OPERATIONS: u64 = 8;

impl Cut<'_> {
    /// The part in which the power goes.
    fn part(&self) -> Option<(usize, &Part)> {
        self.whole.parts.iter().enumerate().find(|(_, part)| part.operations.contains(&self.operation))
    }

    /// The steps up to then.
    fn steps(&self) -> Vec<Step> {
        let count = match self.part() {
            Some((n, _)) => n + 1,
            None if self.operation < self.whole.created => 0,
            None => self.whole.parts.len(),
        };
        self.whole.parts[..count].iter().map(|part| part.step.clone()).collect()
    }

    /// The operations of the disk until then.
    fn trace(&self) -> Vec<String> {
        const LINES: usize = 60;
        let disk = SimDisk::new(self.case);
        disk.keep_trace(LINES);
        let _ = self.replay(&disk);
        disk.trace()
    }

    fn replay(&self, disk: &SimDisk) -> Result<Stopped, Difference> {
        if self.operation < self.whole.operations {
            disk.stop_at(self.operation, self.tear);
        }
        let part = self.part().map(|(n, _)| n);
        let (mut before, mut outcome) = ([Files::new(), Files::new()], None);
        let mut subject = host(self.tried, disk);
        let created = subject.reset();
        let is_off = || disk.operations() > self.operation;
        if let Err(e) = created.and_then(|()| if is_off() { Err("it is said to be there".to_owned()) } else { Ok(()) })
        {
            // It may be there although its finish did not return, or missing although it did: later checks find that.
            if !is_off() {
                return Err(difference(self.tried, &[], "an empty database", "it is there, as before", e));
            }
            return Ok(Stopped { disk: disk.clone(), _subject: subject, outcome, before });
        }
        for (n, this) in self.whole.parts.iter().enumerate() {
            if part == Some(n) {
                before = [files(&disk.crash_losing_everything()), files(&disk.crash_keeping_everything())];
            }
            let became = subject.perform(&this.step);
            if is_off() {
                outcome = Some(became);
                break;
            }
            if became != this.outcome || disk.operations() != this.operations.end {
                let said = |outcome, operations| format!("{outcome}, after operation {operations} of the disk");
                let (one, other) = (said(&this.outcome, this.operations.end), said(&became, disk.operations()));
                return Err(difference(self.tried, &[], &this.step, one, format!("the second time: {other}")));
            }
        }
        Ok(Stopped { disk: disk.clone(), _subject: subject, outcome, before })
    }

    /// The allowed databases.
    fn allowed(&self, stopped: &Stopped) -> Allowed {
        let worlds = match self.part() {
            None if self.operation < self.whole.created => vec![World::new(self.tried.can)],
            None => vec![self.whole.last.clone()],
            Some((_, part)) => {
                let mut after = part.before.clone();
                after.follow(&part.step, &part.outcome);
                match part.outcome {
                    // It returned all the same: the caller relies on it.
                    Outcome::Finished { .. } | Outcome::Packed { .. }
                        if stopped.outcome.as_ref() == Some(&part.outcome) =>
                    {
                        vec![after]
                    }
                    Outcome::Packed { .. } if let Step::PackByCounts { to } = part.step => {
                        let mut worlds = part.before.stopped_by_counts(to);
                        worlds.push(after);
                        worlds
                    }
                    Outcome::Finished { .. } | Outcome::Packed { .. } => vec![part.before.clone(), after],
                    _ => vec![part.before.clone()],
                }
            }
        };
        Allowed::new(self.tried.can, worlds)
    }

    /// Cuts the power, and looks at several disks that this may leave.
    fn explore(&mut self, dice: &mut dyn Dice, report: &mut Report) -> Result<(), Difference> {
        let stopped = self.replay(&SimDisk::new(self.case))?;
        let allowed = self.allowed(&stopped);
        report.cuts += 1;
        let drawn = (0..DRAWN).map(|_| Crash::Drawn(dice.roll(u64::MAX))).collect::<Vec<_>>();
        for crash in [Crash::Losing, Crash::Keeping].into_iter().chain(drawn) {
            self.how = format!("what was not synced: {crash:?}");
            let disk = crash.of(&stopped.disk);
            let left = files(&disk);
            let looked = catch_unwind(AssertUnwindSafe(|| self.look(disk, &allowed, dice, report)));
            let found = looked.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned();
                Err(difference(self.tried, &[], "looking at what was found", "no panic", text))
            })?;
            report.crashes += 1;
            self.count(found, &allowed, &left, &stopped, report);
        }
        Ok(())
    }

    fn count(&self, found: Found, allowed: &Allowed, left: &Files, stopped: &Stopped, report: &mut Report) {
        let Some((_, part)) = self.part().filter(|_| allowed.worlds.len() == 2) else { return };
        if let Step::PackByCounts { .. } = part.step {
            return;
        }
        if let Step::Pack { .. } = part.step {
            report.packs[usize::from(found == Found::World(0))] += 1;
            return;
        }
        let after = part.files.as_ref();
        let partly = |(path, bytes): (&PathBuf, &Vec<u8>)| {
            let as_in = |files: &Files| files.get(path) == Some(bytes);
            !stopped.before.iter().any(as_in) && !after.is_some_and(as_in)
        };
        *match found {
            Found::World(0) if left.iter().any(partly) => &mut report.torn,
            Found::World(0) => &mut report.not_there,
            Found::World(_) => &mut report.there,
            Found::Holes => &mut report.holes,
        } += 1;
    }

    /// Opens the storage after a crash, checks it against the allowed databases, and continues with it.
    fn look(
        &mut self,
        mut disk: SimDisk,
        allowed: &Allowed,
        dice: &mut dyn Dice,
        report: &mut Report,
    ) -> Result<Found, Difference> {
        if dice.chance(CUT_AGAIN) {
            let (again, operation) = (disk.crash_keeping_everything(), dice.roll(OPENING_OPERATIONS));
            let tear = [Tear::NotAtAll, Tear::Partly, Tear::Wholly][dice.roll(3) as usize];
            again.stop_at(operation, tear);
            let mut subject = host(self.tried, &again);
            let _ = subject.perform(&Step::Reopen { read_only: false });
            if again.operations() > operation {
                let crash = Crash::Drawn(dice.roll(u64::MAX));
                self.how += &format!("; again in operation {operation} of the opening ({tear:?}): {crash:?}");
                report.opening_cut += 1;
                disk = crash.of(&again);
            }
        }
        let created = self.operation >= self.whole.created;
        let mut reader = None;
        if self.tried.can.read_only && created && dice.chance(READ_ONLY) {
            let mut subject = host(self.tried, &disk);
            reader = Some(self.compare(&mut subject, true, allowed)?);
            if disk.operations() > 0 {
                let wrote = format!("it did {} operations", disk.operations());
                return Err(difference(self.tried, &[], "opening for reading only", "it writes nothing", wrote));
            }
            report.read_only += 1;
        }
        let mut subject = host(self.tried, &disk);
        let found = self.compare(&mut subject, false, allowed)?;
        if reader.is_some_and(|reader| reader != found) {
            let (one, other) = (format!("{reader:?}"), format!("{found:?}"));
            return Err(difference(self.tried, &[], "the answers of a reader and then of a writer", one, other));
        }
        if let (Found::World(n), true) = (found, dice.chance(GO_ON)) {
            report.went_on += 1;
            let mut play = Play::resume(&mut subject, allowed.worlds[n].clone())?;
            for _ in 0..self.go_on {
                let step = generate::next(dice, &play.world);
                play.step(&step, &mut Coverage::default())?;
            }
            let crash = Crash::Drawn(dice.roll(u64::MAX));
            self.how += &format!("; and after the steps below: {crash:?}");
            let (world, steps) = (play.world, play.steps);
            let disk = crash.of(&disk);
            let allowed = Allowed::new(self.tried.can, vec![world]);
            self.compare(&mut host(self.tried, &disk), false, &allowed).map_err(|d| Difference { steps, ..d })?;
        }
        Ok(found)
    }

    /// Which of the allowed databases it is.
    fn compare(&self, subject: &mut Hosted, read_only: bool, allowed: &Allowed) -> Result<Found, Difference> {
        let opened = subject.perform(&Step::Reopen { read_only });
        if opened != Outcome::Done {
            return Err(difference(self.tried, &[], Step::Reopen { read_only }, Outcome::Done, opened));
        }
        let said = subject.ask(&allowed.questions);
        if let Some(n) = allowed.answers.iter().position(|answers| *answers == said) {
            return Ok(Found::World(n));
        }
        let [before, .., after] = &allowed.answers[..] else {
            let wrong = allowed.answers.iter().flat_map(|answers| first_difference(answers, &said)).next();
            return Err(self.wrong(allowed, wrong.unwrap_or(0), &said));
        };
        let holes = (self.tried.promise == Promise::Holes).then(|| Holes::of(&allowed.questions, before, after));
        // Where both databases give one answer, there is no other.
        let hidden = |n: usize| match (&holes, said.get(n)) {
            (Some(holes), Some(said)) => holes.hide(&allowed.questions[n], &before[n], said),
            _ => false,
        };
        let agreed = |n: &usize| before[*n] == after[*n] && said.get(*n) != Some(&before[*n]) && !hidden(*n);
        if let Some(n) = (0..said.len()).find(agreed) {
            return Err(self.wrong(allowed, n, &said));
        }
        if holes.is_some() {
            return Ok(Found::Holes);
        }
        let n = first_difference(before, &said).max(first_difference(after, &said));
        Err(self.wrong(allowed, n.unwrap_or(0), &said))
    }

    fn wrong(&self, allowed: &Allowed, n: usize, said: &[Answer]) -> Difference {
        let rules: Vec<_> = allowed.answers.iter().map(|answers| answers[n].to_string()).collect();
        let said = said.get(n).map_or("nothing".to_owned(), Answer::to_string);
        difference(self.tried, &[], &allowed.questions[n], rules.join("\n      or, all else accordingly: "), said)
    }
}

fn first_difference(answers: &[Answer], said: &[Answer]) -> Option<usize> {
    (0..answers.len()).find(|&n| said.get(n) != Some(&answers[n]))
}
