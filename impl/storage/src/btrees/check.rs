//! Looking whether B-trees keep their own rules.
//!
//! A tree is found by two ways, and both must lead to the same: a key is looked up from the root down, by the
//! separators; and all items are listed along the chain of leaves.
//!
//! ```text
//!                 root   first ─────┐
//!              ┌────┴─ 40 ─┐        │
//!           node          node      │        a leaf's keys lie between the separators around it
//!         ┌──┴ 20 ┐     ┌──┴ 60 ┐   │
//!         ▼       ▼     ▼       ▼   │
//!       1 7 9 ▶ 20 31 ▶ 40 52 ▶ 63  │        next: each leaf names the one that follows in the tree
//!         ▲─────────────────────────┘
//! ```
//!
//! [`BTreeRule`] lists what can be broken. The walk goes down from each root and from left to right, with a list of the
//! nodes that it has yet to visit, each with the separators around it: no recursion, and each node is loaded once. The
//! roots are the objects of a tree's class that are no child of another tree; finding them reads all transactions once,
//! before.
//!
//! Memory: some bits an object; and on the way down the children of the nodes above, with their separators.
//! Of the leaves that were visited nothing is kept but the last one's `next`.
//!
//! | read | for |
//! |---|---|
//! | `node` | a record as a node: its keys, children and links |
//! | `order` | keys out of order, or beyond their separators |
//! | `rule` | the rules, in words |

use vellum_pickle::{Record, Reference, Scanner};

use super::family::{Class, Items};
use super::state::Datum;
use crate::{Error, Oid, OidSet, Result, Storage, Version, newest_revisions};

mod node;
mod order;
mod rule;

use node::{Child, Inner, Leaf, Node};
use order::Bound;
pub use rule::{BTreeFinding, BTreeRule};

/// How much was looked at, and how much of it breaks the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BTreesChecked {
    /// Trees that were walked.
    pub trees: u64,
    /// Nodes in them: the roots, the nodes below, and the leaves.
    pub nodes: u64,
    /// Buckets and sets that are in no tree.
    pub alone: u64,
    /// Broken rules.
    pub faults: u64,
    /// Nodes that cannot be read.
    pub untold: u64,
    /// Nodes with keys whose order only Python code knows. This is no fault.
    pub unordered: u64,
    /// Objects whose class cannot be read, any of which may be a tree.
    pub unreadable: u64,
}

/// Looks whether the trees of the BTrees package keep their rules, as they are now in this version or on the trunk.
/// Gives `each` what it finds, tree by tree.
///
/// `progress` is told, now and then, how many nodes have been visited, and of how many.
///
/// Costs: reads all transactions, then loads each node.
///
/// # Errors
///
/// An error of the storage, or of `each`, ends the walk.
pub fn check_btrees(
    storage: &dyn Storage,
    version: &Version,
    progress: &mut dyn FnMut(u64, u64),
    each: &mut dyn FnMut(BTreeFinding) -> Result<()>,
) -> Result<BTreesChecked> {
    let found = Found::all(storage, version)?;
    let checked = BTreesChecked { unreadable: found.unreadable, ..BTreesChecked::default() };
    let all = found.trees.len() + found.buckets.len();
    let (seen, waiting, standing) = (OidSet::new(), Vec::new(), Standing::InUse);
    let (tree, misplaced) = (None, Vec::new());
    let mut walk = Walk { storage, version, seen, checked, waiting, all, progress, each, tree, standing, misplaced };
    // Trees that are in use come first: a tree that was emptied leaves nodes behind, which still name each other.
    for standing in [Standing::InUse, Standing::LeftBehind] {
        for root in oids(&found.trees) {
            let is_used = found.referred.contains(root);
            if !found.children.contains(root) && is_used == (standing == Standing::InUse) {
                walk.tree(root, standing)?;
            }
        }
    }
    // Nodes of one family below a tree of another.
    while let Some(root) = walk.misplaced.pop() {
        walk.tree_again(root)?;
    }
    // Trees without a root: each is below another of them, in a circle.
    for root in oids(&found.trees) {
        if !walk.seen.contains(root) {
            walk.tree(root, Standing::Circle)?;
        }
    }
    for bucket in oids(&found.buckets) {
        if walk.seen.insert(bucket) {
            walk.bucket_alone(bucket)?;
        }
    }
    Ok(walk.checked)
}

/// The oids of a set, in their order.
fn oids(set: &OidSet) -> impl Iterator<Item = Oid> {
    let mut from = Some(Oid(0));
    std::iter::from_fn(move || {
        let oid = set.next(from?)?;
        from = oid.0.checked_add(1).map(Oid);
        Some(oid)
    })
}

