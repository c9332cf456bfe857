//! A storage of ours under the harness: whatever implements [`Storage`], with a clock that the harness sets.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use vellum_storage::{
    Blob, Clock, Content, Contested, Draft, Error, ManualClock, MemoryStorage, Order, PackOptions, Refusal as Refused,
    Resolver, Revision, Storage, Tid, TidRange, TransactionMeta, TransactionRecord, Verdict, Version, Vote, Voted,
    Write,
};

use crate::node::{self, Beside};
use crate::question::{Answer, Change as Shown, Entry, Question, Written};
use crate::rules::Rules;
use crate::step::{Change, Data, Meta, Name, Outcome, Refusal, Step};
use crate::subject::{Can, Subject};

/// Opens a storage: the first time an empty one (`fresh`), then the existing one, perhaps for reading only.
pub type Opener = dyn FnMut(Opening) -> Result<Box<dyn Storage>, Error> + Send;

/// How to open it.
#[derive(Clone, Debug)]
pub struct Opening {
    /// An empty database, wherever: nothing of an earlier one.
    pub fresh: bool,
    /// For reading only.
    pub read_only: bool,
    /// Where its tids come from.
    pub clock: Arc<ManualClock>,
}

/// The harness's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Merger;

impl Resolver for Merger {
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        node::merge(contested.ancestor, contested.committed, contested.new)
    }
}

/// A [`Storage`], as the harness drives it.
pub struct Hosted {
    name: String,
    can: Can,
    opener: Box<Opener>,
    clock: Arc<ManualClock>,
    storage: Option<Box<dyn Storage>>,
    drafts: HashMap<Name, Draft>,
    voted: HashMap<Name, Voted>,
    has_verdicts: bool,
}

