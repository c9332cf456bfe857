//! The example in docs/peers.md is what the harness says, and it understands the answers.

use std::process::Command;

use vellum_harness::campaign::Campaign;
use vellum_harness::node::Node;
use vellum_harness::pipe::Pipe;
use vellum_harness::question::{Answer, Entry, Question, Written};
use vellum_harness::step::{Change, Data, Meta, Outcome, Refusal, Step};
use vellum_harness::subject::Subject;
use vellum_storage::{Oid, Tid};

/// The lines, and their answers.
fn example() -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../../../docs/peers.md");
    let lines = |mark: &'static str| page.lines().filter_map(move |line| line.strip_prefix(mark));
    lines("> ").zip(lines("< ")).collect()
}

fn json(what: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(what).unwrap()
}

#[test]
fn the_example_is_what_the_harness_says() {
    let (transaction, version) = ('a', String::new());
    let (oid, serial) = (Oid(0), Tid::ZERO);
    let node = Some(Node { number: 5, ..Node::default() });
    let ada = Meta { user: "ada".to_owned(), ..Meta::default() };
    let clock = |minute: u64| Tid(0x0405_e700_0000_0000 + (minute << 32));
    let store = Change::Store { oid, serial, node, version: version.clone() };
    let load = |oid| Question::Load { oid: Oid(oid), version: version.clone() };
    let said = [
        r#"{"do":"hello"}"#.to_owned(),
        r#"{"do":"reset"}"#.to_owned(),
        json(&Step::Begin { transaction, meta: ada }),
        json(&Step::Change { transaction, change: store }),
        json(&Step::Vote { transaction, clock: clock(1) }),
        json(&Step::Finish { transaction }),
        json(&[load(0), load(1), Question::History { oid, limit: 1 }]),
        json(&Step::Begin { transaction, meta: Meta::default() }),
        json(&Step::Change { transaction, change: Change::Delete { oid, serial: Tid(7) } }),
        json(&Step::Vote { transaction, clock: clock(2) }),
        json(&Step::Pack { to: clock(2), collect: true, go_on: false }),
        json(&Step::Reopen { read_only: false }),
    ];
    assert_eq!(example().iter().map(|(said, _)| *said).collect::<Vec<_>>(), said);
}

#[test]
fn the_harness_understands_the_examples_answers() {
    for (said, answer) in &example()[1..] {
        let again = match said.starts_with('[') {
            true => json(&serde_json::from_str::<Vec<Answer>>(answer).unwrap()),
            false => json(&serde_json::from_str::<Outcome>(answer).unwrap()),
        };
        assert_eq!(again, *answer);
    }
}

#[test]
fn answers_are_lines_and_back() {
    let (oid, tid, data) = (Oid(1), Tid(2), Data(Node::default().encode()));
    let [user, description, version] = ["ada", "a \"b\"\n", "draft"].map(str::to_owned);
    let entry = Entry { tid, user: user.clone(), description: description.clone(), version: version.clone(), size: 3 };
    let revision = |data, source| vellum_harness::question::Change {
        oid,
        version: version.clone(),
        data,
        blob: None,
        source,
        base: None,
    };
    let revisions = vec![revision(Some(data.clone()), Some(tid)), revision(None, None)];
    let extension = Data(bytes::Bytes::new());
    let written = Written { tid, packed: true, user, description, extension, revisions };
    let answers = [
        Answer::KeyError,
        Answer::NotYet,
        Answer::Loaded { data: data.clone(), tid },
        Answer::Shown { data: data.clone(), tid, next: None },
        Answer::Record { data: data.clone() },
        Answer::History { entries: vec![entry.clone()] },
        Answer::UndoLog { entries: vec![Entry { version: String::new(), size: 0, ..entry }] },
        Answer::Transactions { transactions: vec![written] },
        Answer::Tid { tid },
        Answer::Invalidations { changed: vec![(tid, vec![oid])] },
        Answer::CurrentRecords { records: vec![(oid, tid, data)] },
        Answer::Version { version: version.clone() },
        Answer::Versions { versions: vec![version] },
        Answer::Failed { message: "alas".to_owned() },
    ];
    for answer in answers {
        assert_eq!(serde_json::from_str::<Answer>(&json(&answer)).unwrap(), answer);
    }
    let (committed, serial) = (tid, Tid::ZERO);
    let refusals = [
        Refusal::Key { oid },
        Refusal::Conflict { oid, committed, serial },
        Refusal::ReadConflict { oid, committed, serial },
        Refusal::VersionLock { oid },
        Refusal::VersionEnd,
        Refusal::NotUndoable { tid },
        Refusal::UndoConflict { oids: vec![oid] },
        Refusal::Empty { oid },
        Refusal::TooLong,
        Refusal::NotLater,
        Refusal::ReadOnly,
        Refusal::Untold { oid },
        Refusal::Dangling { references: vec![(oid, oid)] },
    ];
    let mut outcomes: Vec<Outcome> = refusals.into_iter().map(|why| Outcome::Refused { why }).collect();
    outcomes.extend([Outcome::Done, Outcome::Busy, Outcome::Finished { tid }, Outcome::Voted { resolved: vec![oid] }]);
    outcomes.extend([Outcome::Packed { dangling: Some(vec![(oid, oid)]) }, Outcome::Packed { dangling: None }]);
    outcomes.push(Outcome::Failed { message: "alas".to_owned() });
    for outcome in outcomes {
        assert_eq!(serde_json::from_str::<Outcome>(&json(&outcome)).unwrap(), outcome);
    }
}

#[test]
fn the_example_keeps_the_rules() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/peer/example.py");
    let lines = include_str!("../../peer/example.py").lines().count();
    assert!(lines < 100, "the page says that it is shorter than {lines} lines");
    if Command::new("python3").arg("--version").output().is_err() {
        return; // `cargo test` needs only cargo.
    }
    let start = || Ok(Box::new(Pipe::start("python3", &[program.to_owned()])?) as Box<dyn Subject>);
    let report = Campaign { cases: 100, ..Campaign::default() }.run(&start, &|_| ()).unwrap();
    let found: Vec<_> = report.found.iter().map(|found| found.difference.to_string()).collect();
    assert_eq!(found, Vec::<String>::new());
    assert!(report.coverage.steps > 1000, "{}", report.coverage.steps);
}
