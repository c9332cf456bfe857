//! The cache of a machine: one of three, behind the same few calls.
//!
//! | cache | its bytes | a clone of the machine |
//! |---|---|---|
//! | simple | maps in memory | has its own |
//! | core | `vellum-cache`'s core over memory | has its own: with this one the core is explored |
//! | tiers | a core over memory in front of one over a file | shares it. Threads look into it without the machine's lock |
//!
//! The machine calls them in the order that `loom-tests` explores: a question's moment is taken before the question is
//! sent, an answer is judged by the changes since that moment, and a transaction's changes are noted in one call.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use vellum_cache::{Asked, Changed, Core, Shape, Words};
use vellum_storage::{LoadedAt, Oid, Tid};

use crate::cache::Cache as Simple;
use crate::tiers::TieredCache;
use crate::trace::Trace;

/// The cache of a machine.
#[derive(Clone, Debug)]
pub struct Cache(Kind, Option<Arc<Trace>>);

/// A trace changes no answer.
impl PartialEq for Cache {
    fn eq(&self, other: &Cache) -> bool {
        self.0 == other.0
    }
}

impl Eq for Cache {}

impl Hash for Cache {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Simple(Box<Simple>),
    Core(Box<Core<Words>>, u64),
    Tiers(Tiers),
}

/// A shared cache is itself, whatever is in it.
#[derive(Clone)]
struct Tiers(Arc<TieredCache>);

impl std::fmt::Debug for Tiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.path().display())
    }
}

impl PartialEq for Tiers {
    fn eq(&self, other: &Tiers) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tiers {}

impl Hash for Tiers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Revisions by which a client recognizes the database of its cache.
const SAMPLES: usize = 4;

impl Cache {
    /// Maps in memory, of so many bytes.
    pub fn simple(bytes_max: u64) -> Cache {
        Cache(Kind::Simple(Box::new(Simple::new(bytes_max))), None)
    }

    /// An empty core over memory.
    ///
    /// # Panics
    ///
    /// If the shape is impossible.
    pub fn core(shape: Shape) -> Cache {
        let bytes = u64::from(shape.segments) * u64::from(shape.segment_bytes);
        let words = Words::new(shape.segments, shape.segment_bytes);
        Cache(Kind::Core(Box::new(Core::new(words, shape, Tid::ZERO)), bytes), None)
    }

    /// A cache file, with what is in it.
    pub fn tiered(tiers: Arc<TieredCache>) -> Cache {
        Cache(Kind::Tiers(Tiers(tiers)), None)
    }

    /// The same, and what happens in it is written to a trace.
    pub(crate) fn traced(self, trace: Option<Arc<Trace>>) -> Cache {
        Cache(self.0, trace)
    }

    /// The last transaction of which a cache that was kept over a restart was told; none if it was told of none.
    pub(crate) fn kept(&self) -> Option<Tid> {
        let head = match &self.0 {
            Kind::Simple(_) => Tid::ZERO,
            Kind::Core(core, _) => core.head(),
            Kind::Tiers(Tiers(tiers)) => tiers.head(),
        };
        (head > Tid::ZERO).then_some(head)
    }

    /// Revisions that the database of this cache has, and hardly any other one.
    pub(crate) fn samples(&self) -> Vec<(Oid, LoadedAt)> {
        match &self.0 {
            Kind::Simple(_) => Vec::new(),
            Kind::Core(core, _) => core.newest(SAMPLES),
            Kind::Tiers(Tiers(tiers)) => tiers.newest(SAMPLES),
        }
    }