impl Hosted {
    /// A storage that `opener` opens. It should use [`Merger`] if it declares to resolve.
    pub fn new(
        name: impl Into<String>,
        can: Can,
        opener: impl FnMut(Opening) -> Result<Box<dyn Storage>, Error> + Send + 'static,
    ) -> Hosted {
        Hosted {
            name: name.into(),
            can,
            opener: Box::new(opener),
            clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)),
            storage: None,
            drafts: HashMap::new(),
            voted: HashMap::new(),
            // Rule 4.12: a commit may forget a part of what it writes.
            has_verdicts: can.forgets.is_none(),
        }
    }

    /// The same for a storage that does not show what a transaction will write, such as one at the other end of a wire.
    /// The written revisions are still checked against the rules.
    pub fn without_verdicts(self) -> Hosted {
        Hosted { has_verdicts: false, ..self }
    }

    /// The specification, driven as any storage of ours is.
    pub fn rules() -> Hosted {
        Hosted::rules_of(Can::EVERYTHING, |clock| {
            Rules::new(Default::default(), clock, Arc::new(Merger), node::Node::references)
        })
    }

    /// The specification of a history-free database (rule 4.12) that keeps what is old for so many seconds.
    pub fn history_free_rules(seconds: u64) -> Hosted {
        let can = Can { undo: false, forgets: Some(seconds), ..Can::EVERYTHING };
        let grace = Duration::from_secs(seconds);
        Hosted::rules_of(can, move |clock| Rules::history_free(grace, clock, Arc::new(Merger), node::Node::references))
    }

    /// The storage in memory.
    pub fn memory() -> Hosted {
        let can = Can::EVERYTHING.without(Can { reopen: true, read_only: true, counts: true, ..Can::default() });
        Hosted::new("MemoryStorage", can, |Opening { clock, .. }| {
            Ok(Box::new(MemoryStorage::with("memory", clock, Arc::new(Merger))))
        })
    }

    fn rules_of(can: Can, empty: impl Fn(Arc<dyn Clock>) -> Rules + Send + 'static) -> Hosted {
        let mut last: Option<Rules> = None;
        Hosted::new("the specification", can, move |Opening { fresh, read_only, clock }| {
            let rules = match last.take() {
                Some(rules) if !fresh => rules.reopened(read_only, clock, Arc::new(Merger)),
                _ => empty(clock),
            };
            last = Some(rules.clone());
            Ok(Box::new(rules))
        })
    }

    fn open(&mut self, fresh: bool, read_only: bool) -> Result<(), Error> {
        self.drafts.clear();
        self.voted.clear();
        self.storage = None;
        self.storage = Some((self.opener)(Opening { fresh, read_only, clock: Arc::clone(&self.clock) })?);
        Ok(())
    }

    fn storage(&self) -> Result<&dyn Storage, Trouble> {
        self.storage.as_deref().ok_or(Trouble::Missing("an open storage"))
    }

    fn begin(&mut self, name: Name, meta: &Meta) -> Result<Outcome, Trouble> {
        let mut said = TransactionMeta::new()
            .user(meta.user.clone())
            .description(meta.description.clone())
            .extension(meta.extension());
        said.tid = meta.tid;
        if meta.packed {
            said.status = vellum_storage::Status::Packed;
        }
        let draft = self.storage()?.begin(said)?;
        self.drafts.insert(name, draft);
        Ok(Outcome::Done)
    }

    fn change(&mut self, name: Name, change: &Change) -> Result<Outcome, Trouble> {
        let blob = match change {
            Change::Store { node: Some(node), .. } | Change::Restore { node: Some(node), .. } => {
                blob_with(self.storage()?, node)?
            }
            _ => None,
        };
        let draft = self.drafts.get_mut(&name).ok_or(Trouble::Missing("such a transaction"))?;
        let record = |node: &Option<node::Node>| node.as_ref().map(node::Node::encode);
        let version = |name: &String| Version::named(name.clone());
        match change {
            Change::Store { oid, serial, node, version: v } => {
                let data = vellum_storage::Data::from(record(node).unwrap_or_default()).with_blob(blob);
                draft.push(vellum_storage::Change::Store { oid: *oid, serial: *serial, version: version(v), data })?;
            }
            Change::Delete { oid, serial } => draft.delete(*oid, *serial)?,
            Change::CheckCurrent { oid, serial } => draft.check_current(*oid, *serial)?,
            Change::Undo { tid } => draft.undo(*tid)?,
            Change::CommitVersion { from, to } => draft.commit_version(&version(from), &version(to))?,
            Change::AbortVersion { from } => draft.abort_version(&version(from))?,
            Change::Restore { oid, node, version: v, source, base } => {
                let (data, version) = (record(node), version(v));
                draft.restore(Revision { oid: *oid, version, data, blob, source: *source, base: *base })?;
            }
        }
        Ok(Outcome::Done)
    }

    fn vote(&mut self, name: Name, clock: Tid) -> Result<Outcome, Trouble> {
        self.clock.set(clock.time().ok_or(Trouble::Missing("such a time"))?);
        let draft = self.drafts.remove(&name).ok_or(Trouble::Missing("such a transaction"))?;
        match self.storage()?.try_vote(draft)? {
            Vote::Voted(voted) => {
                let mut resolved = voted.merged().to_vec();
                resolved.sort();
                resolved.dedup();
                self.voted.insert(name, voted);
                Ok(Outcome::Voted { resolved })
            }
            Vote::Busy(waiting) => {
                self.drafts.insert(name, waiting.into_draft());
                Ok(Outcome::Busy)
            }
        }
    }

    /// Finishes a transaction, which must write what its verdict said.
    fn finish(&mut self, name: Name) -> Result<Outcome, Trouble> {
        let voted = self.voted.remove(&name).ok_or(Trouble::Missing("such a transaction"))?;
        if !self.has_verdicts {
            return Ok(Outcome::Finished { tid: voted.finish()? });
        }
        let (verdict, touched) = (voted.verdict()?, voted.touched().to_vec());
        let tid = voted.finish()?;
        let written = self.storage()?.transactions(TidRange { first: tid, last: tid }, Order::OldestFirst)?.next();
        let kept = written.transpose()?.is_some_and(|written| is_kept(&verdict, &written));
        if !kept || touched != verdict.touched() {
            return Ok(Outcome::Failed { message: format!("it wrote something else than {verdict:?}") });
        }
        Ok(Outcome::Finished { tid })
    }

    fn try_perform(&mut self, step: &Step) -> Result<Outcome, Trouble> {
        match step {
            Step::Begin { transaction, meta } => self.begin(*transaction, meta),
            Step::Change { transaction, change } => self.change(*transaction, change),
            Step::Vote { transaction, clock } => self.vote(*transaction, *clock),
            Step::Finish { transaction } => self.finish(*transaction),
            Step::Commit { .. } => Err(Trouble::Missing("a commit in one go")),
            Step::Abort { transaction } => {
                self.drafts.remove(transaction);
                self.voted.remove(transaction);
                Ok(Outcome::Done)
            }
            Step::Pack { to, collect, go_on } => {
                let pack = self.storage()?.pack().ok_or(Trouble::Missing("packing"))?;
                let report = pack.pack(*to, PackOptions::default().collect(*collect).go_on(*go_on))?;
                Ok(Outcome::Packed { dangling: self.can.dangling.then_some(report.dangling) })
            }
            Step::PackByCounts { to } => {
                let pack = self.storage()?.pack().and_then(|pack| pack.counts());
                pack.ok_or(Trouble::Missing("packing by counts"))?.pack_by_counts(*to)?;
                Ok(Outcome::Packed { dangling: self.can.dangling.then(Vec::new) })
            }
            Step::Reopen { read_only } => {
                self.open(false, *read_only)?;
                Ok(Outcome::Done)
            }
        }
    }
}

