//! The generator's blind spots, and that a seed says everything.

use vellum_harness::blind::{Blind, Pair, rule_against};
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::{Dice, Seed};
use vellum_harness::generate::{next, parts};
use vellum_harness::hosted::Hosted;
use vellum_harness::question::{Answer, Question};
use vellum_harness::run;
use vellum_harness::small::{Search, WORLDS};
use vellum_harness::step::{Outcome, Step};
use vellum_harness::subject::{Can, Subject};
use vellum_harness::world::World;

/// Counts the pairs of a run: its steps on the rules alone, and where they leave a choice, one by the dice.
fn counted(seed: u64, cases: u64) -> Blind {
    let mut blind = Blind::default();
    for case in 0..cases {
        let (mut dice, mut choices) = (Seed::of(seed, case), Seed::of(seed + 1, case));
        let mut world = World::new(Can::EVERYTHING);
        for _ in 0..30 {
            let step = next(&mut dice, &world);
            for part in parts(&world, &step) {
                let Some(right) = world.expect(&part).filter(|right| !right.is_empty()) else { break };
                blind.step(&world, &part);
                let outcome = right[choices.roll(right.len() as u64) as usize].clone();
                world.follow(&part, &outcome);
                if matches!(outcome, Outcome::Refused { .. } | Outcome::Busy) {
                    break;
                }
            }
        }
    }
    blind
}

/// A standard run: so many histories, and the small worlds that take seconds.
const CASES: u64 = 12_000;

#[test]
fn the_generator_has_no_blind_spot() {
    let mut blind = counted(1, CASES);
    for world in WORLDS {
        let search = Search { bound: world.bounds[0], jobs: 2 };
        let report = search.run(&|| Ok(Box::new(Hosted::rules())), None, &mut |_, _| ()).unwrap();
        blind.add(&report.blind);
    }
    let (possible, never) = (Blind::possible(), blind.never());
    let rare = possible.iter().filter(|pair| blind.count(pair) < 10).count();
    println!("{} pairs are possible; {} never, {rare} less than ten times", possible.len(), never.len());
    let lines = |pairs: &[Pair]| pairs.iter().map(|pair| format!("{pair}\n")).collect::<String>();
    assert!(never.is_empty(), "never done:\n{}", lines(&never));
    let unlisted = blind.unlisted();
    assert!(unlisted.is_empty(), "done, and not in the table of what is possible:\n{}", lines(&unlisted));
}

#[test]
fn an_impossible_pair_names_its_rule() {
    let undo = Pair { operation: "undo", argument: "an unknown one", state: "a record" };
    assert!(rule_against(&undo).is_some_and(|rule| rule.starts_with("3.4")));
    assert_eq!(rule_against(&Pair { state: "unknown", ..undo }), None);
}

/// Notes everything that is said.
struct Noted<'a> {
    subject: &'a mut dyn Subject,
    transcript: String,
}

impl Subject for Noted<'_> {
    fn name(&self) -> String {
        self.subject.name()
    }

    fn can(&self) -> Can {
        self.subject.can()
    }

    fn reset(&mut self) -> Result<(), String> {
        self.transcript += "reset\n";
        self.subject.reset()
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        let outcome = self.subject.perform(step);
        self.transcript += &format!("{step}: {outcome}\n");
        outcome
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let answers = self.subject.ask(questions);
        for (question, answer) in questions.iter().zip(&answers) {
            self.transcript += &format!("{question}: {answer}\n");
        }
        answers
    }
}

#[test]
fn the_same_seed_twice_gives_the_same_transcript() {
    let transcript = |seed: u64, subject: &mut dyn Subject| {
        let mut noted = Noted { subject, transcript: String::new() };
        for case in 0..20 {
            run::case(&mut noted, seed, case, 30, &mut Coverage::default()).unwrap();
        }
        noted.transcript
    };
    for make in [Hosted::rules, Hosted::memory] {
        let (one, other) = (transcript(5, &mut make()), transcript(5, &mut make()));
        assert!(one == other, "{} said something else the second time", make().name());
        assert!(one.lines().count() > 10_000);
        assert!(one != transcript(6, &mut make()));
    }
}
