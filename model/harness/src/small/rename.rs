//! States under other names. Two states that differ only in the names of objects or transactions are one.

use std::hash::{DefaultHasher, Hash, Hasher};

use vellum_spec::{Content, Database, Revision, Transaction};
use vellum_storage::Oid;

use crate::node::Node;
use crate::step::{Change, Name, Step};
use crate::world::{Known, Open, Stage, Wants, World};

use super::moves::{Bound, NAMES, Spent};

/// Which names are exchanged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renaming {
    objects: Option<[Oid; 2]>,
    transactions: bool,
}

/// The number of a state: the same for all its names.
pub(super) fn key(bound: &Bound, world: &World, spent: Spent) -> u64 {
    let hash = |world: &World| hash(world, spent);
    let others = Renaming::others(bound).into_iter().map(|renaming| hash(&renaming.world(world)));
    others.fold(hash(world), u64::min)
}

fn hash(world: &World, spent: Spent) -> u64 {
    let mut hasher = DefaultHasher::new();
    (world, spent).hash(&mut hasher);
    hasher.finish()
}

impl Renaming {
    /// All but the one that leaves everything as it is.
    pub(super) fn others(bound: &Bound) -> Vec<Renaming> {
        let objects = Some(bound.objects()).filter(|_| !bound.root);
        let mut all = Vec::new();
        if bound.overlapping > 1 {
            all.push(Renaming { objects: None, transactions: true });
        }
        if objects.is_some() {
            all.push(Renaming { objects, transactions: false });
            if bound.overlapping > 1 {
                all.push(Renaming { objects, transactions: true });
            }
        }
        all
    }

    /// Whether a world is the same under the other names.
    pub(super) fn keeps(&self, world: &World) -> bool {
        hash(&self.world(world), Spent::default()) == hash(world, Spent::default())
    }

    fn number(&self, oid: u64) -> u64 {
        match self.objects {
            Some([one, other]) if oid == one.0 => other.0,
            Some([one, other]) if oid == other.0 => one.0,
            _ => oid,
        }
    }

    fn oid(&self, oid: Oid) -> Oid {
        Oid(self.number(oid.0))
    }

    fn name(&self, name: Name) -> Name {
        match (self.transactions, NAMES) {
            (true, [one, other]) if name == one => other,
            (true, [one, other]) if name == other => one,
            _ => name,
        }
    }

    fn node(&self, node: &Node) -> Node {
        let all = |oids: &[Oid]| oids.iter().map(|oid| self.oid(*oid)).collect();
        Node {
            strong: all(&node.strong),
            weak: all(&node.weak),
            foreign: all(&node.foreign),
            odd: all(&node.odd),
            ..node.clone()
        }
    }

    fn change(&self, change: &Change) -> Change {
        let mut change = change.clone();
        match &mut change {
            Change::Store { oid, node, .. } | Change::Restore { oid, node, .. } => {
                *oid = self.oid(*oid);
                *node = node.as_ref().map(|node| self.node(node));
            }
            Change::Delete { oid, .. } | Change::CheckCurrent { oid, .. } => *oid = self.oid(*oid),
            Change::Undo { .. } | Change::CommitVersion { .. } | Change::AbortVersion { .. } => {}
        }
        change
    }

    /// A step under the other names.
    pub(super) fn step(&self, step: &Step) -> Step {
        let mut step = step.clone();
        match &mut step {
            Step::Begin { transaction, .. }
            | Step::Vote { transaction, .. }
            | Step::Finish { transaction }
            | Step::Commit { transaction, .. }
            | Step::Abort { transaction } => *transaction = self.name(*transaction),
            Step::Change { transaction, change } => {
                (*transaction, *change) = (self.name(*transaction), self.change(change));
            }
            Step::Pack { .. } | Step::PackByCounts { .. } | Step::Reopen { .. } => {}
        }
        step
    }

    fn revision(&self, revision: &Revision) -> Revision {
        let mut revision = Revision { oid: self.number(revision.oid), ..revision.clone() };
        if let Content::Data(data) = &mut revision.content
            && let Some(node) = Node::decode(data)
        {
            *data = self.node(&node).encode().to_vec();
        }
        revision
    }

    fn revisions(&self, revisions: &[Revision]) -> Vec<Revision> {
        revisions.iter().map(|revision| self.revision(revision)).collect()
    }

    fn open(&self, open: &Open) -> Open {
        let all = |oids: &std::collections::BTreeSet<u64>| oids.iter().map(|oid| self.number(*oid)).collect();
        let stage = match &open.stage {
            Stage::Drafting => Stage::Drafting,
            Stage::Voted(revisions, wants) => {
                let wants = Wants { change: all(&wants.change), keep: all(&wants.keep), ..wants.clone() };
                Stage::Voted(self.revisions(revisions), wants)
            }
        };
        Open {
            meta: open.meta.clone(),
            changes: open.changes.iter().map(|change| self.change(change)).collect(),
            stage,
        }
    }

    /// A world under the other names.
    pub(super) fn world(&self, world: &World) -> World {
        let transaction = |t: &Transaction| Transaction { revisions: self.revisions(&t.revisions), ..t.clone() };
        let transactions = world.database.transactions.iter().map(transaction).collect();
        let known = Known { oids: world.known.oids.iter().map(|oid| self.oid(*oid)).collect(), ..world.known.clone() };
        let open = world.open.iter().map(|(name, open)| (self.name(*name), self.open(open))).collect();
        let mut renamed = world.clone();
        (renamed.database, renamed.open, renamed.known) = (Database { transactions }, open, known);
        renamed
    }
}