/// Whether a transaction is what its verdict promised. Which revision holds the data that one shares is another
/// question: a verdict may name one that shares it in turn.
fn is_kept(verdict: &Verdict, written: &TransactionRecord) -> bool {
    let is_last = |n: usize, oid: vellum_storage::Oid| !verdict.writes[n + 1..].iter().any(|write| write.oid == oid);
    let same = |(n, (write, revision)): (usize, (&Write, &Revision))| {
        let content = match &write.content {
            Content::Data(data) => {
                data.bytes().ok() == revision.data
                    && revision.source.is_none()
                    && bytes_of(data.blob().filter(|_| is_last(n, write.oid))) == bytes_of(revision.blob.as_ref())
            }
            Content::Shared(tid) => {
                revision.data.is_some() == revision.source.is_some()
                    && revision.source.is_none_or(|holder| holder <= *tid)
            }
            Content::Tombstone => revision.data.is_none(),
        };
        content && (write.oid, &write.version, write.base) == (revision.oid, &revision.version, revision.base)
    };
    verdict.writes.len() == written.revisions.len()
        && verdict.writes.iter().zip(&written.revisions).enumerate().all(same)
}

/// The blob that comes with a node. Those with an odd number are made by the storage, others elsewhere.
pub(crate) fn blob_with(storage: &dyn Storage, node: &node::Node) -> Result<Option<Blob>, Error> {
    let Beside::Blob(number) = node.beside else { return Ok(None) };
    let bytes = node::blob(number);
    let Some(blobs) = storage.blobs().filter(|_| number % 2 == 1) else { return Ok(Some(bytes.into())) };
    let mut writer = blobs.new_blob()?;
    bytes.chunks(bytes.len() / 2 + 1).try_for_each(|chunk| writer.append(chunk))?;
    writer.finish().map(Some)
}

fn bytes_of(blob: Option<&Blob>) -> Option<Option<bytes::Bytes>> {
    blob.map(|blob| blob.bytes().ok())
}

/// So many walks over transactions in turn may lose a blob to packs.
const WALKS_MAX: usize = 100;

