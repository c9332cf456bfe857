//! The items of a BTree's record, on request.
//!
//! | class | its state in Python | here |
//! |---|---|---|
//! | a bucket | `((k, v, k, v, …),)`, `((…), next)` | `{"@items":[[k,v],…],"next":…}` |
//! | a set's bucket | `((k, k, …),)`, `((…), next)` | `{"@keys":[k,…],"next":…}` |
//! | a small tree, with its one bucket inside | `((bucket's state,),)` | as the bucket |
//! | a tree | `((child, k, child, …), first bucket)` | `{"@children":[child,[k,child],…],"first":…}` |
//!
//! A state of any other shape is written as it is.

use super::{Work, Writer};
use crate::tree::{Id, Node};

impl<'t> Writer<'t, '_> {
    /// Begins the state of a BTree or a bucket. Says whether it is one, in one of the shapes above.
    pub(super) fn btree(&mut self, class: Id, state: Id) -> bool {
        let tree = self.tree;
        let class = match tree.tuple_items(class) {
            Some([class, ..]) => *class,
            _ => class,
        };
        let Some(class) = tree.class(class).filter(|class| class.module.starts_with(b"BTrees.")) else {
            return false;
        };
        let ends_with = |end: &str| class.name.ends_with(end.as_bytes());
        let (is_set, is_tree) = (ends_with("Set"), ends_with("BTree") || ends_with("TreeSet"));
        if !is_set && !is_tree && !ends_with("Bucket") {
            return false;
        }
        // A small tree has the state of its bucket inside two tuples.
        match self.inside(state) {
            Some(&[only]) if is_tree => match self.inside(only) {
                Some(&[bucket]) => self.bucket(bucket, is_set),
                _ => false,
            },
            Some(&[children, first]) if is_tree => self.children(children, first),
            _ => !is_tree && self.bucket(state, is_set),
        }
    }

    /// The items of a tuple that is nowhere else.
    fn inside(&self, id: Id) -> Option<&'t [Id]> {
        let is_here_only = !self.sharing.is_shared(id) && self.tree.additions(id).is_none();
        self.tree.tuple_items(id).filter(|items| is_here_only || items.is_empty())
    }

    fn bucket(&mut self, state: Id, is_set: bool) -> bool {
        let (items, next) = match self.inside(state) {
            Some(&[items]) => (items, None),
            Some(&[items, next]) => (items, Some(next)),
            _ => return false,
        };
        let Some(items) = self.inside(items).filter(|items| is_set || items.len().is_multiple_of(2)) else {
            return false;
        };
        self.work.push(Work::Text("}"));
        if let Some(next) = next {
            self.next([Work::Text(",\"next\":"), Work::Value(next)]);
        }
        self.out.push_str(if is_set { "{\"@keys\":[" } else { "{\"@items\":[" });
        self.work.push(match is_set {
            true => Work::Items { rest: items.iter(), is_first: true, close: "]" },
            false => Work::Flat { rest: items.chunks_exact(2), is_first: true, close: "]" },
        });
        true
    }

    fn children(&mut self, children: Id, first: Id) -> bool {
        let Some([child, rest @ ..]) = self.inside(children).filter(|items| items.len() % 2 == 1) else {
            return false;
        };
        if !matches!(self.tree.node(first), Node::Persistent { .. } | Node::PersistentLine { .. }) {
            return false;
        }
        self.out.push_str("{\"@children\":[");
        self.next([
            Work::Value(*child),
            Work::Flat { rest: rest.chunks_exact(2), is_first: false, close: "]" },
            Work::Text(",\"first\":"),
            Work::Value(first),
            Work::Text("}"),
        ]);
        true
    }
}
