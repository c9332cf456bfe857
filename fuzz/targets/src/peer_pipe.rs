//! The answers of a foreign storage to the harness, which may be anything.
//!
//! The bytes are the lines of a program that is gone. The harness plays a history with it; the dice are the same each
//! time. For all answers it ends with a difference (or none), which is shrunk and shown.
//!
//! Such lines rarely are right for long, and so rarely get far. The first byte may therefore say that it is the
//! specification that answers, and that the bytes are dice for the changes of its answers.

use arbitrary::Unstructured;
use serde_json::Value;
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::{Dice, Seed};
use vellum_harness::hosted::Hosted;
use vellum_harness::pipe::Pipe;
use vellum_harness::question::{Answer, Question};
use vellum_harness::run::{self, Difference};
use vellum_harness::step::{Outcome, Step};
use vellum_harness::subject::{Can, Subject};
use vellum_harness::{script, shrink};

/// Steps of a history.
const STEPS_MAX: usize = 12;

/// Histories that may be played to make one shorter.
const SHRINK_BUDGET: usize = 10;

/// Plays a history with a storage that gives these answers.
pub fn peer_pipe(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    if first < 128 {
        // A line that is not the harness's to answer: it says what it can do.
        let Ok(mut peer) = Pipe::recorded(rest) else { return };
        play(&mut peer, u64::from(first));
    } else {
        let dice = rest.to_vec();
        play(&mut Twisted { rules: Hosted::rules(), dice, at: 0 }, u64::from(first));
    }
}

fn play(peer: &mut dyn Subject, seed: u64) {
    let played = run::play_random(peer, &mut Seed(seed), STEPS_MAX, &mut Coverage::default());
    if let Err(difference) = played {
        shown(&difference);
        shown(&shrink::shrink(peer, difference, SHRINK_BUDGET));
    }
}

/// A person reads it, and plays it again.
fn shown(difference: &Difference) {
    let text = difference.to_string();
    let steps = script::parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    assert_eq!(steps.len(), difference.steps.len(), "{text}");
}

/// The specification, at the end of a pipe in which answers are changed.
struct Twisted {
    rules: Hosted,
    dice: Vec<u8>,
    /// How many of the dice were thrown.
    at: usize,
}

impl Twisted {
    /// Changes an answer on its way. The pipe decides what to do with the result, if that is no answer.
    fn twist<T: serde::Serialize + serde::de::DeserializeOwned>(&mut self, answer: T) -> Result<T, String> {
        let rest = self.dice.get(self.at..).unwrap_or_default();
        let [how, what @ ..] = rest else { return Ok(answer) };
        self.at += 1;
        if *how >= 16 {
            return Ok(answer);
        }
        let mut value = serde_json::to_value(&answer).map_err(|e| e.to_string())?;
        let mut dice = Unstructured::new(what);
        for _ in 0..=how % 4 {
            change(&mut dice, &mut value);
        }
        self.at += what.len() - dice.len();
        serde_json::from_slice(value.to_string().as_bytes()).map_err(|e| e.to_string())
    }
}

/// Changes one value somewhere inside.
fn change(dice: &mut Unstructured<'_>, value: &mut Value) {
    let mut place = value;
    // As deep as the dice say. Each inner value is found by its number.
    loop {
        let count = match place {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        if count == 0 || dice.roll(4) == 3 {
            break;
        }
        let n = dice.roll(count as u64) as usize;
        place = match place {
            Value::Array(items) => &mut items[n],
            Value::Object(fields) => fields.iter_mut().nth(n).expect("there are as many").1,
            _ => return,
        };
    }
    let number = |dice: &mut Unstructured<'_>| [0, 1, 255, u64::MAX, u64::MAX - 1, 1 << 32, dice.roll(u64::MAX)];
    let n = dice.roll(7) as usize;
    *place = match dice.roll(9) {
        0 => Value::Null,
        1 => number(dice)[n].into(),
        2 => format!("{:016x}", number(dice)[n]).into(),
        3 => Value::Array(Vec::new()),
        4 => Value::String(["", "\0\n\"\u{7f}\u{202e}", "---", "key_error", "80", "\n\nabort a\n", "# "][n].to_owned()),
        5 => Value::Array(vec![place.clone(); n]),
        6 => match place.take() {
            Value::Array(mut items) => {
                items.pop();
                Value::Array(items)
            }
            other => other,
        },
        7 => match place.take() {
            Value::Array(mut items) => {
                items.reverse();
                Value::Array(items)
            }
            other => other,
        },
        _ => Value::Bool(n.is_multiple_of(2)),
    };
}

impl Subject for Twisted {
    fn name(&self) -> String {
        "the specification, twisted".to_owned()
    }

    fn can(&self) -> Can {
        self.rules.can()
    }

    fn reset(&mut self) -> Result<(), String> {
        self.at = 0;
        self.rules.reset()
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        let outcome = self.rules.perform(step);
        self.twist(outcome).unwrap_or_else(|message| Outcome::Failed { message })
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let answers = self.rules.ask(questions);
        let failed = |message| vec![Answer::Failed { message }; questions.len()];
        self.twist(answers).unwrap_or_else(failed)
    }
}
