//! The cache of a machine: one of three, behind the same few calls.
//!
//! | cache | its bytes | a clone of the machine |
//! |---|---|---|
//! | simple | maps in memory | has its own |
//! | core | `vellum-cache`'s core over memory | has its own: with this one the core is explored |
//! | file | `vellum-cache`'s core over a file | shares it. Threads look into it without the machine's lock |
//!
//! The machine calls them in the order that `loom-tests` explores: a question's moment is taken before the question is
//! sent, an answer is judged by the changes since that moment, and a transaction's changes are noted in one call.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use vellum_cache::{Asked, CacheFile, Changed, Core, Medium, Shape, Words};
use vellum_storage::{LoadedAt, Oid, Tid};

use crate::cache::Cache as Simple;

/// The cache of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cache(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Simple(Box<Simple>),
    Core(Box<Core<Words>>, u64),
    File(File),
}

/// A file is itself, whatever is in it.
#[derive(Clone)]
struct File(Arc<CacheFile>);

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.path().display())
    }
}

impl PartialEq for File {
    fn eq(&self, other: &File) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for File {}

impl Hash for File {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Revisions by which a client recognizes the database of its cache.
const SAMPLES: usize = 4;

/// Calls the same with whichever core it is.
macro_rules! with_core {
    ($kind:expr, $core:ident => $body:expr, $simple:ident => $otherwise:expr) => {
        match $kind {
            Kind::Simple($simple) => $otherwise,
            Kind::Core($core, _) => $body,
            Kind::File(file) => {
                let $core = file.0.core();
                $body
            }
        }
    };
}

impl Cache {
    /// Maps in memory, of so many bytes.
    pub fn simple(bytes_max: u64) -> Cache {
        Cache(Kind::Simple(Box::new(Simple::new(bytes_max))))
    }

    /// An empty core over memory.
    ///
    /// # Panics
    ///
    /// If the shape is impossible.
    pub fn core(shape: Shape) -> Cache {
        let bytes = u64::from(shape.segments) * u64::from(shape.segment_bytes);
        let words = Words::new(shape.segments, shape.segment_bytes);
        Cache(Kind::Core(Box::new(Core::new(words, shape, Tid::ZERO)), bytes))
    }

    /// A cache file, with what is in it.
    pub fn file(file: Arc<CacheFile>) -> Cache {
        Cache(Kind::File(File(file)))
    }

    /// The last transaction of which a cache that was kept over a restart was told; none if it was told of none.
    pub(crate) fn kept(&self) -> Option<Tid> {
        let head = with_core!(&self.0, core => core.head(), _simple => Tid::ZERO);
        (head > Tid::ZERO).then_some(head)
    }

    /// Revisions that the database of this cache has, and hardly any other one.
    pub(crate) fn samples(&self) -> Vec<(Oid, LoadedAt)> {
        with_core!(&self.0, core => core.newest(SAMPLES), _simple => Vec::new())
    }

    /// Bytes that it takes, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.0 {
            Kind::Simple(simple) => simple.bytes(),
            Kind::Core(_, bytes) => *bytes,
            // None of it is memory.
            Kind::File(_) => 0,
        }
    }

    /// Bytes that it may take.
    pub(crate) fn bytes_max(&self) -> u64 {
        match &self.0 {
            Kind::Simple(simple) => simple.bytes_max(),
            Kind::Core(_, bytes) => *bytes,
            Kind::File(file) => file.0.bytes(),
        }
    }

    /// The object as it was just before a tid that is not later than what the client knows.
    pub(crate) fn get(&mut self, oid: Oid, before: Tid) -> Option<LoadedAt> {
        with_core!(&mut self.0, core => core.get(oid, before), simple => simple.get(oid, before))
    }

    /// Whether a load of this moment would find something here.
    pub(crate) fn has(&self, oid: Oid, before: Tid) -> bool {
        with_core!(&self.0, core => core.has(oid, before), simple => simple.has(oid, before))
    }

    /// The moment of a question that is about to be sent.
    pub(crate) fn ask(&self) -> Asked {
        with_core!(&self.0, core => core.ask(), _simple => Asked::default())
    }

    /// Keeps an answer, as it came and as the machine judged it: rule 9.4. A core judges it by its own memory of the
    /// changes, which has also those that other processes noted.
    pub(crate) fn put(&mut self, asked: Asked, oid: Oid, came: &LoadedAt, judged: LoadedAt) {
        with_core!(&mut self.0, core => _ = core.store_exact(asked, oid, came), simple => simple.put(oid, judged));
    }

    /// Rule 9.6: keeps a revision that was not asked for by a load, unless it is here.
    pub(crate) fn add(&mut self, asked: Asked, oid: Oid, came: &LoadedAt, judged: LoadedAt) {
        with_core!(&mut self.0, core => add(core, asked, oid, came), simple => simple.add(oid, judged));
    }

    /// A transaction changed these objects: what was current held until then.
    pub(crate) fn invalidate(&mut self, tid: Tid, oids: &[Oid]) {
        with_core!(&mut self.0, core => core.invalidate(tid, oids), simple => {
            oids.iter().for_each(|oid| simple.end(*oid, tid));
        });
    }

    /// Keeps what this client's own transaction has written, after its changes were noted.
    pub(crate) fn put_own(&mut self, oid: Oid, data: bytes::Bytes, tid: Tid) {
        let found = LoadedAt { data, tid, next: None };
        with_core!(&mut self.0, core => _ = core.store_exact(Asked::as_of(tid), oid, &found), simple => simple.put(oid, found));
    }

    /// After a time without a connection: these objects, or perhaps all, were changed up to `tid`, and nobody knows
    /// when.
    pub(crate) fn verify(&mut self, changed: Changed<'_>, tid: Tid) {
        with_core!(&mut self.0, core => core.verify_exact(changed, tid), simple => match changed {
            Changed::Objects(oids) => oids.iter().for_each(|oid| simple.drop_current(*oid)),
            Changed::Any => simple.drop_all_current(),
        });
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, head: Tid) {
        with_core!(&mut self.0, core => core.clear(head), simple => simple.clear());
    }
}

fn add<M: Medium>(core: &Core<M>, asked: Asked, oid: Oid, found: &LoadedAt) {
    if !core.has(oid, found.tid.next()) {
        core.store_exact(asked, oid, found);
    }
}
