//! Stories: scripts that tell a rule, played beside the rules and written down as minutes.
//!
//! A story is a script as [`script`] has them, with remarks that tell what it is about, and with
//! questions among its steps, each on a line that begins with `?`:
//!
//! ```text
//! # Rule 3.4. Ann creates object 1 by mistake and takes it back. It is nothing then, not unknown.
//!
//! begin a user=ann
//! store a 1 @0: 5
//! commit a @1
//!
//! undo b @1
//! commit b @2
//! ? load 1
//! ```
//!
//! The minutes are the same lines with `---` and what happened after each block, and after the last one the database as
//! it was left. A step of which they say nothing was simply done. They are a story themselves: what stands under `---`
//! and under `===` is passed over, so minutes can be played again.
//!
//! ```text
//! undo b @1
//! commit b @2
//! ? load 1
//! ---
//! commit b @2 → finished @2
//! ? load 1 → key error
//!
//! === the database afterwards
//! @1 ann: 1 [5]
//! @2: 1 nothing
//!
//! 1 now: key error
//!   after @1: [5] since @1 until @2
//!   after @2: key error
//! ```
//!
//! A story of a history-free database (rule 4.12) says in a remark what its grace is: `# The grace is 120 seconds.` It
//! is told only of storages with the same grace.
//!
//! Where a storage refuses a change at once and not at the vote, the rest of that transaction is passed over, up to its
//! vote: so a story can be told of either kind.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::path::Path;

use vellum_storage::{Oid, Tid};

use crate::coverage::Coverage;
use crate::generate;
use crate::hosted::Hosted;
use crate::question::{Answer, Question, Written};
use crate::run::{Difference, Play};
use crate::script::{self, ParseError};
use crate::step::{Name, Outcome, Step};
use crate::subject::{Can, Subject};
use crate::tick::Tick;
use crate::world::World;

/// The heading of the last part of the minutes.
const AFTERWARDS: &str = "=== the database afterwards";

/// A story that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The events, block by block.
    pub blocks: String,
    /// The database as it was left.
    pub afterwards: String,
    /// The capabilities that this story needs.
    pub needs: Can,
}

impl Told {
    /// Whether the story can be told of a storage that can do this much.
    pub fn suits(&self, can: Can) -> bool {
        can.covers(self.needs) && can.forgets == self.needs.forgets
    }
}

/// The minutes.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{AFTERWARDS}\n{}", self.blocks, self.afterwards)
    }
}

/// Why a story could not be told.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A line is neither step, question nor remark.
    #[error(transparent)]
    Script(#[from] ParseError),
    /// A step makes no sense where it stands.
    #[error("line {line}: `{text}` makes no sense here, or {name} cannot do it")]
    NoSense {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
        /// The storage.
        name: String,
    },
    /// The storage does not do as the rules say. On line 0, it is not empty at the beginning.
    #[error("line {line}:\n{difference}")]
    Differs {
        /// Counted from 1.
        line: usize,
        /// The difference.
        difference: Box<Difference>,
    },
}

fn differs(line: usize) -> impl Fn(Difference) -> Trouble {
    move |difference| Trouble::Differs { line, difference: Box::new(difference) }
}

enum Said {
    Step(Step),
    Question(Question),
    Remark,
}

struct Line<'a> {
    number: usize,
    text: &'a str,
    said: Said,
}