/// All nodes of a database.
#[derive(Default)]
struct Found {
    trees: OidSet,
    buckets: OidSet,
    /// Children of trees.
    children: OidSet,
    /// Objects to which any object refers that is no node.
    referred: OidSet,
    unreadable: u64,
}

impl Found {
    fn all(storage: &dyn Storage, version: &Version) -> Result<Found> {
        let (mut found, mut scanner) = (Found::default(), Scanner::new());
        found.referred.insert(Oid::ROOT);
        newest_revisions(storage, &mut |object| {
            let shown = object.records().find(|(_, of, _)| of == version);
            let Some((_, _, data)) = shown.or_else(|| object.records().find(|(_, of, _)| of.is_trunk())) else {
                return Ok(());
            };
            let class = vellum_pickle::class_of(data);
            found.unreadable += u64::from(class.is_err());
            let class = class.ok().and_then(|class| Class::named(class.module.as_bytes(), class.name.as_bytes()));
            match class {
                Some(Class::Items(class)) if class.kind.is_tree() => {
                    found.trees.insert(object.oid);
                    let plain = vellum_pickle::plain(data);
                    let record = plain.as_deref().map_err(Clone::clone).and_then(Record::read);
                    match record.as_ref().map(|record| Node::read(&class, record.state())) {
                        Ok(Ok(Node::Inner(inner))) => {
                            inner.children.iter().for_each(|child| _ = found.children.insert(child.oid));
                            return Ok(());
                        }
                        Ok(Ok(_)) => {}
                        // Its children are not known, and not in use by it either.
                        Ok(Err(_)) | Err(_) => return Ok(()),
                    }
                }
                Some(Class::Items(_)) => _ = found.buckets.insert(object.oid),
                Some(Class::Length) | None => {}
            }
            // A record that cannot be read to its end has been read until there.
            let _ = scanner.scan(data, |reference| {
                if let Reference::Strong { oid, .. } = reference {
                    found.referred.insert(Oid(oid));
                }
            });
            Ok(())
        })?;
        Ok(found)
    }
}

/// A walk through all trees.
struct Walk<'w> {
    storage: &'w dyn Storage,
    version: &'w Version,
    /// Nodes that were visited, in any tree.
    seen: OidSet,
    checked: BTreesChecked,
    /// Nodes of the tree that have yet to be visited, the next one last.
    waiting: Vec<Step>,
    all: u64,
    progress: &'w mut dyn FnMut(u64, u64),
    each: &'w mut dyn FnMut(BTreeFinding) -> Result<()>,
    tree: Option<Tree>,
    standing: Standing,
    /// Trees that were found where they do not belong, and not walked through.
    misplaced: Vec<Oid>,
}

/// A node to visit.
struct Step {
    oid: Oid,
    /// None for the root.
    parent: Option<Oid>,
    /// The class that the parent's reference names.
    named: Option<Class>,
    depth: u64,
    low: Bound,
    high: Bound,
}

/// The objects that refer to the root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Some object that is no tree.
    InUse,
    /// Nothing.
    LeftBehind,
    /// Only the nodes below it.
    Circle,
}

/// The tree that is walked through.
struct Tree {
    root: Oid,
    class: Items,
    name: String,
    /// The leaf that was visited last, and its next one. None before the first, and after one of which that is not
    /// known.
    last: Option<(Place, Option<Oid>)>,
    /// Nodes whose first leaf is the next one, with what they take for it.
    first: Vec<(Oid, Oid)>,
    /// The leaves that were visited.
    leaves: OidSet,
    leaf_depth: Option<u64>,
    is_uneven: bool,
}

/// Where a leaf is: in an object of its own, or inside the node above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own(Oid),
    Inside(Oid),
}

impl Place {
    fn oid(self) -> Oid {
        match self {
            Place::Own(oid) | Place::Inside(oid) => oid,
        }
    }
}

