//! Whether the answers of concurrent calls have an explanation, for any object whose writes have a known order.
//!
//! Clients call an object at the same time. Each call is recorded with its answer and with two stamps of one counter,
//! taken just before the call and just after it. If one call's second stamp is smaller than another's first, the one
//! was over before the other began. The history is *linearizable* (Herlihy and Wing, 1990) if there is an order of all
//! calls that the object's rules allow and that contradicts no such pair.
//!
//! In general, finding one takes a search through orders. Here the object tells the order of its writes, as a storage
//! does by its tids. So the states are known, one after each write, and the only question is *when* each gave way to
//! the next:
//!
//! ```text
//!   writes, in order      1 ········├─from═══until┤               ═ somewhere here the write was shown: after `from`,
//!                         2      ···········├─from═════════until┤   before `until`
//!   state                 0 0 0 0 0 0 ? ? ? ? ? ? ? 1? 2? 2 2
//!   a read                              ├────┤                      may see state 0 or 1; if it sees 1, then
//!   another, later                              ├───┤               here no longer 0, whichever client asks
//! ```
//!
//! A state explains a read if its write may have been shown before the read ended, and the next write need not have
//! been shown when the read began. All reads together are explained if there is one course of time for all of them: a
//! number of shown writes that never decreases. [`linearize`] goes through the stamps in order, with the smallest
//! number that all earlier stamps allow:
//!
//! - at a write's `until`, the number is at least that write's;
//! - when a read ends, the number is at least that of the *first* state that explains its answer, counted from the
//!   number at the read's beginning. If there is no such state among the writes that may have been shown: no
//!   explanation.
//!
//! A larger number than needed never helps a later read, so if the smallest course fails, every course fails. The check
//! accepts no history without an explanation, and rejects none that has one.

use std::collections::BTreeMap;

/// Two stamps of one counter, around a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Just before it.
    pub start: u64,
    /// Just after it.
    pub end: u64,
}

impl Span {
    /// The shortest span that has both in it.
    pub fn hull(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// When a write was shown first: after `from`, before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The write may be visible from here on.
    pub from: u64,
    /// The write must be visible from here on.
    pub until: u64,
}

/// The writes of a history, in the order in which the object did them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes(Vec<Shown>);

/// A write began after one had returned that comes later in the object's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder {
    /// The number of the write that began too late.
    pub write: usize,
    /// When a later write had returned.
    pub until: u64,
    /// When this one could be shown at the earliest.
    pub from: u64,
}

impl Writes {
    /// The writes in the object's order, each with the time in which the call itself says that it was shown. Each write
    /// is shown after those before it, so an early `until` also holds for the writes before, and a late `from` for
    /// those after.
    pub fn in_order(writes: impl IntoIterator<Item = Shown>) -> Result<Writes, OutOfOrder> {
        let mut writes: Vec<Shown> = writes.into_iter().collect();
        writes.iter_mut().rev().fold(u64::MAX, |until, write| {
            write.until = write.until.min(until);
            write.until
        });
        if let Some(write) = writes.iter().rposition(|write| write.from >= write.until) {
            return Err(OutOfOrder { write, until: writes[write].until, from: writes[write].from });
        }
        writes.iter_mut().fold(0, |from, write| {
            write.from = write.from.max(from);
            write.from
        });
        Ok(Writes(writes))
    }

    /// How many writes may have been shown at this stamp.
    pub fn may_show(&self, stamp: u64) -> usize {
        self.0.partition_point(|write| write.from < stamp)
    }
}

/// An object with rules: which answers are right in which of its states.
pub trait Object {
    /// A call, with its answer.
    type Call;
    /// The way in which a state explains an answer, if the rules leave several.
    type How;

    /// How the state after the first `count` writes explains the call's answer; none if it does not.
    fn explain(&mut self, call: &Self::Call, count: usize) -> Option<Self::How>;
}

/// A call that was recorded.
#[derive(Clone, Debug)]
pub struct Recorded<C> {
    /// When.
    pub span: Span,
    /// The call, with its answer.
    pub call: C,
}

/// The explanation of a call's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation<H> {
    /// The state after so many writes.
    pub count: usize,
    /// The way in which it does.
    pub how: H,
    /// Whether a write may have been shown during the call, so that the answer had several possible states.
    pub raced: bool,
}

/// A call whose answer no possible state explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unexplained {
    /// The number of the call.
    pub call: usize,
    /// The fewest writes that were shown when it was answered.
    pub first: usize,
    /// The most writes that were shown when it was answered.
    pub last: usize,
}

enum Event {
    /// So many writes are visible.
    Shown(usize),
    Begins(usize),
    Ends(usize),
}

