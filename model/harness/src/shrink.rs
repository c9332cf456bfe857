//! Makes a history that shows a difference as short and as plain as it gets, and still shows one.
//!
//! Steps that make no sense where they stand are passed over when a history is played, so any of them can be left out:
//! first halves, then quarters, in the end each by itself; then what is left is made plainer, step by step; and all of
//! it again until nothing more goes.

use crate::campaign::kind;
use crate::coverage::Coverage;
use crate::node::{Beside, Node};
use crate::run::{self, Difference};
use crate::step::{Change, Meta, Step};
use crate::subject::Subject;

/// The shortest history found, and its difference, of the same kind as the one given. `budget` is how many histories
/// may be played to find it.
pub fn shrink(subject: &mut dyn Subject, found: Difference, budget: usize) -> Difference {
    let mut search = Search { subject, kind: kind(&found), best: found, budget };
    loop {
        let before = search.best.steps.clone();
        search.leave_out();
        search.make_plain();
        if search.best.steps == before || search.budget == 0 {
            return search.best;
        }
    }
}

struct Search<'a> {
    subject: &'a mut dyn Subject,
    kind: String,
    best: Difference,
    budget: usize,
}

impl Search<'_> {
    /// Whether these steps show a difference too; if so, they are the best now.
    fn shows(&mut self, steps: &[Step]) -> bool {
        if self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        match run::play(self.subject, steps, &mut Coverage::default()) {
            Err(difference) if kind(&difference) == self.kind => {
                self.best = difference;
                true
            }
            _ => false,
        }
    }

    fn leave_out(&mut self) {
        let mut size = self.best.steps.len().div_ceil(2);
        while size > 0 {
            // From the end: late steps depend on early ones.
            let mut end = self.best.steps.len();
            while end > 0 && self.budget > 0 {
                let start = end.saturating_sub(size);
                let mut steps = self.best.steps.clone();
                steps.drain(start..end.min(steps.len()));
                self.shows(&steps);
                end = start.min(self.best.steps.len());
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn make_plain(&mut self) {
        let mut n = 0;
        while n < self.best.steps.len() {
            let tried: Vec<Step> = plainer(&self.best.steps[n]);
            let better = tried.into_iter().any(|step| {
                let mut steps = self.best.steps.clone();
                steps[n] = step;
                self.shows(&steps)
            });
            if !better || self.budget == 0 {
                n += 1;
            }
        }
    }
}

/// The same step with less in it.
fn plainer(step: &Step) -> Vec<Step> {
    let mut found = Vec::new();
    match step {
        Step::Begin { transaction, meta } => {
            let mut add = |meta: Meta| found.push(Step::Begin { transaction: *transaction, meta });
            if *meta != Meta::default() {
                add(Meta::default());
                add(Meta { user: String::new(), ..meta.clone() });
                add(Meta { description: String::new(), extension: false, ..meta.clone() });
                add(Meta { tid: None, ..meta.clone() });
                add(Meta { packed: false, ..meta.clone() });
            }
        }
        Step::Change { transaction, change } => {
            let changes = plainer_changes(change).into_iter();
            found.extend(changes.map(|change| Step::Change { transaction: *transaction, change }));
        }
        Step::Pack { to, collect, go_on } => {
            found.push(Step::Pack { to: *to, collect: false, go_on: *go_on });
            found.push(Step::Pack { to: *to, collect: *collect, go_on: false });
        }
        Step::PackByCounts { to } => found.push(Step::Pack { to: *to, collect: false, go_on: false }),
        Step::Vote { .. } | Step::Finish { .. } | Step::Commit { .. } | Step::Abort { .. } | Step::Reopen { .. } => {}
    }
    found.retain(|plain| plain != step);
    found
}

fn plainer_changes(change: &Change) -> Vec<Change> {
    let mut found = Vec::new();
    match change {
        Change::Store { oid, serial, node, version } => {
            let mut add = |node: Option<Node>, version: &str| {
                found.push(Change::Store { oid: *oid, serial: *serial, node, version: version.to_owned() });
            };
            add(node.clone(), "");
            for node in node.iter().flat_map(plainer_nodes) {
                add(Some(node), version);
            }
        }
        Change::Restore { oid, node, version, source, base } => {
            let mut add = |node: Option<Node>, version: &str, source, base| {
                found.push(Change::Restore { oid: *oid, node, version: version.to_owned(), source, base });
            };
            add(node.clone(), "", *source, None);
            add(node.clone(), version, None, *base);
            add(node.clone(), version, *source, None);
            for node in node.iter().flat_map(plainer_nodes) {
                add(Some(node), version, *source, *base);
            }
        }
        Change::CommitVersion { from, .. } => {
            found.push(Change::CommitVersion { from: from.clone(), to: String::new() });
        }
        _ => {}
    }
    found
}

fn plainer_nodes(node: &Node) -> Vec<Node> {
    let mut found = vec![Node { counter: node.counter, number: node.number, ..Node::default() }];
    found.push(Node { weak: vec![], ..node.clone() });
    found.push(Node { foreign: vec![], ..node.clone() });
    found.push(Node { odd: vec![], ..node.clone() });
    found.push(Node { beside: Beside::Nothing, ..node.clone() });
    if matches!(node.beside, Beside::Blob(number) if number > 0) {
        found.push(Node { beside: Beside::Blob(0), ..node.clone() });
    }
    for n in 0..node.strong.len() {
        let mut fewer = node.clone();
        fewer.strong.remove(n);
        found.push(fewer);
    }
    found.push(Node { counter: false, ..node.clone() });
    found.push(Node { number: 0, ..node.clone() });
    found.retain(|plain| plain != node);
    found
}