impl Walk<'_> {
    fn tree(&mut self, root: Oid, standing: Standing) -> Result<()> {
        self.checked.trees += 1;
        self.standing = standing;
        self.tree = None;
        self.waiting.push(Step { oid: root, parent: None, named: None, depth: 0, low: Bound::Open, high: Bound::Open });
        while let Some(step) = self.waiting.pop() {
            self.visit(step)?;
        }
        let Some(tree) = self.tree.take() else { return Ok(()) };
        // The nodes that a tree left behind when it was emptied are a part of it, whose last leaf leads to a further
        // one.
        if let (Standing::InUse, Some((leaf, Some(next)))) = (standing, tree.last) {
            let leads_back = tree.leaves.contains(next);
            let rule = BTreeRule::Next { next: Some(next), wanted: None, leads_back };
            self.tree = Some(tree);
            self.report(leaf.oid(), rule)?;
        }
        Ok(())
    }

    /// A tree below another, of which it is no part: a tree of its own, except for the leaves behind it.
    fn tree_again(&mut self, root: Oid) -> Result<()> {
        self.standing = Standing::LeftBehind;
        self.tree = None;
        self.load(Step { oid: root, parent: None, named: None, depth: 0, low: Bound::Open, high: Bound::Open })?;
        while let Some(step) = self.waiting.pop() {
            self.visit(step)?;
        }
        Ok(())
    }

    fn visit(&mut self, step: Step) -> Result<()> {
        if !self.seen.insert(step.oid) {
            self.lose_sight();
            let Some(parent) = step.parent else { return Ok(()) };
            // Unused nodes have no claim to others.
            if self.standing == Standing::LeftBehind {
                return Ok(());
            }
            return self.report(step.oid, BTreeRule::TwoParents { parent });
        }
        self.checked.nodes += 1;
        if self.checked.nodes.is_multiple_of(256) {
            (self.progress)(self.checked.nodes, self.all);
        }
        self.load(step)
    }

    fn load(&mut self, step: Step) -> Result<()> {
        let data = match self.storage.load(step.oid, self.version) {
            Ok(loaded) => loaded.data,
            Err(Error::KeyError { .. }) => {
                self.lose_sight();
                return self.report(step.oid, BTreeRule::Missing { parent: step.parent });
            }
            Err(other) => return Err(other),
        };
        let plain = vellum_pickle::plain(&data);
        let record = match plain.as_deref().map_err(Clone::clone).and_then(Record::read) {
            Ok(record) => record,
            Err(error) => {
                self.lose_sight();
                return self.report(step.oid, BTreeRule::Unreadable(error.to_string()));
            }
        };
        let Ok(name) = record.class_name() else {
            self.lose_sight();
            return self.report(step.oid, BTreeRule::Unreadable("its class cannot be read".to_owned()));
        };
        let class = match Class::named(name.module.as_bytes(), name.name.as_bytes()) {
            Some(Class::Items(class)) => class,
            Some(Class::Length) | None => {
                self.lose_sight();
                return self.report(step.oid, BTreeRule::OtherClass(name.to_string()));
            }
        };
        let Some(tree) = &self.tree else {
            self.tree = Some(Tree::of(step.oid, class.clone(), name.to_string()));
            return self.node(step, &class, &record, data.len());
        };
        let fits = class.is_part_of(&tree.class);
        let is_named_otherwise = matches!(&step.named, Some(Class::Items(named)) if !named.is_like(&class));
        if !fits || is_named_otherwise {
            let wanted = match &step.named {
                Some(Class::Items(named)) if fits => named.true_name(),
                _ => tree.class.parts(),
            };
            self.report(step.oid, BTreeRule::Class { class: name.to_string(), wanted })?;
        }
        if !fits {
            self.lose_sight();
            self.misplaced.extend(class.kind.is_tree().then_some(step.oid));
            return Ok(());
        }
        self.node(step, &class, &record, data.len())
    }

    fn node(&mut self, step: Step, class: &Items, record: &Record<'_>, bytes: usize) -> Result<()> {
        match Node::read(class, record.state()) {
            Err(why) => {
                self.lose_sight();
                self.report(step.oid, BTreeRule::State(why))
            }
            // An empty tree is as it should be, unless it is a part of another.
            Ok(Node::Nothing) if step.parent.is_none() => Ok(()),
            Ok(Node::Nothing | Node::Childless) => self.report(step.oid, BTreeRule::EmptyNode),
            Ok(Node::Inner(inner)) => self.inner(step, class, &inner, bytes),
            Ok(Node::Leaf(leaf)) => {
                let place = if class.kind.is_tree() { Place::Inside(step.oid) } else { Place::Own(step.oid) };
                let depth = step.depth + u64::from(class.kind.is_tree());
                self.leaf(place, depth, class, &leaf, [&step.low, &step.high], bytes)
            }
        }
    }

    fn inner(&mut self, step: Step, class: &Items, inner: &Inner<'_>, bytes: usize) -> Result<()> {
        let kinds = |wanted: bool| inner.children.iter().any(|child| child.is_tree() == Some(wanted));
        if kinds(true) && kinds(false) {
            self.report(step.oid, BTreeRule::Mixed)?;
        }
        self.order(step.oid, class, &inner.separators, [&step.low, &step.high], bytes)?;
        if let Some(tree) = &mut self.tree {
            let first_child = inner.children.first().filter(|child| child.is_tree() != Some(true));
            if let Some(first) = inner.first.or(first_child.map(|child| child.oid)) {
                tree.first.push((step.oid, first));
            }
        }
        // The stack returns the last item first, so the leftmost child is pushed last.
        let mut bounds = Bound::all(&inner.separators, bytes);
        let mut high = step.high;
        for child in inner.children.iter().rev() {
            let low = bounds.pop().unwrap_or_else(|| step.low.clone());
            let Child { oid, class } = child;
            self.waiting.push(Step {
                oid: *oid,
                parent: Some(step.oid),
                named: class.clone(),
                depth: step.depth + 1,
                low: low.clone(),
                high,
            });
            high = low;
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        place: Place,
        depth: u64,
        class: &Items,
        leaf: &Leaf<'_>,
        bounds: [&Bound; 2],
        bytes: usize,
    ) -> Result<()> {
        let Some(tree) = &mut self.tree else { return Ok(()) };
        let mut broken = Vec::new();
        for (node, first) in tree.first.drain(..) {
            if place != Place::Own(first) {
                broken.push((node, BTreeRule::FirstBucket { first, wanted: place.oid() }));
            }
        }
        if let Some((last, next)) = tree.last.replace((place, leaf.next))
            && next.map(Place::Own) != Some(place)
        {
            let leads_back = next.is_some_and(|next| tree.leaves.contains(next));
            broken.push((last.oid(), BTreeRule::Next { next, wanted: Some(place.oid()), leads_back }));
        }
        tree.leaves.insert(place.oid());
        let usual = *tree.leaf_depth.get_or_insert(depth);
        if depth != usual && !tree.is_uneven {
            tree.is_uneven = true;
            broken.push((place.oid(), BTreeRule::Depth { depth, usual }));
        }
        if leaf.keys.is_empty() {
            broken.push((place.oid(), BTreeRule::EmptyBucket));
        }
        broken.into_iter().try_for_each(|(node, rule)| self.report(node, rule))?;
        self.order(place.oid(), class, &leaf.keys, bounds, bytes)
    }

    /// A bucket that is in no tree, or in one of which the way to it is not known.
    fn bucket_alone(&mut self, oid: Oid) -> Result<()> {
        self.checked.alone += 1;
        let data = match self.storage.load(oid, self.version) {
            Ok(loaded) => loaded.data,
            Err(Error::KeyError { .. }) => return Ok(()),
            Err(other) => return Err(other),
        };
        let plain = vellum_pickle::plain(&data);
        let record = plain.as_deref().map_err(Clone::clone).and_then(Record::read);
        let name = record.as_ref().ok().and_then(|record| record.class_name().ok());
        let class = name.as_ref().and_then(|name| Class::named(name.module.as_bytes(), name.name.as_bytes()));
        let (Ok(record), Some(name), Some(Class::Items(class))) = (&record, name, class) else {
            self.tree = None;
            let why = record.err().map_or_else(|| "its class cannot be read".to_owned(), |error| error.to_string());
            return self.report(oid, BTreeRule::Unreadable(why));
        };
        self.tree = Some(Tree::of(oid, class.clone(), name.to_string()));
        match Node::read(&class, record.state()) {
            Ok(Node::Leaf(leaf)) => self.order(oid, &class, &leaf.keys, [&Bound::Open, &Bound::Open], data.len()),
            Ok(_) => Ok(()),
            Err(why) => self.report(oid, BTreeRule::State(why)),
        }
    }

    fn order(
        &mut self,
        node: Oid,
        class: &Items,
        keys: &[Datum<'_>],
        [low, high]: [&Bound; 2],
        bytes: usize,
    ) -> Result<()> {
        let order = order::check(class, keys, low, high, bytes);
        self.checked.unordered += u64::from(order.is_untold);
        order.broken.into_iter().try_for_each(|rule| self.report(node, rule))
    }

    /// The next leaf is not known to follow the last one: a node between them could not be walked into.
    fn lose_sight(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.last = None;
            tree.first.clear();
        }
    }

    fn report(&mut self, node: Oid, rule: BTreeRule) -> Result<()> {
        match rule.is_fault() {
            true => self.checked.faults += 1,
            false => self.checked.untold += 1,
        }
        let (tree, class) = match &self.tree {
            Some(tree) => (tree.root, tree.name.clone()),
            None => (node, String::new()),
        };
        (self.each)(BTreeFinding { tree, class, node, rule })
    }
}

impl Tree {
    fn of(root: Oid, class: Items, name: String) -> Tree {
        Tree {
            root,
            class,
            name,
            last: None,
            first: Vec::new(),
            leaves: OidSet::new(),
            leaf_depth: None,
            is_uneven: false,
        }
    }
}