    /// Bytes that it takes, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.0 {
            Kind::Simple(simple) => simple.bytes(),
            Kind::Core(_, bytes) => *bytes,
            Kind::Tiers(Tiers(tiers)) => tiers.bytes(),
        }
    }

    /// Bytes that it may take.
    pub(crate) fn bytes_max(&self) -> u64 {
        match &self.0 {
            Kind::Simple(simple) => simple.bytes_max(),
            _ => self.bytes(),
        }
    }

    /// The object as it was just before a tid that is not later than what the client knows.
    pub(crate) fn get(&mut self, oid: Oid, before: Tid) -> Option<LoadedAt> {
        match &mut self.0 {
            Kind::Simple(simple) => simple.get(oid, before),
            Kind::Core(core, _) => core.get(oid, before),
            Kind::Tiers(Tiers(tiers)) => tiers.get(oid, before),
        }
    }

    /// The same for a load of an application, which a trace has.
    pub(crate) fn load(&mut self, oid: Oid, before: Tid, asked: Option<Tid>) -> Option<LoadedAt> {
        let found = self.get(oid, before);
        if let Some(trace) = &self.1 {
            trace.load(oid, asked, found.as_ref());
        }
        found
    }

    /// Whether a load of this moment would find something here.
    pub(crate) fn has(&self, oid: Oid, before: Tid) -> bool {
        match &self.0 {
            Kind::Simple(simple) => simple.has(oid, before),
            Kind::Core(core, _) => core.has(oid, before),
            Kind::Tiers(Tiers(tiers)) => tiers.has(oid, before),
        }
    }

    /// The moment of a question that is about to be sent.
    pub(crate) fn ask(&self) -> Asked {
        match &self.0 {
            // The machine judges for it.
            Kind::Simple(_) => Asked::default(),
            Kind::Core(core, _) => core.ask(),
            Kind::Tiers(Tiers(tiers)) => tiers.ask(),
        }
    }

    /// Keeps an answer, as it came and as the machine judged it: rule 9.4. A core judges it by its own memory of the
    /// changes since the question.
    pub(crate) fn put(&mut self, asked: Asked, oid: Oid, came: &LoadedAt, judged: LoadedAt) {
        if let Some(trace) = &self.1 {
            trace.store(oid, &judged);
        }
        match &mut self.0 {
            Kind::Simple(simple) => simple.put(oid, judged),
            Kind::Core(core, _) => _ = core.store(asked, oid, came),
            Kind::Tiers(Tiers(tiers)) => tiers.store(asked, oid, came),
        }
    }

    /// Rule 9.6: keeps a revision that was not asked for by a load, unless it is here.
    pub(crate) fn add(&mut self, asked: Asked, oid: Oid, came: &LoadedAt, judged: LoadedAt) {
        if let Kind::Simple(simple) = &mut self.0 {
            if let Some(trace) = &self.1 {
                trace.store(oid, &judged);
            }
            simple.add(oid, judged);
        } else if !self.has(oid, came.tid.next()) {
            self.put(asked, oid, came, judged);
        }
    }

    /// A transaction changed these objects: what was current held until then.
    pub(crate) fn invalidate(&mut self, tid: Tid, oids: &[Oid]) {
        if let Some(trace) = &self.1 {
            oids.iter().for_each(|oid| trace.change(*oid, Some(tid)));
        }
        match &mut self.0 {
            Kind::Simple(simple) => oids.iter().for_each(|oid| simple.end(*oid, tid)),
            Kind::Core(core, _) => core.invalidate(tid, oids),
            Kind::Tiers(Tiers(tiers)) => tiers.invalidate(tid, oids),
        }
    }

    /// Keeps what this client's own transaction has written, after its changes were noted.
    pub(crate) fn put_own(&mut self, oid: Oid, data: bytes::Bytes, tid: Tid) {
        let found = LoadedAt { data, tid, next: None };
        self.put(Asked::as_of(tid), oid, &found.clone(), found);
    }

    /// After a time without a connection: these objects, or perhaps all, were changed up to `tid`, and nobody knows
    /// when.
    pub(crate) fn verify(&mut self, changed: Changed<'_>, tid: Tid) {
        if let (Some(trace), Changed::Objects(oids)) = (&self.1, changed) {
            oids.iter().for_each(|oid| trace.change(*oid, None));
        }
        match (&mut self.0, changed) {
            (Kind::Simple(simple), Changed::Objects(oids)) => oids.iter().for_each(|oid| simple.drop_current(*oid)),
            (Kind::Simple(simple), Changed::Any) => simple.drop_all_current(),
            (Kind::Core(core, _), changed) => core.verify(changed, tid),
            (Kind::Tiers(Tiers(tiers)), changed) => tiers.verify(changed, tid),
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, head: Tid) {
        match &mut self.0 {
            Kind::Simple(simple) => simple.clear(),
            Kind::Core(core, _) => core.clear(head),
            Kind::Tiers(Tiers(tiers)) => tiers.clear(head),
        }
    }
}
