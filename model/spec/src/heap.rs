//! Part 7: the heap of a connection. A view of the database as of one moment, and the objects in memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Begin, Change, Database, Oid, Refusal, Resolver, Tid};

/// The view of one connection: a moment, and its own changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// The last transaction that it shows (rule 7.3).
    pub moment: Tid,
    /// The objects that it changed, made or added: each with the serial that it was loaded with, and its state. Rule
    /// 7.1: an oid is here at most once.
    pub changes: BTreeMap<Oid, (Tid, Vec<u8>)>,
    /// The objects that must be current at the commit (rule 7.7), with the serials that were read.
    pub current: BTreeMap<Oid, Tid>,
}

impl View {
    /// Rule 7.3: a view of the last transaction, without changes.
    pub fn of(database: &Database) -> View {
        View { moment: database.last_transaction(), ..View::default() }
    }

    /// Rule 7.3: the state that the connection shows, and its serial; none if the object does not exist there.
    pub fn show<'a>(&'a self, database: &'a Database, oid: Oid) -> Option<(Tid, &'a [u8])> {
        if let Some((serial, state)) = self.changes.get(&oid) {
            return Some((*serial, state));
        }
        let shown = database.load_before(oid, self.moment + 1).ok()??;
        Some((shown.tid, shown.data))
    }

    /// Changes an object, or makes one.
    pub fn change(&mut self, database: &Database, oid: Oid, state: Vec<u8>) {
        let serial = self.show(database, oid).map_or(0, |(serial, _)| serial);
        self.changes.insert(oid, (serial, state));
    }

    /// Rule 7.7: makes the commit depend on an object.
    pub fn read_current(&mut self, database: &Database, oid: Oid) {
        if let Some((serial, _)) = self.show(database, oid) {
            self.current.insert(oid, serial);
        }
    }

    /// Rule 7.4: the database after the commit. The view afterwards is one of that.
    pub fn commit(&self, database: &Database, tid: Tid, resolver: &Resolver<'_>) -> Result<Database, Refusal> {
        let store = self.changes.iter().map(|(oid, (serial, state))| Change::store(*oid, *serial, state));
        let checked = self.current.iter().filter(|(oid, serial)| **serial > 0 && !self.changes.contains_key(oid));
        let check = checked.map(|(&oid, &serial)| Change::CheckCurrent { oid, serial });
        let (after, _) = database.commit(Begin::at(tid), &store.chain(check).collect::<Vec<_>>(), resolver)?;
        // Without a change nothing is written.
        Ok(if self.changes.is_empty() { database.clone() } else { after })
    }

    /// Rule 7.5: the view after an abort.
    pub fn abort(&self, database: &Database) -> View {
        View::of(database)
    }

    /// Rule 7.6: the view after going back to a savepoint, which is the view at that time.
    pub fn rollback(&self, savepoint: &View) -> View {
        View { changes: savepoint.changes.clone(), ..self.clone() }
    }
}

/// An object in memory, by its number in the order in which the heap first saw it.
pub type Id = u64;

/// The state of an object in memory (rule 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Stored; only its oid is in memory.
    Ghost,
    /// Stored, and its state is in memory as it is stored.
    Loaded,
    /// Stored, and then changed.
    Changed,
    /// Not stored.
    New,
    /// Not stored; the next commit stores it.
    Added,
}

/// An object in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its state.
    pub memory: Memory,
    /// Whether the program has a handle of it.
    pub held: bool,
    /// Whether the program has a view of it, or pinned it.
    pub watched: bool,
    /// The objects that it refers to. A ghost's are not in memory.
    pub refers: Vec<Id>,
    /// Whether its class has a finalizer that did not run for it yet.
    pub finalizer: bool,
}

/// The objects of one connection in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Heap {
    /// All of them.
    pub nodes: BTreeMap<Id, Node>,
    /// The objects of cycles with several finalizers.
    pub stuck: BTreeSet<Id>,
}

