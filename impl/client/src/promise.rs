//! Answers that are not there yet.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use vellum_sync::{Condvar, Mutex};

use crate::error::ClientError;
use crate::shell::driver::Driver;

/// The answer to a call, which may not be there yet. Clones are the same promise.
///
/// It is a future, a thread can wait for it, and it can be passed on without waiting: [`Promise::then`] makes the next
/// call as soon as the answer is there, and an error goes past all later calls to the caller that waits at the end.
///
/// ```
/// use vellum_client::{ClientError, Promise};
///
/// let length = Promise::of(Ok("an answer")).then(|text| Promise::of(Ok(text.len())));
/// assert_eq!(length.wait(), Ok(9));
/// let closed = Promise::<u8>::of(Err(ClientError::Closed));
/// let failed = closed.then(|_| -> Promise<u8> { unreachable!("there is no answer") });
/// assert_eq!(failed.wait(), Err(ClientError::Closed));
/// ```
pub struct Promise<T> {
    cell: Arc<Cell<T>>,
    /// The place of its waker, if it was polled.
    seat: Option<u64>,
}

struct Cell<T> {
    state: Mutex<State<T>>,
    resolved: Condvar,
    /// By which a thread that waits does the client's work.
    driver: Option<Arc<Driver>>,
}

enum State<T> {
    Open {
        /// The last waker of each promise that was polled and is still there.
        wakers: BTreeMap<u64, Waker>,
        seat_next: u64,
        then: Vec<Then<T>>,
    },
    Resolved(Result<T, ClientError>),
}

type Then<T> = Box<dyn FnOnce(Result<T, ClientError>) + Send>;

/// Resolves a promise, once. If it is dropped before, the client was closed.
pub(crate) struct Resolver<T: Clone + Send + 'static>(Option<Arc<Cell<T>>>);

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Promise<T> {
        Promise { cell: Arc::clone(&self.cell), seat: None }
    }
}

/// A task that waits no longer is not kept.
impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let Some(seat) = self.seat else { return };
        let left = match &mut *self.cell.state.lock() {
            State::Open { wakers, .. } => wakers.remove(&seat),
            State::Resolved(_) => None,
        };
        // Without the lock: it may have been the last handle of a task that has such a promise, too.
        drop(left);
    }
}

impl<T: Clone + Send + 'static> Promise<T> {
    /// A promise and what resolves it. A thread that waits for it helps this driver.
    pub(crate) fn new(driver: Option<Arc<Driver>>) -> (Promise<T>, Resolver<T>) {
        let state = Mutex::new(State::Open { wakers: BTreeMap::new(), seat_next: 0, then: Vec::new() });
        let cell = Arc::new(Cell { state, resolved: Condvar::new(), driver });
        (Promise { cell: Arc::clone(&cell), seat: None }, Resolver(Some(cell)))
    }

    /// An answer that is there.
    pub fn of(outcome: Result<T, ClientError>) -> Promise<T> {
        let state = Mutex::new(State::Resolved(outcome));
        Promise { cell: Arc::new(Cell { state, resolved: Condvar::new(), driver: None }), seat: None }
    }

    /// The answer, if it is there.
    pub fn get(&self) -> Option<Result<T, ClientError>> {
        match &*self.cell.state.lock() {
            State::Resolved(outcome) => Some(outcome.clone()),
            State::Open { .. } => None,
        }
    }

    /// Blocks this thread until the answer is there. It may do the client's work until then: so a listener may be told
    /// something on it. Not to be called within [`Promise::then`], which runs on the
    /// thread that brings the answers.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub fn wait(&self) -> Result<T, ClientError> {
        if let Some(outcome) = self.get() {
            return outcome;
        }
        if let Some(outcome) = self.cell.driver.as_ref().and_then(|driver| driver.until(self.clone())) {
            return outcome;
        }
        let mut state = self.cell.state.lock();
        loop {
            match &*state {
                State::Resolved(outcome) => return outcome.clone(),
                State::Open { .. } => state = self.cell.resolved.wait(state),
            }
        }
    }

    /// Has something done with the outcome: now, or when it is there, by the thread that brings it. It should be quick.
    pub fn finally(&self, work: impl FnOnce(Result<T, ClientError>) + Send + 'static) {
        let mut state = self.cell.state.lock();
        let outcome = match &mut *state {
            State::Open { then, .. } => return then.push(Box::new(work)),
            State::Resolved(outcome) => outcome.clone(),
        };
        drop(state);
        run([Box::new(move || work(outcome)) as Work]);
    }

    /// Makes the next call with the answer. It returns the promise of that call, or the error that came before.
    pub fn then<U: Clone + Send + 'static>(&self, next: impl FnOnce(T) -> Promise<U> + Send + 'static) -> Promise<U> {
        let (promise, resolver) = Promise::new(self.cell.driver.clone());
        self.finally(move |outcome| match outcome {
            Ok(answer) => next(answer).finally(move |outcome| resolver.resolve(outcome)),
            Err(error) => resolver.resolve(Err(error)),
        });
        promise
    }

    /// Makes something else of the answer.
    pub fn map<U: Clone + Send + 'static>(&self, make: impl FnOnce(T) -> U + Send + 'static) -> Promise<U> {
        self.then(move |answer| Promise::of(Ok(make(answer))))
    }
}