/// Looks for one course of time that explains all calls. The result has an explanation for each, in their order. All
/// stamps of calls and writes must differ.
pub fn linearize<O: Object>(
    object: &mut O,
    writes: &Writes,
    calls: &[Recorded<O::Call>],
) -> Result<Vec<Explanation<O::How>>, Unexplained> {
    let mut events: BTreeMap<u64, Event> = BTreeMap::new();
    // Writes with the same `until` are visible together: the last one counts.
    events.extend(writes.0.iter().enumerate().map(|(n, write)| (write.until, Event::Shown(n + 1))));
    events.extend(calls.iter().enumerate().map(|(n, call)| (call.span.start, Event::Begins(n))));
    events.extend(calls.iter().enumerate().map(|(n, call)| (call.span.end, Event::Ends(n))));
    let mut shown = 0;
    let mut at_beginning = vec![0; calls.len()];
    let mut explained: Vec<Option<Explanation<O::How>>> = calls.iter().map(|_| None).collect();
    for (stamp, event) in events {
        match event {
            Event::Shown(count) => shown = shown.max(count),
            Event::Begins(n) => at_beginning[n] = shown,
            Event::Ends(n) => {
                let (first, last) = (at_beginning[n], writes.may_show(stamp));
                let found = (first..=last).find_map(|count| Some((count, object.explain(&calls[n].call, count)?)));
                let (count, how) = found.ok_or(Unexplained { call: n, first, last })?;
                shown = shown.max(count);
                explained[n] = Some(Explanation { count, how, raced: last > first });
            }
        }
    }
    Ok(explained.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A register: write number n puts `values[n]` into it, and a read returns its value.
    struct Register(Vec<u8>);

    impl Object for Register {
        type Call = u8;
        type How = ();

        fn explain(&mut self, read: &u8, count: usize) -> Option<()> {
            (self.0[count] == *read).then_some(())
        }
    }

    fn read(start: u64, end: u64, value: u8) -> Recorded<u8> {
        Recorded { span: Span { start, end }, call: value }
    }

    fn shown(from: u64, until: u64) -> Shown {
        Shown { from, until }
    }

    #[test]
    fn a_read_during_a_write_may_be_answered_from_before_or_after_it() {
        let writes = Writes::in_order([shown(2, 7)]).unwrap();
        for value in [0, 1] {
            let explained = linearize(&mut Register(vec![0, 1]), &writes, &[read(3, 4, value)]).unwrap();
            assert_eq!(explained, [Explanation { count: usize::from(value), how: (), raced: true }]);
        }
    }

    #[test]
    fn what_one_client_has_seen_every_later_read_sees() {
        let writes = Writes::in_order([shown(1, 9)]).unwrap();
        let explained = linearize(&mut Register(vec![0, 1]), &writes, &[read(2, 3, 1), read(4, 5, 0)]);
        assert_eq!(explained, Err(Unexplained { call: 1, first: 1, last: 1 }));
    }

    #[test]
    fn a_write_that_returned_is_seen_and_so_are_those_before_it() {
        let writes = Writes::in_order([shown(1, 20), shown(2, 4)]).unwrap();
        let explained = linearize(&mut Register(vec![0, 1, 2]), &writes, &[read(5, 6, 1)]);
        assert_eq!(explained, Err(Unexplained { call: 0, first: 2, last: 2 }));
    }

    #[test]
    fn a_write_is_not_seen_before_it_begins() {
        let writes = Writes::in_order([shown(5, 6)]).unwrap();
        let explained = linearize(&mut Register(vec![0, 1]), &writes, &[read(1, 2, 1)]);
        assert_eq!(explained, Err(Unexplained { call: 0, first: 0, last: 0 }));
    }

    #[test]
    fn a_write_that_begins_after_a_later_one_returned_is_out_of_order() {
        let writes = Writes::in_order([shown(5, 6), shown(1, 3)]);
        assert_eq!(writes, Err(OutOfOrder { write: 0, until: 3, from: 5 }));
    }

    /// The same question, answered by a search through all orders.
    fn search(values: &[u8], writes: &[Shown], reads: &[Recorded<u8>]) -> bool {
        fn go(values: &[u8], writes: &[Shown], done: usize, reads: &[Recorded<u8>]) -> bool {
            // A call can be next if none of those that are left was over before it began.
            let ends = writes[done..].iter().map(|write| write.until).chain(reads.iter().map(|read| read.span.end));
            let first_end = ends.min().unwrap_or(u64::MAX);
            let write = writes.get(done).is_some_and(|write| write.from <= first_end);
            let next_read = |n: usize| {
                let rest = [&reads[..n], &reads[n + 1..]].concat();
                reads[n].span.start <= first_end && reads[n].call == values[done] && go(values, writes, done, &rest)
            };
            (done == writes.len() && reads.is_empty())
                || (write && go(values, writes, done + 1, reads))
                || (0..reads.len()).any(next_read)
        }
        go(values, writes, 0, reads)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn the_check_agrees_with_a_search_through_all_orders(
            stamps in Just((0..14_u64).collect::<Vec<_>>()).prop_shuffle(),
            values in prop::collection::vec(0..3_u8, 4),
            answers in prop::collection::vec(0..3_u8, 4),
        ) {
            let spans: Vec<Span> =
                stamps.chunks(2).map(|pair| Span { start: pair[0].min(pair[1]), end: pair[0].max(pair[1]) }).collect();
            let mut writes: Vec<Shown> = spans[..3].iter().map(|span| shown(span.start, span.end)).collect();
            // Mostly in an order that can be; or nearly every history has no explanation.
            if stamps[0] % 4 > 0 {
                writes.sort_by_key(|write| write.from);
            }
            let reads: Vec<_> = spans[3..].iter().zip(answers).map(|(s, value)| read(s.start, s.end, value)).collect();
            let expected = search(&values, &writes, &reads);
            let found = Writes::in_order(writes).is_ok_and(|writes| linearize(&mut Register(values), &writes, &reads).is_ok());
            prop_assert_eq!(found, expected);
        }
    }
}