impl Heap {
    /// Everything that can be reached from these objects, which are part of it.
    fn reach(&self, from: impl IntoIterator<Item = Id>) -> BTreeSet<Id> {
        let (mut found, mut next) = (BTreeSet::new(), from.into_iter().collect::<Vec<_>>());
        while let Some(id) = next.pop() {
            let Some(node) = self.nodes.get(&id) else { continue };
            if found.insert(id) && node.memory != Memory::Ghost {
                next.extend(&node.refers);
            }
        }
        found
    }

    /// Rule 7.9: the live objects. Those with numbers from `young` on were made during this collection.
    pub fn live(&self, young: Id) -> BTreeSet<Id> {
        let is_root = |(id, node): &(&Id, &Node)| {
            node.held
                || node.watched
                || matches!(node.memory, Memory::Changed | Memory::Added)
                || self.stuck.contains(id)
                || (node.memory == Memory::New && **id >= young)
        };
        self.reach(self.nodes.iter().filter(is_root).map(|(id, _)| *id))
    }

    /// Rule 7.8: makes ghosts of those of these objects that may become one.
    pub fn evict(&mut self, which: &BTreeSet<Id>) {
        for (_, node) in self.nodes.iter_mut().filter(|(id, _)| which.contains(id)) {
            if node.memory == Memory::Loaded && !node.watched {
                node.memory = Memory::Ghost;
            }
        }
    }

    /// Rule 7.10: collects. `run` runs the finalizer of an object, and may do with the heap what a program may.
    pub fn collect(&mut self, run: &mut dyn FnMut(&mut Heap, Id)) {
        let young = self.nodes.last_key_value().map_or(0, |(id, _)| id + 1);
        while let Some(group) = self.next_group(young) {
            self.collect_group(&group, run);
        }
        let live = self.live(young);
        let dead = self.nodes.keys().copied().filter(|id| !live.contains(id)).collect();
        self.evict(&dead);
        // A ghost goes if nothing refers to it.
        let in_memory = |node: &&Node| node.memory != Memory::Ghost;
        let referred: BTreeSet<Id> =
            self.nodes.values().filter(in_memory).flat_map(|node| node.refers.clone()).collect();
        self.nodes.retain(|id, node| node.memory != Memory::Ghost || node.held || referred.contains(id));
    }

    /// Rule 7.10: the objects of the next cycle that is garbage: one to which no other garbage refers, and of those the
    /// one with the oldest object.
    fn next_group(&self, young: Id) -> Option<BTreeSet<Id>> {
        let live = self.live(young);
        let garbage: BTreeSet<Id> = self
            .nodes
            .iter()
            .filter(|(id, node)| node.memory == Memory::New && !live.contains(id))
            .map(|(id, _)| *id)
            .collect();
        let reach = |id: Id| self.reach([id]);
        let group = |id: Id| reach(id).into_iter().filter(|other| reach(*other).contains(&id)).collect::<BTreeSet<_>>();
        let is_first = |id: &Id| garbage.iter().all(|from| !reach(*from).contains(id) || reach(*id).contains(from));
        garbage.iter().copied().find(is_first).map(group)
    }

    /// Rule 7.11: what happens to a cycle depends on how many of its objects have a finalizer. Rule 7.12: it runs at
    /// most once for an object.
    fn collect_group(&mut self, group: &BTreeSet<Id>, run: &mut dyn FnMut(&mut Heap, Id)) {
        let waiting: Vec<Id> = group.iter().copied().filter(|id| self.nodes[id].finalizer).collect();
        match waiting[..] {
            [] => self.nodes.retain(|id, _| !group.contains(id)),
            [only] => {
                if let Some(node) = self.nodes.get_mut(&only) {
                    node.finalizer = false;
                }
                run(self, only);
            }
            _ => self.stuck.extend(group),
        }
    }
}
