//! The events that a storage sends to its listeners.

use std::fmt;
use std::sync::Arc;

use vellum_sync::RwLock;

use crate::{Oid, Origin, Tid};

/// Something that has changed in a storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A transaction was finished.
    Committed {
        /// The transaction.
        tid: Tid,
        /// The objects that it changed, each once, created ones included. Empty for an empty transaction.
        oids: Vec<Oid>,
        /// The mark that its draft was given.
        origin: Origin,
    },
    /// Transactions of another storage were copied in: these two and all between them.
    Copied {
        /// The first.
        first: Tid,
        /// The last.
        last: Tid,
    },
    /// A pack forgot the past before a time. A cache must drop what it keeps about moments before it.
    Packed {
        /// The time.
        to: Tid,
    },
}

/// Hears events.
///
/// A storage tells all events in one order, committed transactions in the order of their tids. A transaction is durable
/// and can be read when its event is told, and `finish` returns after that. The thread that finishes a group of
/// transactions calls the listener, which may be another one than the thread that called `finish` for it. No lock is
/// held: a listener may read, begin and vote. But it must not finish, copy or pack in that storage, because that thread
/// is the one that writes; and it should be quick, because all commits wait for it. If a listener panics, `finish`
/// does, too; the transaction is committed all the same, and the other listeners are told.
pub trait Listener: Send + Sync {
    /// Hears one event.
    fn hear(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Listener for F {
    fn hear(&self, event: &Event) {
        self(event);
    }
}

type Entry = (u64, Arc<dyn Listener>);

/// The listeners of one storage.
#[derive(Clone, Default)]
pub struct Listeners(Arc<RwLock<(u64, Arc<[Entry]>)>>);

impl Listeners {
    /// Adds a listener. It hears events until what this returns is dropped.
    pub fn add(&self, listener: Arc<dyn Listener>) -> Listening {
        let mut list = self.0.write();
        list.0 += 1;
        let number = list.0;
        list.1 = list.1.iter().cloned().chain([(number, listener)]).collect();
        Listening(Some((self.clone(), number)))
    }

    /// Tells all of them, one after the other. The event is made only if there is a listener.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        let list = Arc::clone(&self.0.read().1);
        if list.is_empty() {
            return;
        }
        let event = event();
        let mut panicked = None;
        for (_, listener) in &*list {
            let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| listener.hear(&event)));
            panicked = panicked.or(heard.err());
        }
        if let Some(panic) = panicked {
            std::panic::resume_unwind(panic);
        }
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listeners").field(&self.0.read().1.len()).finish()
    }
}

/// A listener that is told. Dropping this ends that.
#[derive(Debug, Default)]
#[must_use = "dropping it ends the listening"]
pub struct Listening(Option<(Listeners, u64)>);

impl Listening {
    /// For a storage in which nothing ever changes.
    pub fn never() -> Listening {
        Listening(None)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some((listeners, number)) = self.0.take() {
            let mut list = listeners.0.write();
            list.1 = list.1.iter().filter(|entry| entry.0 != number).cloned().collect();
        }
    }
}
