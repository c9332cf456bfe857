//! Plays a history on the rules and on a storage, and looks for a difference.

use std::fmt;

use crate::coverage::Coverage;
use crate::dice::{Dice, Seed};
use crate::expected;
use crate::generate;
use crate::question::{self, Answer, Question};
use crate::step::{Outcome, Step};
use crate::subject::{PAST, Subject};
use crate::world::World;

/// Something that a storage did or said and the rules do not, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The storage.
    pub name: String,
    /// Everything that was done up to there.
    pub steps: Vec<Step>,
    /// Where they differ: a step, or a question.
    pub at: String,
    /// The answer of the rules.
    pub rules: String,
    /// The answer or outcome of the storage.
    pub storage: String,
}

/// A history as it is played: the rules beside the storage.
pub struct Play<'a> {
    /// The rules' side.
    pub world: World,
    subject: &'a mut dyn Subject,
    /// The steps so far.
    pub steps: Vec<Step>,
    /// The outcomes of the last step, part by part.
    pub outcomes: Vec<Outcome>,
    questions: Vec<Question>,
    answers: Vec<Answer>,
}

impl<'a> Play<'a> {
    /// Begins with an empty database.
    pub fn begin(subject: &'a mut dyn Subject) -> Result<Play<'a>, Difference> {
        let reset = subject.reset();
        let mut play = Play {
            world: World::new(subject.can()),
            subject,
            steps: Vec::new(),
            outcomes: Vec::new(),
            questions: Vec::new(),
            answers: Vec::new(),
        };
        reset.map_err(|message| play.difference("an empty database", "it is there", message))?;
        play.renew();
        Ok(play)
    }

    /// Continues with a storage that should be in this state: all answers are compared at once.
    pub fn resume(subject: &'a mut dyn Subject, world: World) -> Result<Play<'a>, Difference> {
        let (steps, outcomes, questions, answers) = Default::default();
        let mut play = Play { world, subject, steps, outcomes, questions, answers };
        play.renew();
        play.compare()?;
        Ok(play)
    }

    fn difference(&self, at: impl fmt::Display, rules: impl fmt::Display, storage: impl fmt::Display) -> Difference {
        Difference {
            name: self.subject.name(),
            steps: self.steps.clone(),
            at: at.to_string(),
            rules: rules.to_string(),
            storage: storage.to_string(),
        }
    }

    /// Does a step on both sides and compares everything that can be seen. Whether it was done: a step that makes no
    /// sense where it stands is passed over.
    pub fn step(&mut self, step: &Step, coverage: &mut Coverage) -> Result<bool, Difference> {
        self.outcomes.clear();
        for part in generate::parts(&self.world, step) {
            let Some(right) = self.world.expect(&part) else { break };
            if self.outcomes.is_empty() {
                self.steps.push(step.clone());
            }
            let outcome = self.subject.perform(&part);
            if !right.contains(&outcome) {
                let right: Vec<_> = right.iter().map(Outcome::to_string).collect();
                return Err(self.difference(part, right.join(", or "), outcome));
            }
            let before = self.world.clone();
            self.world.follow(&part, &outcome);
            coverage.step(&before, &part, &outcome, &self.world);
            if before.known != self.world.known || before.database != self.world.database {
                self.renew();
                coverage.answers(&self.world, &self.questions, &self.answers);
            }
            let stop = matches!(outcome, Outcome::Refused { .. } | Outcome::Busy);
            self.outcomes.push(outcome);
            if stop {
                break;
            }
        }
        if !self.outcomes.is_empty() {
            self.compare()?;
        }
        Ok(!self.outcomes.is_empty())
    }

    /// Asks both sides. The answer is the one that they agree on.
    pub fn ask(&mut self, question: &Question) -> Result<Answer, Difference> {
        let rules = expected::answer(&self.world.database, question);
        match self.subject.ask(std::slice::from_ref(question)).as_slice() {
            [storage] if *storage == rules => Ok(rules),
            [storage] => Err(self.difference(question, rules, storage)),
            answers => Err(self.difference(question, rules, format!("{} answers", answers.len()))),
        }
    }

    fn renew(&mut self) {
        let known = &self.world.known;
        self.questions = question::all(self.world.can(), &known.oids, &known.versions, &known.tids);
        let unasked = self.subject.unasked();
        if !unasked.is_empty() {
            self.questions.retain(|question| !is_unasked(unasked, question, &self.world));
        }
        self.answers = self.questions.iter().map(|q| expected::answer(&self.world.database, q)).collect();
    }

    fn compare(&mut self) -> Result<(), Difference> {
        let said = self.subject.ask(&self.questions);
        for ((question, rules), storage) in self.questions.iter().zip(&self.answers).zip(&said) {
            if rules != storage {
                return Err(self.difference(question, rules, storage));
            }
        }
        if said.len() != self.questions.len() {
            let (asked, answered) = (self.questions.len(), said.len());
            return Err(self.difference("all questions", format!("{asked} answers"), format!("{answered} of them")));
        }
        Ok(())
    }
}

/// Whether a storage has no answer to such a question.
fn is_unasked(unasked: &[String], question: &Question, world: &World) -> bool {
    let of_the_past = match question {
        Question::LoadBefore { before, .. } => *before <= world.last(),
        Question::LoadSerial { oid, tid } => world.database.newest(oid.0).is_none_or(|at| at.tid() != tid.0),
        _ => false,
    };
    unasked.iter().any(|word| word == question.kind() || (of_the_past && word == PAST))
}

/// Plays these steps.
pub fn play(subject: &mut dyn Subject, steps: &[Step], coverage: &mut Coverage) -> Result<World, Difference> {
    let mut play = Play::begin(subject)?;
    for step in steps {
        play.step(step, coverage)?;
    }
    Ok(play.world)
}

/// Plays so many steps as the dice make them up.
pub fn play_random(
    subject: &mut dyn Subject,
    dice: &mut dyn Dice,
    length: usize,
    coverage: &mut Coverage,
) -> Result<usize, Difference> {
    let mut play = Play::begin(subject)?;
    for n in 0..length {
        if !dice.more() {
            return Ok(n);
        }
        let step = generate::next(dice, &play.world);
        play.step(&step, coverage)?;
    }
    Ok(length)
}

/// One case of a run, which its seed and its number say.
pub fn case(
    subject: &mut dyn Subject,
    seed: u64,
    case: u64,
    length: usize,
    coverage: &mut Coverage,
) -> Result<(), Difference> {
    coverage.histories += 1;
    play_random(subject, &mut Seed::of(seed, case), length, coverage).map(drop)
}

impl Difference {
    /// The difference as a command that plays it again in the workspace; what of it is no script is passed over there.
    /// `storage` is what names the storage to `vellum-prove`.
    pub fn command(&self, storage: &str) -> String {
        format!("cargo run --release --bin vellum-prove -- {storage} --script /dev/stdin <<'END'\n{self}\nEND\n")
    }
}

/// The script, `---`, and both answers. An empty line ends the answers of a script, so there is none in them:
/// a peer's last words often have some, and what follows them would be taken for steps.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = |text: &str| text.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n");
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        writeln!(f, "---\n{}", lines(&self.at))?;
        writeln!(f, "    the rules: {}", lines(&self.rules))?;
        write!(f, "    {}: {}", lines(&self.name), lines(&self.storage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script;

    /// Found by the fuzz target `peer_pipe`: a storage said `failed` with an empty line in its message, and the script
    /// that was made of it could not be played again; with other words after the empty line, it had steps that did not
    /// happen.
    #[test]
    fn what_a_storage_says_does_not_become_a_step() {
        let steps = script::parse("begin a\nabort a\n").unwrap();
        let said = "it died; its stderr ends with\nTraceback\n\nabort b\n\u{85}\r\n \ncommit a @1".to_owned();
        let (at, rules) = ("abort a".to_owned(), "done".to_owned());
        let difference = Difference { name: "it\n\nabort c".to_owned(), steps, at, rules, storage: said };
        assert_eq!(script::parse(&difference.to_string()), Ok(difference.steps));
    }
}
