//! The cycles of a graph.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The strongly connected components of a graph, each before those that it leads to; apart from that, the one with the
/// smallest node first. A node's edges are the nodes that it leads to. Without recursion, since chains can be long.
pub(crate) fn groups(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let component = components(edges);
    let count = component.iter().max().map_or(0, |last| last + 1);
    let mut members = vec![Vec::new(); count];
    let mut before = vec![0_usize; count];
    component.iter().enumerate().for_each(|(node, &of)| members[of].push(node));
    let crossing = |of: usize| {
        let (members, component) = (&members, &component);
        members[of].iter().flat_map(|&node| &edges[node]).map(|&to| component[to]).filter(move |&to| to != of)
    };
    (0..count).for_each(|of| crossing(of).for_each(|to| before[to] += 1));
    let mut ready: BinaryHeap<_> =
        (0..count).filter(|&of| before[of] == 0).map(|of| Reverse((members[of][0], of))).collect();
    let mut order = Vec::new();
    while let Some(Reverse((_, of))) = ready.pop() {
        order.push(of);
        for to in crossing(of) {
            before[to] -= 1;
            if before[to] == 0 {
                ready.push(Reverse((members[to][0], to)));
            }
        }
    }
    order.into_iter().map(|of| members[of].clone()).collect()
}

/// The component of each node: Tarjan's algorithm, with its own stack.
fn components(edges: &[Vec<usize>]) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let (mut index, mut low) = (vec![UNSEEN; edges.len()], vec![0; edges.len()]);
    let (mut component, mut path) = (vec![UNSEEN; edges.len()], Vec::new());
    let (mut next, mut found) = (0, 0);
    for start in 0..edges.len() {
        // A node, and how many of its edges were followed.
        let mut work = if index[start] == UNSEEN { vec![(start, 0)] } else { Vec::new() };
        while let Some((node, at)) = work.pop() {
            if at == 0 {
                (index[node], low[node]) = (next, next);
                next += 1;
                path.push(node);
            }
            if let Some(&to) = edges[node].get(at) {
                work.push((node, at + 1));
                if index[to] == UNSEEN {
                    work.push((to, 0));
                } else if component[to] == UNSEEN {
                    low[node] = low[node].min(index[to]);
                }
                continue;
            }
            if low[node] == index[node] {
                while let Some(member) = path.pop() {
                    component[member] = found;
                    if member == node {
                        break;
                    }
                }
                found += 1;
            }
            if let Some((parent, _)) = work.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
        }
    }
    component
}
