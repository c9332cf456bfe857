//! A server and a client that is behind it, in which every answer of the client's cache is checked against the truth.

use bytes::Bytes;
use proptest::prelude::*;
use vellum_cache::{Asked, CacheFile, Changed, Core, FileMedium, Medium};
use vellum_storage::{LoadedAt, Oid, Tid};

/// How many there are.
pub const OBJECTS: u64 = 6;

/// An event at the server or at the client.
#[derive(Clone, Debug)]
pub enum Step {
    /// The server commits a change of these objects.
    Commit(Vec<u64>),
    /// The client hears of the next transaction.
    Hear,
    /// The client asks for an object as of so many transactions ago; the answer is on its way.
    Ask(u64, usize),
    /// One of the answers arrives.
    Arrive(usize),
    /// Two of them arrive as a group.
    ArriveTogether(usize),
    /// The client was away, and hears of all changes at once.
    Verify { of_all: bool },
    /// The client drops everything.
    Clear,
    /// The server is rolled back to an earlier transaction, and goes on from there. The client is told so.
    RollBack(usize),
}

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(0..OBJECTS, 1..3).prop_map(Step::Commit),
        3 => Just(Step::Hear),
        6 => (0..OBJECTS, 0..4_usize).prop_map(|(oid, ago)| Step::Ask(oid, ago)),
        6 => (0..8_usize).prop_map(Step::Arrive),
        1 => (0..8_usize).prop_map(Step::ArriveTogether),
        1 => any::<bool>().prop_map(|of_all| Step::Verify { of_all }),
        1 => Just(Step::Clear),
        1 => (0..6_usize).prop_map(Step::RollBack),
    ]
}

/// A server, and a client that is behind it.
pub struct World<M> {
    /// The transactions: the first one is number 1, and created all objects.
    commits: Vec<(u64, Vec<u64>)>,
    /// How often the server was rolled back.
    lives: u64,
    pub cache: M,
    pending: Vec<(Asked, Oid, LoadedAt)>,
    /// Questions that the cache could answer.
    pub found: usize,
}

fn data(oid: u64, tid: u64, life: u64) -> Bytes {
    Bytes::from(format!("{oid} of {tid} in {life}, {}", "x".repeat((oid * tid % 5) as usize)))
}

/// A cache that has a core.
pub trait HasCore {
    /// The medium of the core.
    type Medium: Medium;
    /// The core.
    fn core(&self) -> &Core<Self::Medium>;
}

impl<M: Medium> HasCore for Core<M> {
    type Medium = M;

    fn core(&self) -> &Core<M> {
        self
    }
}

impl HasCore for CacheFile {
    type Medium = FileMedium;

    fn core(&self) -> &Core<FileMedium> {
        CacheFile::core(self)
    }
}

impl<M: HasCore> World<M> {
    /// A server with one transaction, and a client that knows of it.
    pub fn new(cache: M) -> World<M> {
        World { commits: vec![(0, (0..OBJECTS).collect())], lives: 0, cache, pending: Vec::new(), found: 0 }
    }

    /// The client has another cache now. Answers that were on their way are lost. If the cache knows of transactions
    /// that the server does not have, the client drops everything.
    pub fn restart<N: HasCore>(self, cache: impl FnOnce(M) -> N) -> World<N> {
        let World { commits, lives, cache: old, found, .. } = self;
        let world = World { commits, lives, cache: cache(old), pending: Vec::new(), found };
        if world.cache.core().head().0 > world.last() {
            world.cache.core().clear(Tid(world.last()));
        }
        world
    }

    /// The server's last transaction.
    pub fn last(&self) -> u64 {
        self.commits.len() as u64
    }

    fn changes(&self, oid: u64) -> impl Iterator<Item = u64> + '_ {
        (1..=self.last()).zip(&self.commits).filter(move |(_, (_, oids))| oids.contains(&oid)).map(|(tid, _)| tid)
    }

    /// The server's answer.
    fn load(&self, oid: u64, before: u64) -> Option<LoadedAt> {
        let tid = self.changes(oid).filter(|tid| *tid < before).last()?;
        let next = self.changes(oid).find(|next| *next > tid).map(Tid);
        Some(LoadedAt { data: data(oid, tid, self.commits[tid as usize - 1].0), tid: Tid(tid), next })
    }

    /// Lets it happen.
    pub fn step(&mut self, step: &Step) {
        let head = self.cache.core().head().0;
        match step {
            Step::Commit(oids) => self.commits.push((self.lives, oids.clone())),
            Step::Hear if head < self.last() => {
                let oids: Vec<Oid> = self.commits[head as usize].1.iter().copied().map(Oid).collect();
                self.cache.core().invalidate(Tid(head + 1), &oids);
            }
            Step::Hear => {}
            Step::Ask(oid, ago) => {
                // A client asks as of a moment that it knows, or a server answers with what is newest.
                let before = if *ago == 3 { self.last() + 1 } else { (head + 1).saturating_sub(*ago as u64) };
                if let Some(found) = self.load(*oid, before) {
                    self.pending.push((self.cache.core().ask(), Oid(*oid), found));
                }
            }
            Step::Arrive(n) if *n < self.pending.len() => {
                let (asked, oid, found) = self.pending.swap_remove(*n);
                self.cache.core().store(asked, oid, &found);
            }
            Step::ArriveTogether(n) if n + 1 < self.pending.len() => {
                let group: Vec<_> = self.pending.drain(*n..n + 2).collect();
                // A group is as old as its oldest question.
                let asked = if group[0].0 == group[1].0 { group[0].0 } else { Asked::as_of(Tid(1)) };
                for (_, oid, found) in &group {
                    self.cache.core().store(asked, *oid, found);
                }
            }
            Step::Arrive(_) | Step::ArriveTogether(_) => {}
            Step::Verify { of_all } => {
                let last = Tid(self.last());
                let oids: Vec<Oid> =
                    self.commits[head as usize..].iter().flat_map(|(_, oids)| oids).copied().map(Oid).collect();
                self.cache.core().verify(if *of_all { Changed::Any } else { Changed::Objects(&oids) }, last);
            }
            Step::Clear => self.cache.core().clear(self.cache.core().head()),
            Step::RollBack(count) => {
                self.lives += 1;
                let kept = self.commits.len().saturating_sub(*count).max(1);
                self.commits.truncate(kept);
                self.pending.clear();
                self.cache.core().clear(Tid(self.last()));
            }
        }
    }

    /// Asks the cache for everything, at every moment.
    pub fn check(&mut self) {
        let head = self.cache.core().head().0;
        for oid in 0..OBJECTS {
            for before in 1..=head + 2 {
                let Some(found) = self.cache.core().get(Oid(oid), Tid(before)) else { continue };
                self.found += 1;
                assert!(before <= head + 1, "an answer about the future");
                let right = self.load(oid, before).expect("the object exists");
                assert_eq!((&found.data, found.tid), (&right.data, right.tid), "{oid} before {before}, head {head}");
                let is_right = match found.next {
                    None => right.next.is_none_or(|next| next > Tid(head)),
                    next => next == right.next,
                };
                assert!(is_right, "{oid} before {before}, head {head}: {found:?}, and not {right:?}");
            }
        }
    }
}