impl<T: Clone + Send + 'static> From<T> for Promise<T> {
    fn from(answer: T) -> Promise<T> {
        Promise::of(Ok(answer))
    }
}

impl<T: Clone + Send + 'static> Resolver<T> {
    pub fn resolve(mut self, outcome: Result<T, ClientError>) {
        if let Some(cell) = self.0.take() {
            resolve(&cell, outcome);
        }
    }
}

impl<T: Clone + Send + 'static> Drop for Resolver<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.0.take() {
            resolve(&cell, Err(ClientError::Closed));
        }
    }
}

/// Something that is done with an outcome.
type Work = Box<dyn FnOnce()>;

thread_local! {
    /// The work that waits in this thread, each with an outcome; none if it does nothing with one.
    static WORK: RefCell<Option<VecDeque<Work>>> = const { RefCell::new(None) };
}

/// Does something with outcomes. Work that it begins comes after it and not within it, so that a chain of any length
/// takes no more stack than one link. A panic comes out when all has been done.
fn run(work: impl IntoIterator<Item = Work>) {
    let is_within = WORK.with_borrow_mut(|queue| {
        let is_within = queue.is_some();
        queue.get_or_insert_default().extend(work);
        is_within
    });
    if is_within {
        return;
    }
    let mut panicked = None;
    while let Some(next) = WORK.with_borrow_mut(|queue| queue.as_mut().and_then(VecDeque::pop_front)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(next)) {
            panicked.get_or_insert(panic);
        }
    }
    WORK.set(None);
    if let Some(panic) = panicked {
        resume_unwind(panic);
    }
}

fn resolve<T: Clone + 'static>(cell: &Cell<T>, outcome: Result<T, ClientError>) {
    let mut state = cell.state.lock();
    let before = std::mem::replace(&mut *state, State::Resolved(outcome.clone()));
    cell.resolved.notify_all();
    drop(state);
    match before {
        State::Open { wakers, then, .. } => {
            wakers.into_values().for_each(Waker::wake);
            run(then.into_iter().map(|work| {
                let outcome = outcome.clone();
                Box::new(move || work(outcome)) as Work
            }));
        }
        State::Resolved(_) => unreachable!("a promise is resolved once"),
    }
}

impl<T: Clone + Send + 'static> Future for Promise<T> {
    type Output = Result<T, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Promise { cell, seat } = self.get_mut();
        let replaced = match &mut *cell.state.lock() {
            State::Resolved(outcome) => return Poll::Ready(outcome.clone()),
            State::Open { wakers, seat_next, .. } => {
                let seat = *seat.get_or_insert_with(|| {
                    *seat_next += 1;
                    *seat_next
                });
                match wakers.get(&seat) {
                    Some(waker) if waker.will_wake(context.waker()) => None,
                    _ => wakers.insert(seat, context.waker().clone()),
                }
            }
        };
        // Without the lock, as in `drop`.
        drop(replaced);
        Poll::Pending
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.cell.state.lock() {
            State::Open { .. } => "Promise(open)",
            State::Resolved(Ok(_)) => "Promise(answered)",
            State::Resolved(Err(_)) => "Promise(failed)",
        })
    }
}
