//! A client's iterators over transactions and their records, by number.

use std::collections::HashMap;

use vellum_storage::{Result, Revision, Tid, TransactionRecord};
use vellum_wire::{Fault, Value};

/// The transactions that an iterator has not reached yet.
pub(crate) type Transactions = Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>;

/// The iterators of one client. Both kinds are numbered together.
#[derive(Default)]
pub(crate) struct Iterators {
    transactions: HashMap<i64, OverTransactions>,
    revisions: HashMap<i64, (Tid, std::vec::IntoIter<Revision>)>,
    next: i64,
}

struct OverTransactions {
    /// None while a thread reads the next one.
    rest: Option<Transactions>,
    /// The one that came last.
    last: Option<TransactionRecord>,
}

/// So many iterators of each kind a client may have: they hold open files, and records. ZEO's clients have their server
/// forget those that they need no more.
const ITERATORS_MAX: usize = 1000;

impl Iterators {
    fn number(&mut self) -> i64 {
        self.next += 1;
        self.next - 1
    }

    /// A new iterator over transactions.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub fn over_transactions(&mut self, transactions: Transactions) -> Result<i64, Fault> {
        has_room(self.transactions.len())?;
        let number = self.number();
        self.transactions.insert(number, OverTransactions { rest: Some(transactions), last: None });
        Ok(number)
    }

    /// Takes the rest of an iterator, to read without a lock; then [`Iterators::give_back`].
    ///
    /// # Errors
    ///
    /// There is no such iterator, or it is being read.
    pub fn lend(&mut self, number: i64) -> Result<Transactions, Fault> {
        let rest = self.transactions.get_mut(&number).and_then(|iterator| iterator.rest.take());
        rest.ok_or_else(|| no_iterator(number))
    }

    /// Puts an iterator back with its result. It is gone after its end, and stays gone if it was dropped during the
    /// call.
    pub fn give_back(&mut self, number: i64, rest: Transactions, found: &Result<Option<TransactionRecord>>) {
        if matches!(found, Ok(None)) {
            self.transactions.remove(&number);
        } else if let Some(iterator) = self.transactions.get_mut(&number) {
            iterator.rest = Some(rest);
            iterator.last = found.as_ref().ok().cloned().flatten();
        }
    }

    /// A new iterator over the records of the last transaction of another iterator.
    ///
    /// # Errors
    ///
    /// There is no such iterator, or it is at another transaction; or there are too many over records.
    pub fn over_revisions(&mut self, number: i64, tid: Tid) -> Result<i64, Fault> {
        has_room(self.revisions.len())?;
        // Taken even if no iterator results, as in ZEO: clients see the numbers.
        let new = self.number();
        let last = self.transactions.get(&number).and_then(|iterator| iterator.last.as_ref());
        let last = last.ok_or_else(|| no_iterator(number))?;
        if last.tid != tid {
            let shown = tid.to_bytes().escape_ascii().to_string();
            return Err(Fault::text(
                "builtins.Exception",
                format!("Out-of-order request for record iterator for transaction b'{shown}'"),
            ));
        }
        let revisions = last.revisions.clone().into_iter();
        self.revisions.insert(new, (tid, revisions));
        Ok(new)
    }

    /// The next record, and its transaction. At the end the iterator is gone.
    ///
    /// # Errors
    ///
    /// There is no such iterator.
    pub fn next_revision(&mut self, number: i64) -> Result<Option<(Tid, Revision)>, Fault> {
        let (tid, revisions) = self.revisions.get_mut(&number).ok_or_else(|| no_iterator(number))?;
        let next = revisions.next().map(|revision| (*tid, revision));
        if next.is_none() {
            self.revisions.remove(&number);
        }
        Ok(next)
    }

    /// Forgets iterators. The result is dropped without a lock: it may hold open files.
    #[must_use]
    pub fn forget(&mut self, numbers: &[i64]) -> Vec<Transactions> {
        numbers.iter().for_each(|number| _ = self.revisions.remove(number));
        let gone = numbers.iter().filter_map(|number| self.transactions.remove(number));
        gone.filter_map(|iterator| iterator.rest).collect()
    }
}

fn has_room(count: usize) -> Result<(), Fault> {
    match count < ITERATORS_MAX {
        true => Ok(()),
        false => Err(Fault::text(
            "builtins.ValueError",
            format!(
                "this client has {ITERATORS_MAX} iterators: have some forgotten with iterator_gc, or read to the end"
            ),
        )),
    }
}

fn no_iterator(number: i64) -> Fault {
    Fault::Other { class: "builtins.KeyError".to_owned(), payload: Value::Tuple(vec![Value::Int(number)]) }
}