/// Tells a new subject each story of a folder that its capabilities allow. Returns how many these are.
///
/// # Panics
///
/// If the subject differs from the rules: with the command that plays it again, for a `vellum-prove` with these
/// arguments. If a story cannot be read.
pub fn tell_folder(folder: &Path, arguments: &str, mut subject: impl FnMut() -> Hosted) -> usize {
    let mut told = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of stories") {
        let path = entry.expect("a story").path();
        let name = path.display();
        let text = std::fs::read_to_string(&path).expect("a story");
        let right = tell(&mut rules(&text), &text, &mut Coverage::default());
        let right = right.unwrap_or_else(|trouble| panic!("{name}: {trouble}"));
        let mut subject = subject();
        if !right.suits(subject.can()) {
            continue;
        }
        match tell(&mut subject, &text, &mut Coverage::default()) {
            Ok(_) => told += 1,
            Err(Trouble::Differs { line, difference }) => {
                panic!("{name}, line {line}; to play it again:\n\n{}", difference.command(arguments))
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
    told
}

/// The specification as the story needs it: history-free if it names a grace.
pub fn rules(story: &str) -> Hosted {
    let grace = |line: &str| line.strip_prefix("# The grace is ")?.strip_suffix(" seconds.")?.parse().ok();
    story.lines().find_map(grace).map_or_else(Hosted::rules, Hosted::history_free_rules)
}

/// Tells a story of a storage. After each step, everything that can be seen of the storage is compared with the rules.
pub fn tell(subject: &mut dyn Subject, story: &str, coverage: &mut Coverage) -> Result<Told, Trouble> {
    let blocks = parse(story)?;
    let name = subject.name();
    let needs = Can { forgets: subject.can().forgets, ..Can::default() };
    let play = Play::begin(subject).map_err(differs(0))?;
    let mut teller = Teller { name, play, over: BTreeSet::new(), coverage, needs };
    teller.coverage.histories += 1;
    let mut told = String::new();
    for block in &blocks {
        teller.block(block, &mut told)?;
    }
    let last = blocks.iter().flatten().last().map_or(0, |line| line.number);
    let afterwards = afterwards(&mut teller.play).map_err(differs(last))?;
    Ok(Told { blocks: told, afterwards, needs: teller.needs })
}

fn parse(story: &str) -> Result<Vec<Vec<Line<'_>>>, ParseError> {
    let (mut blocks, mut block, mut answers) = (Vec::new(), Vec::new(), false);
    for (n, text) in story.lines().map(str::trim_end).enumerate().take_while(|(_, text)| !text.starts_with("===")) {
        if text.is_empty() {
            answers = false;
            blocks.push(std::mem::take(&mut block));
        } else if text == "---" {
            answers = true;
        } else if !answers {
            let said = said(text).map_err(|why| ParseError { line: n + 1, text: text.to_owned(), why })?;
            block.push(Line { number: n + 1, text, said });
        }
    }
    blocks.push(block);
    blocks.retain(|block| !block.is_empty());
    Ok(blocks)
}

fn said(line: &str) -> Result<Said, &'static str> {
    let text = line.split('#').next().unwrap_or_default().trim();
    match text.strip_prefix('?') {
        Some(question) => script::question(question).map(Said::Question),
        None if text.is_empty() => Ok(Said::Remark),
        None => script::step(text).map(Said::Step),
    }
}

struct Teller<'a> {
    name: String,
    play: Play<'a>,
    /// Transactions that were refused before their vote.
    over: BTreeSet<Name>,
    coverage: &'a mut Coverage,
    needs: Can,
}

impl Teller<'_> {
    fn block(&mut self, block: &[Line<'_>], told: &mut String) -> Result<(), Trouble> {
        let mut happened = String::new();
        for line in block {
            said_line(told, line.text);
            match &line.said {
                Said::Remark => {}
                Said::Question(question) => self.question(line, question, &mut happened)?,
                Said::Step(step) => self.step(line, step, &mut happened)?,
            }
        }
        if !block.iter().all(|line| matches!(line.said, Said::Remark)) {
            let happened = if happened.is_empty() { "done\n" } else { &happened };
            let _ = write!(told, "---\n{happened}");
        }
        told.push('\n');
        Ok(())
    }

    fn question(&mut self, line: &Line<'_>, question: &Question, happened: &mut String) -> Result<(), Trouble> {
        self.needs = self.needs.or(match question {
            Question::UndoLog { .. } => Can { undo: true, ..Can::default() },
            Question::ModifiedInVersion { .. } | Question::Versions => Can { versions: true, ..Can::default() },
            Question::Load { version, .. } => Can { versions: !version.is_empty(), ..Can::default() },
            _ => Can::default(),
        });
        let answer = self.play.ask(question).map_err(differs(line.number))?;
        // A list begins on a line of its own.
        let answer = answer.to_string();
        let space = if answer.starts_with('\n') { "" } else { " " };
        let asked = line.text.split('#').next().unwrap_or_default().trim();
        said_line(happened, &format!("{asked} →{space}{answer}"));
        Ok(())
    }

    fn step(&mut self, line: &Line<'_>, step: &Step, happened: &mut String) -> Result<(), Trouble> {
        if self.is_over(step) {
            said_line(happened, &format!("{step} → passed over, it was refused"));
            return Ok(());
        }
        self.needs = self.needs.or(needs(&self.play.world, step));
        if !self.play.step(step, self.coverage).map_err(differs(line.number))? {
            let (text, name) = (line.text.to_owned(), self.name.clone());
            return Err(Trouble::NoSense { line: line.number, text, name });
        }
        let outcomes = &self.play.outcomes;
        if let Step::Begin { transaction, .. } | Step::Change { transaction, .. } = step
            && matches!(outcomes.last(), Some(Outcome::Refused { .. }))
        {
            self.over.insert(*transaction);
        }
        let plain = |outcome: &Outcome| match outcome {
            Outcome::Done => true,
            Outcome::Voted { resolved } => resolved.is_empty() && outcomes.len() > 1,
            _ => false,
        };
        let came_to: Vec<_> = outcomes.iter().filter(|outcome| !plain(outcome)).map(Outcome::to_string).collect();
        if !came_to.is_empty() {
            said_line(happened, &format!("{step} → {}", came_to.join("; ")));
        }
        Ok(())
    }

    /// Whether the step belongs to a transaction that was refused before its vote; which ends with the vote.
    fn is_over(&mut self, step: &Step) -> bool {
        match step {
            Step::Begin { transaction, .. } => {
                self.over.remove(transaction);
                false
            }
            Step::Change { transaction, .. } => self.over.contains(transaction),
            Step::Vote { transaction, .. } | Step::Commit { transaction, .. } | Step::Abort { transaction } => {
                self.over.remove(transaction)
            }
            Step::Finish { .. } | Step::Pack { .. } | Step::PackByCounts { .. } | Step::Reopen { .. } => false,
        }
    }
}

