//! The real ZODB at the other end of a pipe: whether the adapter reports ZODB's behaviour, on one history that has a
//! bit of everything. `cargo xtask peers` compares ZODB's behaviour with the rules, on many.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use vellum_harness::node::{Beside, Node};
use vellum_harness::pipe::Pipe;
use vellum_harness::question::{self, Answer, Question};
use vellum_harness::step::{Change, Data, Meta, Outcome, Refusal, Step};
use vellum_harness::subject::{Can, Subject};
use vellum_storage::{Oid, Tid};

/// Midnight of New Year 2026, and so many minutes.
fn minute(minutes: u64) -> Tid {
    Tid(Tid::at("2026-01-01T00:00:00Z".parse().unwrap()).0 + (minutes << 32))
}

fn counter(number: u8, strong: &[u64]) -> Node {
    let oids = |oids: &[u64]| oids.iter().map(|&oid| Oid(oid)).collect();
    Node {
        counter: true,
        number,
        strong: oids(strong),
        weak: oids(&[8]),
        foreign: oids(&[9]),
        odd: vec![],
        beside: Beside::Nothing,
    }
}

fn plain(number: u8, strong: &[u64]) -> Node {
    Node { counter: false, weak: vec![], foreign: vec![], ..counter(number, strong) }
}

fn data(node: &Node) -> Data {
    Data(node.encode())
}

fn store(oid: u64, serial: Tid, node: &Node) -> Change {
    Change::Store { oid: Oid(oid), serial, node: Some(node.clone()), version: String::new() }
}