/// A storage's answer to a question.
pub fn answer(storage: &dyn Storage, question: &Question) -> Answer {
    match try_answer(storage, question) {
        Ok(answer) => answer,
        Err(Trouble::Storage(Error::KeyError { .. } | Error::NoBlob { .. })) => Answer::KeyError,
        Err(Trouble::Storage(other)) => Answer::Failed { message: other.to_string() },
        Err(Trouble::Missing(what)) => Answer::Failed { message: format!("there is not {what}") },
    }
}

/// The outcome of a step that ended with this error.
pub fn outcome_of(error: Error) -> Outcome {
    Trouble::Storage(error).outcome()
}

fn try_answer(storage: &dyn Storage, question: &Question) -> Result<Answer, Trouble> {
    let once = |range, order| storage.transactions(range, order)?.collect::<Result<Vec<_>, Error>>();
    let all = |range, order| {
        // A pack came between, or in a history-free database a commit: the walk begins again, as the error says.
        for _ in 0..WALKS_MAX {
            match once(range, order) {
                Err(Error::BlobPacked { .. }) => {}
                walked => return walked,
            }
        }
        once(range, order)
    };
    Ok(match question {
        Question::Load { oid, version } => {
            let loaded = if version.is_empty() {
                storage.load(*oid, &Version::TRUNK)?
            } else {
                storage.load(*oid, &Version::named(version.clone()))?
            };
            Answer::Loaded { data: Data(loaded.data), tid: loaded.tid }
        }
        Question::LoadBefore { oid, before } => match storage.load_before(*oid, *before)? {
            None => Answer::NotYet,
            Some(shown) => Answer::Shown { data: Data(shown.data), tid: shown.tid, next: shown.next },
        },
        Question::LoadSerial { oid, tid } => Answer::Record { data: Data(storage.load_serial(*oid, *tid)?) },
        Question::LoadBlob { oid, tid } => {
            let blob = storage.blobs().ok_or(Trouble::Missing("blobs"))?.load_blob(*oid, *tid)?;
            Answer::Blob { bytes: Data(blob.bytes()?) }
        }
        Question::History { oid, limit } => {
            let entry = |line: vellum_storage::HistoryEntry| Entry {
                tid: line.tid,
                user: text(&line.user),
                description: text(&line.description),
                version: line.version.to_string(),
                size: line.size,
            };
            Answer::History { entries: storage.history(*oid, *limit)?.into_iter().map(entry).collect() }
        }
        Question::UndoLog { first, last } => {
            let log = storage.undo_log().ok_or(Trouble::Missing("undo"))?.undo_log(*first, *last)?;
            let entry = |line: vellum_storage::UndoEntry| Entry {
                tid: line.tid,
                user: text(&line.user),
                description: text(&line.description),
                version: String::new(),
                size: 0,
            };
            Answer::UndoLog { entries: log.into_iter().map(entry).collect() }
        }
        Question::Transactions { first, last, newest_first } => {
            let order = if *newest_first { Order::NewestFirst } else { Order::OldestFirst };
            let range = TidRange { first: *first, last: *last };
            let found = || all(range, order)?.into_iter().map(written).collect::<Result<_, _>>();
            let transactions = match found() {
                // A pack came between the walk and its blobs.
                Err(Error::NoBlob { .. }) => found()?,
                found => found?,
            };
            Answer::Transactions { transactions }
        }
        Question::LastTransaction => Answer::Tid { tid: storage.last_transaction() },
        Question::LastInvalidations { count } => {
            let changed = storage.last_invalidations(*count)?;
            Answer::Invalidations { changed: changed.into_iter().map(|i| (i.tid, i.oids)).collect() }
        }
        Question::CurrentRecords { first } => {
            let records = storage.current_records(*first).map(|r| r.map(|r| (r.oid, r.tid, Data(r.data))));
            Answer::CurrentRecords { records: records.collect::<Result<_, _>>()? }
        }
        Question::ModifiedInVersion { oid } => {
            let versions = storage.versions().ok_or(Trouble::Missing("versions"))?;
            Answer::Version { version: versions.modified_in_version(*oid)?.to_string() }
        }
        Question::Versions => {
            let versions = storage.versions().ok_or(Trouble::Missing("versions"))?;
            Answer::Versions { versions: versions.versions()?.iter().map(Version::to_string).collect() }
        }
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn written(transaction: vellum_storage::TransactionRecord) -> Result<Written, Error> {
    let change = |revision: vellum_storage::Revision| {
        Ok(Shown {
            oid: revision.oid,
            version: revision.version.to_string(),
            data: revision.data.map(Data),
            blob: revision.blob.map(|blob| blob.bytes().map(Data)).transpose()?,
            source: revision.source,
            base: revision.base,
        })
    };
    Ok(Written {
        tid: transaction.tid,
        packed: transaction.status == vellum_storage::Status::Packed,
        user: text(&transaction.user),
        description: text(&transaction.description),
        extension: Data(transaction.extension),
        revisions: transaction.revisions.into_iter().map(change).collect::<Result<_, Error>>()?,
    })
}

/// Why something was not done.
enum Trouble {
    Storage(Error),
    /// It was declared, but it is not there.
    Missing(&'static str),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Storage(error)
    }
}

impl Trouble {
    fn outcome(self) -> Outcome {
        let refused = |why| Outcome::Refused { why };
        match self {
            Trouble::Missing(what) => Outcome::Failed { message: format!("there is not {what}") },
            Trouble::Storage(Error::Refused(refusal)) => refused(self::refused(refusal)),
            Trouble::Storage(Error::ReadOnly { .. }) => refused(Refusal::ReadOnly),
            Trouble::Storage(Error::Unreadable { oid, .. }) => refused(Refusal::Untold { oid }),
            Trouble::Storage(Error::Dangling { references }) => refused(Refusal::Dangling { references }),
            Trouble::Storage(other) => Outcome::Failed { message: other.to_string() },
        }
    }
}

/// A refusal in the harness's words.
fn refused(refusal: Refused) -> Refusal {
    match refusal {
        Refused::UnknownObject { oid } => Refusal::Key { oid },
        Refused::Conflict { oid, committed, serial } => Refusal::Conflict { oid, committed, serial },
        Refused::ReadConflict { oid, committed, serial } => Refusal::ReadConflict { oid, committed, serial },
        Refused::VersionLock { oid, .. } => Refusal::VersionLock { oid },
        Refused::VersionEnd { .. } => Refusal::VersionEnd,
        Refused::NotUndoable { tid } => Refusal::NotUndoable { tid },
        Refused::UndoConflict { objects } => {
            let mut oids: Vec<_> = objects.into_iter().map(|object| object.oid).collect();
            oids.sort();
            Refusal::UndoConflict { oids }
        }
        Refused::EmptyRecord { oid } => Refusal::Empty { oid },
        Refused::MetadataTooLong { .. } => Refusal::TooLong,
        Refused::TidNotLater { .. } => Refusal::NotLater,
    }
}

impl Subject for Hosted {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn can(&self) -> Can {
        self.can
    }

    fn reset(&mut self) -> Result<(), String> {
        self.open(true, false).map_err(|e| e.to_string())
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        // A panic is a difference like any other.
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.try_perform(step))) {
            Ok(outcome) => outcome.unwrap_or_else(Trouble::outcome),
            Err(panic) => Outcome::Failed { message: said(&*panic) },
        };
        if let (Outcome::Refused { .. } | Outcome::Failed { .. }, Step::Change { transaction, .. }) = (&outcome, step) {
            self.drafts.remove(transaction);
        }
        outcome
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let answer = |question| match &self.storage {
            Some(storage) => catch_unwind(AssertUnwindSafe(|| answer(&**storage, question)))
                .unwrap_or_else(|panic| Answer::Failed { message: said(&*panic) }),
            None => Answer::Failed { message: "there is not an open storage".to_owned() },
        };
        questions.iter().map(answer).collect()
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without words"))
}