fn said_line(to: &mut String, line: &str) {
    to.push_str(line);
    to.push('\n');
}

/// The capabilities that this step needs: without one of them the rules would expect another outcome.
fn needs(world: &World, step: &Step) -> Can {
    let all = Can { forgets: world.can().forgets, ..Can::EVERYTHING };
    let usual = expected(world.under(all), step);
    let one = |word: &&str| Can::default().with(word).unwrap_or_default();
    let needed = |can: &Can| expected(world.under(all.without(*can)), step) != usual;
    Can::WORDS.iter().map(one).filter(needed).fold(Can::default(), Can::or)
}

/// Which outcomes are right for each part of a step.
fn expected(mut world: World, step: &Step) -> Vec<Option<Vec<Outcome>>> {
    let mut all = Vec::new();
    for part in generate::parts(&world, step) {
        let right = world.expect(&part);
        if let Some(outcome) = right.as_ref().and_then(|right| right.last()) {
            world.follow(&part, outcome);
        }
        all.push(right);
    }
    all
}

/// The transactions, oldest first; then of each object what it is now, in the trunk and in the versions in which it is
/// something else, and what the trunk showed after each transaction that there ever was.
fn afterwards(play: &mut Play<'_>) -> Result<String, Difference> {
    let mut out = String::new();
    let all = Question::Transactions { first: Tid::ZERO, last: Tid::MAX, newest_first: false };
    if let Answer::Transactions { transactions } = play.ask(&all)? {
        transactions.iter().for_each(|transaction| said_line(&mut out, &written(transaction)));
    }
    if play.world.last() == Tid::ZERO {
        said_line(&mut out, "empty");
    }
    for oid in play.world.known.oids.clone() {
        object(play, oid, &mut out)?;
    }
    Ok(out)
}

fn object(play: &mut Play<'_>, oid: Oid, out: &mut String) -> Result<(), Difference> {
    let now = play.ask(&Question::Load { oid, version: String::new() })?;
    let _ = write!(out, "\n{} now: {now}", oid.0);
    for version in play.world.known.versions.clone() {
        let there = play.ask(&Question::Load { oid, version: version.clone() })?;
        if there != now {
            let _ = write!(out, "; in {version}: {there}");
        }
    }
    out.push('\n');
    let mut spans: Vec<(String, Answer)> = Vec::new();
    for tid in play.world.known.tids.clone() {
        let shown = play.ask(&Question::LoadBefore { oid, before: tid.next() })?;
        match spans.last_mut() {
            Some((after, last)) if *last == shown => drop(write!(after, " {}", Tick(tid))),
            _ => spans.push((Tick(tid).to_string(), shown)),
        }
    }
    spans.iter().for_each(|(after, shown)| said_line(out, &format!("  after {after}: {shown}")));
    Ok(())
}

/// `@3 packed ann "words" with extension: 1 [5 -> 2], 2 nothing, 3 [6] as of @1 in draft`.
fn written(transaction: &Written) -> String {
    let mut line = Tick(transaction.tid).to_string();
    let Written { packed, user, description, extension, revisions, .. } = transaction;
    for (there, words) in [
        (*packed, "packed".to_owned()),
        (!user.is_empty(), shortened(user)),
        (!description.is_empty(), format!("\"{}\"", shortened(description))),
        (!extension.0.is_empty(), "with extension".to_owned()),
    ] {
        if there {
            let _ = write!(line, " {words}");
        }
    }
    let revisions: Vec<_> = revisions.iter().map(ToString::to_string).collect();
    let revisions = if revisions.is_empty() { "no changes".to_owned() } else { revisions.join(", ") };
    format!("{line}: {revisions}")
}

fn shortened(text: &str) -> String {
    match text.chars().count() {
        0..=40 => text.to_owned(),
        count => format!("{}... ({count} characters)", text.chars().take(8).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_has_blocks_of_steps_questions_and_remarks() {
        let blocks = parse("# It begins.\n\nstore a 1 @0: 5 # new\n? load 1 in draft\n---\nits answers\n\n=== end\nx")
            .unwrap_or_default();
        let lines: Vec<Vec<usize>> = blocks.iter().map(|block| block.iter().map(|l| l.number).collect()).collect();
        assert_eq!(lines, [vec![1], vec![3, 4]]);
        assert!(matches!(&blocks[1][1].said, Said::Question(Question::Load { version, .. }) if version == "draft"));
        assert_eq!(parse("\n? lode 1").err().map(|e| (e.line, e.why)), Some((2, "no such question")));
    }
}
