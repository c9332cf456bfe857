//! The applications: what their threads do next, and what they make of an answer.

use vellum_client::{self as client, Answer, Ask, ClientError, PromiseId, TransactionId, Voted};
use vellum_storage::{Change, Oid, Origin, Tid, TransactionMeta, Version};
use vellum_wire::{Fault, Reach};

use crate::state::{Asked, Broken, End, Fate, NAMES, Stage, Thread};
use crate::step::{Going, note};
use crate::{Seen, Step};

use std::fmt::Write as _;

/// Promises of one thread are numbered from here on, so that their names do not depend on the other threads.
const PROMISES_OF_A_THREAD: u64 = 1000;

impl Step {
    /// The objects that are looked at before a change.
    fn reads(self) -> Vec<Oid> {
        match self {
            Step::Write(oid) | Step::WriteAndAbort(oid) => vec![Oid(oid)],
            Step::WriteAndCheck { written, checked } => vec![Oid(written), Oid(checked)],
            _ => vec![],
        }
    }
}

impl Going<'_> {
    fn step_of(&self, client: usize, thread: usize) -> Step {
        self.world.situation.clients[client][thread][self.state.clients[client].threads[thread].at]
    }

    fn thread(&mut self, client: usize, thread: usize) -> &mut Thread {
        &mut self.state.clients[client].edit().threads[thread]
    }

    fn promise(&mut self, client: usize, thread: usize) -> PromiseId {
        let here = self.thread(client, thread);
        here.asked += 1;
        let promise = PromiseId(thread as u64 * PROMISES_OF_A_THREAD + here.asked);
        self.state.clients[client].edit().open.insert(promise);
        promise
    }

    fn ask(&mut self, client: usize, promise: PromiseId, ask: Ask) {
        note!(self, "{:<4} is asked {}: {}", NAMES[client], promise.0, show_ask(&ask));
        self.client(client, client::Event::Asked { promise, ask });
    }

    /// Asks something that a thread waits for.
    fn wait_for(&mut self, client: usize, thread: usize, stage: impl FnOnce(PromiseId) -> Stage, ask: Ask) {
        let promise = self.promise(client, thread);
        self.thread(client, thread).stage = stage(promise);
        self.ask(client, promise, ask);
    }

    /// Loads for a thread.
    fn load(&mut self, client: usize, thread: usize, oid: Oid, before: Option<Tid>, found: Option<Vec<Tid>>) {
        let knew = self.state.clients[client].machine.last();
        let stage = |promise| {
            let asked = Asked { promise, oid, before, knew };
            match found {
                None => Stage::Loading(asked),
                Some(found) => Stage::Reading(asked, found),
            }
        };
        self.wait_for(client, thread, stage, Ask::Load { oid, before });
    }

    /// Has a client load an object, so that it is in its cache.
    pub fn warm(&mut self, client: usize, oid: Oid) {
        let promise = PromiseId(PROMISES_OF_A_THREAD - 1 - oid.0);
        self.state.clients[client].edit().open.insert(promise);
        self.ask(client, promise, Ask::Load { oid, before: None });
    }

    /// A thread does its next step.
    pub fn thread_goes_on(&mut self, client: usize, thread: usize) {
        let step = self.step_of(client, thread);
        if let Stage::Voting { transaction, .. } = self.state.clients[client].threads[thread].stage {
            return self.abort(client, thread, transaction);
        }
        let last = self.state.clients[client].machine.last();
        match step {
            Step::Load(oid) => self.load(client, thread, Oid(oid), None, None),
            Step::LoadPast(oid) => self.load(client, thread, Oid(oid), last.or(Some(Tid(1))), None),
            Step::Write(_) | Step::WriteAndAbort(_) | Step::WriteAndCheck { .. } => {
                self.load(client, thread, step.reads()[0], None, Some(vec![]));
            }
            Step::LoadAll => {
                let ask = Ask::LoadMany { oids: self.all(), before: None };
                self.wait_for(client, thread, |promise| Stage::Fetching { promise, knew: last }, ask);
            }
            Step::Prefetch => {
                let reach = Reach { depth: 0, count: 100, bytes: 1 << 12 };
                let ask = Ask::Prefetch { oids: self.all(), before: None, reach };
                self.wait_for(client, thread, |promise| Stage::Waiting { promise }, ask);
            }
            Step::Sync => self.wait_for(client, thread, |promise| Stage::Waiting { promise }, Ask::Sync),
            Step::Pack => {
                let to = Tid(1 << 40);
                self.wait_for(client, thread, |promise| Stage::Waiting { promise }, Ask::Pack { to });
            }
        }
    }

    fn all(&self) -> Vec<Oid> {
        (0..self.world.situation.objects).map(Oid).collect()
    }

    fn next_step(&mut self, client: usize, thread: usize) {
        let here = self.thread(client, thread);
        here.stage = Stage::Ready;
        here.at += 1;
    }

    fn abort(&mut self, client: usize, thread: usize, transaction: TransactionId) {
        self.end(client, thread, End::Gone);
        self.wait_for(client, thread, |promise| Stage::Aborting { promise }, Ask::Abort { transaction });
    }

    /// The record that this step of a thread writes.
    fn record(&self, client: usize, thread: usize) -> (Oid, Vec<u8>) {
        let oid = self.step_of(client, thread).reads()[0];
        let at = self.state.clients[client].threads[thread].at;
        (oid, format!("{} {thread}.{at} {}", NAMES[client], oid.0).into_bytes())
    }

    /// The application is told how a transaction ended.
    fn end(&mut self, client: usize, thread: usize, end: End) {
        let (oid, data) = self.record(client, thread);
        if end == End::Unknown {
            let is_there = self
                .state
                .store
                .history
                .transactions
                .iter()
                .flat_map(|there| &there.revisions)
                .any(|there| matches!(&there.content, vellum_spec::Content::Data(found) if *found == data));
            self.seen(if is_there { Seen::FinishUnknown } else { Seen::FinishLost });
        }
        let fates = &mut self.state.clients[client].edit().fates;
        match fates.iter_mut().find(|fate| fate.data == data) {
            Some(fate) => fate.end = end,
            None => fates.push(Fate { oid, data, end }),
        }
        // The order of threads says nothing.
        fates.sort_by(|one, other| one.data.cmp(&other.data));
    }

    /// A question has its answer.
    pub fn answered(&mut self, client: usize, promise: PromiseId, outcome: Result<Answer, ClientError>) {
        let shown = match &outcome {
            Ok(answer) => show_answer(answer),
            Err(error) => format!("an error: {error}"),
        };
        note!(self, "{:<4} answers {}: {shown}", NAMES[client], promise.0);
        if !self.state.clients[client].edit().open.remove(&promise) {
            return self.broken(Broken::Answered, &format!("{} of {}", promise.0, NAMES[client]));
        }
        if matches!(outcome, Err(ClientError::TimedOut { .. })) {
            self.seen(Seen::ClientGaveUp);
        }
        let thread = (promise.0 / PROMISES_OF_A_THREAD) as usize;
        let stage = self.state.clients[client].threads[thread].stage.clone();
        match stage {
            Stage::Loading(asked) if asked.promise == promise => {
                self.judge_load(client, &asked, &outcome);
                self.next_step(client, thread);
            }
            Stage::Fetching { promise: of, knew } if of == promise => {
                self.judge_many(client, promise, knew, outcome);
                self.next_step(client, thread);
            }
            Stage::Reading(asked, found) if asked.promise == promise => {
                self.judge_load(client, &asked, &outcome);
                self.has_read(client, thread, found, outcome);
            }
            Stage::Beginning { promise: begin, serials } if begin == promise => match outcome {
                Ok(Answer::Begun(transaction)) => self.change_and_vote(client, thread, transaction, &serials),
                _ => {
                    self.end(client, thread, End::Gone);
                    self.next_step(client, thread);
                }
            },
            Stage::Voting { promise: vote, transaction } if vote == promise => {
                self.voted(client, thread, transaction, outcome);
            }
            Stage::Finishing { promise: finish } if finish == promise => {
                let end = match outcome {
                    Ok(Answer::Tid(tid)) => End::Finished(tid),
                    Err(ClientError::OutcomeUnknown { .. } | ClientError::Refused(_)) => End::Unknown,
                    _ => End::Gone,
                };
                self.end(client, thread, end);
                self.next_step(client, thread);
            }
            Stage::Aborting { promise: of } | Stage::Waiting { promise: of } if of == promise => {
                self.next_step(client, thread);
            }
            // A change, or a vote that was given up.
            _ => {}
        }
    }

    /// An object was read before a change.
    fn has_read(&mut self, client: usize, thread: usize, mut found: Vec<Tid>, outcome: Result<Answer, ClientError>) {
        let Ok(Answer::Loaded(Some(loaded))) = outcome else { return self.next_step(client, thread) };
        found.push(loaded.tid);
        let step = self.step_of(client, thread);
        if let Some(next) = step.reads().get(found.len()) {
            return self.load(client, thread, *next, None, Some(found));
        }
        self.end(client, thread, End::Open);
        let ask = Ask::Begin { meta: TransactionMeta::new(), origin: Origin(1) };
        self.wait_for(client, thread, |promise| Stage::Beginning { promise, serials: found }, ask);
    }

    fn change_and_vote(&mut self, client: usize, thread: usize, transaction: TransactionId, serials: &[Tid]) {
        let (oid, data) = self.record(client, thread);
        let data = bytes::Bytes::from(data).into();
        let store = Change::Store { oid, serial: serials[0], version: Version::TRUNK, data };
        let mut changes = vec![store];
        if let Step::WriteAndCheck { checked, .. } = self.step_of(client, thread) {
            changes.push(Change::CheckCurrent { oid: Oid(checked), serial: serials[1] });
        }
        // The vote comes after them, and tells of their faults.
        for change in changes {
            let promise = self.promise(client, thread);
            self.ask(client, promise, Ask::Change { transaction, change });
        }
        self.wait_for(client, thread, |promise| Stage::Voting { promise, transaction }, Ask::Vote { transaction });
    }

    /// A client that is refused for a transaction can load what that wrote: it was told of it.
    fn judge_refusal(&mut self, client: usize, committed: Tid) {
        if self.state.clients[client].machine.last() < Some(committed) {
            self.broken(Broken::Future, &format!("{} is refused for {}", NAMES[client], committed.0));
        }
    }

    fn voted(
        &mut self,
        client: usize,
        thread: usize,
        transaction: TransactionId,
        outcome: Result<Answer, ClientError>,
    ) {
        let aborts = matches!(self.step_of(client, thread), Step::WriteAndAbort(_));
        match outcome {
            Ok(Answer::Voted(Voted::Ready(_))) if !aborts => {
                self.wait_for(client, thread, |promise| Stage::Finishing { promise }, Ask::Finish { transaction });
            }
            Ok(_) => self.abort(client, thread, transaction),
            Err(error) => {
                if let ClientError::Refused(Fault::Conflict { committed, .. }) = error {
                    self.seen(Seen::Conflict);
                    self.judge_refusal(client, committed);
                }
                if let ClientError::Refused(Fault::ReadConflict { committed, .. }) = error {
                    self.seen(Seen::ReadConflict);
                    self.judge_refusal(client, committed);
                }
                self.end(client, thread, End::Gone);
                self.next_step(client, thread);
            }
        }
    }
}

fn show_ask(ask: &Ask) -> String {
    match ask {
        Ask::Load { oid, before: None } => format!("load #{}", oid.0),
        Ask::Load { oid, before: Some(before) } => format!("load #{} before {}", oid.0, before.0),
        Ask::Change { change: Change::Store { oid, serial, .. }, .. } => format!("store #{} over {}", oid.0, serial.0),
        Ask::Change { change: Change::CheckCurrent { oid, serial }, .. } => format!("check #{} at {}", oid.0, serial.0),
        other => other.name().to_owned(),
    }
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Done => "done".to_owned(),
        Answer::Tid(of) => of.0.to_string(),
        Answer::Loaded(None) => "nothing yet".to_owned(),
        Answer::Loaded(Some(loaded)) => {
            let next = loaded.next.map_or("now".to_owned(), |next| next.0.to_string());
            format!("{:?} since {}, until {next}", String::from_utf8_lossy(&loaded.data), loaded.tid.0)
        }
        Answer::Begun(id) => format!("transaction {}", id.0),
        Answer::Voted(Voted::Ready(_)) => "it can be finished".to_owned(),
        other => format!("{other:?}"),
    }
}