fn restore(oid: u64, node: Option<&Node>, source: Option<Tid>) -> Change {
    Change::Restore { oid: Oid(oid), node: node.cloned(), version: String::new(), source, base: None }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peer/zodb.py");

fn python() -> String {
    std::env::var("VELLUM_PEER_PYTHON").expect("VELLUM_PEER_PYTHON names a Python that has ZODB 6.4")
}

struct Zodb(Pipe);

impl Zodb {
    fn start(arguments: &[&str]) -> Zodb {
        let arguments: Vec<String> = [&[SCRIPT], arguments].concat().into_iter().map(str::to_owned).collect();
        let mut zodb = Zodb(Pipe::start(&python(), &arguments).unwrap());
        zodb.0.reset().unwrap();
        zodb
    }

    fn done(&mut self, step: Step) {
        assert_eq!(self.0.perform(&step), Outcome::Done, "{step:?}");
    }

    fn vote_with(&mut self, meta: Meta, clock: Tid, changes: &[Change]) -> Outcome {
        let transaction = 'a';
        self.done(Step::Begin { transaction, meta });
        for change in changes {
            self.done(Step::Change { transaction, change: change.clone() });
        }
        self.0.perform(&Step::Vote { transaction, clock })
    }

    fn vote(&mut self, clock: Tid, changes: &[Change]) -> Outcome {
        self.vote_with(Meta::default(), clock, changes)
    }

    /// Commits, and returns the tid and the merged objects.
    fn commit(&mut self, clock: Tid, changes: &[Change]) -> (Tid, Vec<Oid>) {
        let voted = self.vote(clock, changes);
        let Outcome::Voted { resolved } = voted else { panic!("{voted:?}") };
        (self.finish(), resolved)
    }

    fn finish(&mut self) -> Tid {
        let finished = self.0.perform(&Step::Finish { transaction: 'a' });
        let Outcome::Finished { tid } = finished else { panic!("{finished:?}") };
        tid
    }

    fn refuses(&mut self, clock: Tid, changes: &[Change], why: Refusal) {
        assert_eq!(self.vote(clock, changes), Outcome::Refused { why });
    }

    fn pack(&mut self, to: Tid, collect: bool) {
        let packed = self.0.perform(&Step::Pack { to, collect, go_on: false });
        assert_eq!(packed, Outcome::Packed { dangling: None });
    }

    fn says(&mut self, question: Question, answer: Answer) {
        assert_eq!(self.0.ask(std::slice::from_ref(&question)), [answer], "{question:?}");
    }

    fn shows(&mut self, oid: u64, node: Option<&Node>, tid: Tid) {
        let answer = node.map_or(Answer::KeyError, |node| Answer::Loaded { data: data(node), tid });
        self.says(Question::Load { oid: Oid(oid), version: String::new() }, answer);
    }

    fn transactions(&mut self) -> Vec<question::Written> {
        let everything = Question::Transactions { first: Tid::ZERO, last: Tid::MAX, newest_first: false };
        let Some(Answer::Transactions { transactions }) = self.0.ask(&[everything]).pop() else { panic!("it fails") };
        transactions
    }
}

#[test]
#[ignore = "needs the real ZODB: cargo xtask peers"]
fn clocks_conflicts_and_deletions() {
    let mut zodb = Zodb::start(&[]);
    let can = Can {
        concurrent: false,
        sessions: false,
        versions: false,
        repeat: false,
        edges: false,
        dangling: false,
        untold: false,
        blobs: false,
        counts: false,
        ..Can::EVERYTHING
    };
    assert_eq!(zodb.0.can(), can);
    zodb.says(Question::LastTransaction, Answer::Tid { tid: Tid::ZERO });
    zodb.says(Question::CurrentRecords { first: Oid::ROOT }, Answer::CurrentRecords { records: vec![] });

    let t1 = zodb.commit(minute(1), &[store(0, Tid::ZERO, &plain(0, &[1])), store(1, Tid::ZERO, &counter(1, &[]))]).0;
    assert_eq!(t1, minute(1));
    // A clock that stands still, one that steps back, and one that is a bit later.
    let t2 = zodb.commit(minute(1), &[store(1, t1, &counter(2, &[]))]).0;
    let t3 = zodb.commit(minute(0), &[store(1, t2, &counter(3, &[]))]).0;
    let t4 =
        zodb.commit(Tid(minute(1).0 + 3), &[store(1, t3, &counter(5, &[2])), store(2, Tid::ZERO, &plain(7, &[]))]).0;
    assert_eq!([t2, t3, t4].map(|tid| tid.0 - t1.0), [1, 2, 3]);
    // An aborted transaction leaves no trace, not even in the tids.
    assert!(matches!(zodb.vote(minute(4), &[store(2, t4, &plain(8, &[]))]), Outcome::Voted { .. }));
    zodb.shows(2, Some(&plain(7, &[])), t4);
    zodb.done(Step::Abort { transaction: 'a' });

    // 5 is there, 3 was seen, 10 is new.
    let (t5, resolved) = zodb.commit(minute(4), &[store(1, t3, &counter(10, &[2]))]);
    assert_eq!((t5, resolved), (minute(4), vec![Oid(1)]));
    zodb.shows(1, Some(&counter(12, &[2])), t5);
    let entry = |tid, size| question::Entry { tid, user: "".into(), description: "".into(), version: "".into(), size };
    let size = counter(12, &[2]).encode().len() as u64;
    zodb.says(Question::History { oid: Oid(1), limit: 1 }, Answer::History { entries: vec![entry(t5, size)] });

    let (oid, serial, committed) = (Oid(2), t1, t4);
    zodb.refuses(minute(5), &[store(2, t1, &plain(1, &[]))], Refusal::Conflict { oid, committed, serial });
    zodb.refuses(minute(5), &[Change::Delete { oid, serial }], Refusal::Conflict { oid, committed, serial });
    zodb.refuses(minute(5), &[Change::CheckCurrent { oid, serial }], Refusal::ReadConflict { oid, committed, serial });
    zodb.refuses(minute(5), &[Change::Delete { oid: Oid(3), serial }], Refusal::Key { oid: Oid(3) });
    let empty = Change::Store { oid, serial: t4, node: None, version: String::new() };
    zodb.refuses(minute(5), &[empty], Refusal::Empty { oid });
    let long = Meta { user: "u".repeat(65_536), ..Meta::default() };
    assert_eq!(zodb.vote_with(long, minute(5), &[]), Outcome::Refused { why: Refusal::TooLong });

    let t6 = zodb.commit(minute(5), &[Change::Delete { oid, serial: t4 }]).0;
    assert_eq!(t6, minute(5));
    zodb.shows(2, None, t6);
    let (next, last) = (Some(t6), Question::LoadBefore { oid, before: t6 });
    zodb.says(last, Answer::Shown { data: data(&plain(7, &[])), tid: t4, next });
    zodb.says(Question::LoadBefore { oid, before: t4 }, Answer::NotYet);
    zodb.says(Question::LoadSerial { oid, tid: t4 }, Answer::Record { data: data(&plain(7, &[])) });
    zodb.refuses(
        minute(6),
        &[Change::CheckCurrent { oid, serial: t4 }],
        Refusal::ReadConflict { oid, committed: t6, serial: t4 },
    );
    zodb.commit(minute(6), &[Change::CheckCurrent { oid, serial: t6 }]);
    let root = (Oid(0), t1, data(&plain(0, &[1])));
    let records = vec![root, (Oid(1), t5, data(&counter(12, &[2])))];
    zodb.says(Question::CurrentRecords { first: Oid::ROOT }, Answer::CurrentRecords { records });
    let changed = vec![(t6, vec![oid]), (minute(6), vec![])];
    zodb.says(Question::LastInvalidations { count: 2 }, Answer::Invalidations { changed });
}

#[test]
#[ignore = "needs the real ZODB: cargo xtask peers"]
fn undo_and_the_undo_of_undo() {
    let mut zodb = Zodb::start(&[]);
    let t1 = zodb.commit(minute(1), &[store(0, Tid::ZERO, &plain(0, &[1])), store(1, Tid::ZERO, &counter(1, &[]))]).0;
    let t2 = zodb.commit(minute(2), &[store(1, t1, &counter(4, &[]))]).0;
    let t3 = zodb.commit(minute(3), &[Change::Undo { tid: t2 }]).0;
    zodb.shows(1, Some(&counter(1, &[])), t3);
    let t4 = zodb.commit(minute(4), &[Change::Undo { tid: t3 }]).0;
    zodb.shows(1, Some(&counter(4, &[])), t4);
    let t5 = zodb.commit(minute(5), &[Change::Undo { tid: t4 }]).0;
    let sources: Vec<_> = zodb.transactions().iter().map(|t| t.revisions[t.revisions.len() - 1].source).collect();
    assert_eq!(sources, [None, None, Some(t1), Some(t2), Some(t1)]);

    // Four more, and then without the three of the second transaction: merged, and no transaction stored the result.
    let t6 = zodb.commit(minute(6), &[Change::Undo { tid: t5 }]).0;
    let t7 = zodb.commit(minute(7), &[store(1, t6, &counter(8, &[]))]).0;
    assert_eq!(zodb.commit(minute(8), &[Change::Undo { tid: t2 }]), (minute(8), vec![]));
    zodb.shows(1, Some(&counter(5, &[])), minute(8));
    zodb.refuses(minute(9), &[Change::Undo { tid: t1 }], Refusal::UndoConflict { oids: vec![Oid(1)] });
    zodb.refuses(minute(9), &[Change::Undo { tid: Tid(77) }], Refusal::NotUndoable { tid: Tid(77) });

    let line = |tid| question::Entry { tid, user: "".into(), description: "".into(), version: "".into(), size: 0 };
    zodb.says(Question::UndoLog { first: 1, last: 3 }, Answer::UndoLog { entries: vec![line(t7), line(t6)] });
    let all = [minute(8), t7, t6, t5, t4, t3, t2, t1].map(line).to_vec();
    zodb.says(Question::UndoLog { first: 0, last: usize::MAX }, Answer::UndoLog { entries: all });

    let t9 = zodb.commit(minute(9), &[store(2, Tid::ZERO, &plain(1, &[]))]).0;
    zodb.commit(minute(10), &[Change::Undo { tid: t9 }]);
    zodb.shows(2, None, t9);
}

#[test]
#[ignore = "needs the real ZODB: cargo xtask peers"]
fn packing_and_opening_again() {
    for collect in [false, true] {
        let mut zodb = Zodb::start(&[]);
        let first = [store(0, Tid::ZERO, &plain(0, &[1])), store(1, Tid::ZERO, &plain(1, &[]))];
        let t1 = zodb.commit(minute(1), &first).0;
        zodb.commit(minute(2), &[store(2, Tid::ZERO, &plain(2, &[])), store(3, Tid::ZERO, &plain(3, &[]))]);
        let t3 = zodb.commit(minute(3), &[store(1, t1, &plain(11, &[]))]).0;
        let t4 = zodb.commit(Tid(minute(3).0 + 1), &[store(1, t3, &plain(12, &[]))]).0;
        // The third is referred to after the time of the pack only, the second never.
        let t5 = zodb.commit(minute(5), &[store(1, t4, &plain(13, &[3]))]).0;
        zodb.pack(t4, collect);
        let packed: Vec<_> = zodb.transactions().iter().map(|t| (t.tid, t.packed, t.revisions.len())).collect();
        let second = (minute(2), true, if collect { 1 } else { 2 });
        assert_eq!(packed, [(t1, true, 1), second, (t4, true, 1), (t5, false, 1)], "{collect}");
        zodb.says(Question::LoadBefore { oid: Oid(1), before: t4 }, Answer::NotYet);
        zodb.shows(3, Some(&plain(3, &[])), minute(2));
        zodb.refuses(minute(6), &[Change::Undo { tid: t4 }], Refusal::NotUndoable { tid: t4 });

        // Voted, but not finished, when it is closed.
        assert!(matches!(zodb.vote(minute(6), &[store(1, t5, &plain(14, &[]))]), Outcome::Voted { .. }));
        let before = zodb.transactions();
        zodb.done(Step::Reopen { read_only: true });
        assert_eq!(zodb.transactions(), before);
        zodb.refuses(minute(6), &[store(1, t5, &plain(14, &[]))], Refusal::ReadOnly);
        let pack = Step::Pack { to: minute(6), collect, go_on: false };
        assert_eq!(zodb.0.perform(&pack), Outcome::Refused { why: Refusal::ReadOnly });
        zodb.done(Step::Reopen { read_only: false });
        assert_eq!(zodb.commit(minute(6), &[store(1, t5, &plain(14, &[]))]).0, minute(6));
    }
}

#[test]
#[ignore = "needs the real ZODB: cargo xtask peers"]
fn copying() {
    let mut zodb = Zodb::start(&[]);
    let meta = |tid, packed| Meta {
        user: "ada".to_owned(),
        description: "copied äöü".to_owned(),
        extension: true,
        tid: Some(tid),
        packed,
    };
    let mut copy = |tid, packed, changes: &[Change]| {
        assert_eq!(zodb.vote_with(meta(tid, packed), minute(0), changes), Outcome::Voted { resolved: vec![] });
        assert_eq!(zodb.finish(), tid);
    };
    let (old, new) = (plain(1, &[]), plain(2, &[]));
    copy(minute(1), true, &[restore(0, Some(&old), None)]);
    copy(minute(2), false, &[restore(0, Some(&new), None)]);
    copy(minute(3), false, &[restore(0, Some(&old), Some(minute(1)))]);
    // A transaction that is not there, and one that has other data.
    copy(minute(4), false, &[restore(0, Some(&new), Some(Tid(5)))]);
    copy(minute(5), false, &[restore(0, Some(&old), Some(minute(2)))]);
    copy(minute(6), false, &[restore(0, None, None)]);
    let not_later = zodb.vote_with(meta(minute(6), false), minute(7), &[]);
    assert_eq!(not_later, Outcome::Refused { why: Refusal::NotLater });

    let written = zodb.transactions();
    let revisions: Vec<_> = written.iter().map(|t| (t.revisions[0].data.clone(), t.revisions[0].source)).collect();
    let own = |node: &Node| (Some(data(node)), None);
    let shared = (Some(data(&old)), Some(minute(1)));
    assert_eq!(revisions, [own(&old), own(&new), shared, own(&new), own(&old), (None, None)]);
    assert_eq!(written.iter().map(|t| t.packed).collect::<Vec<_>>(), [true, false, false, false, false, false]);
    assert_eq!((&*written[0].user, &*written[0].description), ("ada", "copied äöü"));
    assert_eq!(written[0].extension, Data(vellum_harness::step::EXTENSION.into()));
}

#[test]
#[ignore = "needs the real ZODB: cargo xtask peers"]
fn everything_is_answered_and_soon() {
    let mut zodb = Zodb::start(&[]);
    let mut serial = Tid::ZERO;
    for n in 1..8 {
        let node = counter(n, &[1, 2]);
        serial = zodb.commit(minute(n.into()), &[0, 1, 2, 3].map(|oid| store(oid, serial, &node))).0;
    }
    let oids: BTreeSet<Oid> = (0..5).map(Oid).collect();
    let tids: BTreeSet<Tid> = (1..8).map(minute).collect();
    let questions = question::all(zodb.0.can(), &oids, &BTreeSet::new(), &tids);
    let begin = Instant::now();
    let answers = zodb.0.ask(&questions);
    let (count, elapsed) = (questions.len(), begin.elapsed());
    println!("{count} questions in {elapsed:?}");
    assert!(!answers.iter().any(|answer| matches!(answer, Answer::Failed { .. })), "{answers:?}");
}

#[test]
#[ignore = "needs the real ZODB: cargo xtask peers"]
fn raw_is_what_zodb_does() {
    let mut zodb = Zodb::start(&["--raw"]);
    let t1 = zodb.commit(minute(1), &[store(0, Tid::ZERO, &plain(0, &[])), store(1, Tid::ZERO, &plain(1, &[]))]).0;
    zodb.commit(minute(2), &[Change::Delete { oid: Oid(0), serial: t1 }]);
    let Answer::Failed { message } = &zodb.0.ask(&[Question::CurrentRecords { first: Oid::ROOT }])[0] else {
        panic!("ZODB's walk does not stop any more; then the adapter need not step over it");
    };
    assert!(message.starts_with("POSKeyError"), "{message}");
}

#[test]
#[ignore = "needs the real ZODB: cargo xtask peers"]
fn the_documented_example_is_what_zodb_says() {
    let page = include_str!("../../../../docs/peers.md");
    let lines = |mark: &'static str| page.lines().filter_map(move |line| line.strip_prefix(mark));
    let mut zodb = Command::new(python()).arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, from) = (zodb.stdin.take().unwrap(), zodb.stdout.take().unwrap());
    lines("> ").for_each(|said| writeln!(to, "{said}").unwrap());
    drop(to);
    let answers: Vec<String> = BufReader::new(from).lines().map(Result::unwrap).collect();
    assert_eq!(answers, lines("< ").collect::<Vec<_>>());
    assert!(zodb.wait().unwrap().success());
}
