//! The thread of a client that has its own; and callers, which do its work while they wait.
//!
//! A caller that blocks until its answer is there has nothing else to do. If another thread read the socket for it,
//! each answer would wake two threads, one after the other; on most machines that takes longer than all the rest of a
//! load. So the caller runs the client's tasks itself until its promise is kept.
//!
//! ```text
//!   the client's thread   runs the tasks ───┐ leaves    looks every 2 ms ... nobody waits: runs the tasks
//!   a caller                    waits ──────┴▶ runs the tasks ─▶ its answer
//! ```
//!
//! One thread at a time runs the tasks; tokio sees to that. Where no caller waits, and the client's thread has not
//! noticed that yet, a message from the server waits for [`PAUSE`] at most.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;
use vellum_sync::{Mutex, RwLock, Spin};

/// The client's thread looks so often whether callers still run the tasks.
const PAUSE: Duration = Duration::from_millis(2);
/// A caller stays awake for this time: a load on the same host takes less.
const AWAKE: Duration = Duration::from_micros(100);

/// Runs a client's tasks.
pub(crate) struct Driver {
    /// None when the client has ended.
    runtime: RwLock<Option<Runtime>>,
    /// Whether the client's thread runs the tasks, or waits to.
    is_driving: AtomicBool,
    /// The client's thread is to leave the tasks to a caller.
    leave: Notify,
    /// How often callers have begun to wait.
    waits: AtomicU64,
    has_ended: AtomicBool,
    /// The waits of callers.
    spin: Spin,
    thread: Mutex<Option<Thread>>,
}

impl Driver {
    /// A thread for a client's tasks, and the way to give it some.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start() -> io::Result<(Arc<Driver>, Handle)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let driver = Arc::new(Driver {
            runtime: RwLock::new(Some(runtime)),
            is_driving: AtomicBool::new(false),
            leave: Notify::new(),
            waits: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            spin: Spin::new(AWAKE),
            thread: Mutex::new(None),
        });
        let runs = Arc::clone(&driver);
        let thread = std::thread::Builder::new().name("vellum-client".to_owned()).spawn(move || runs.run())?;
        *driver.thread.lock() = Some(thread.thread().clone());
        Ok((driver, handle))
    }

    /// The client's thread.
    fn run(&self) {
        while !self.has_ended.load(Ordering::SeqCst) {
            self.is_driving.store(true, Ordering::SeqCst);
            if let Some(runtime) = &*self.runtime.read() {
                runtime.block_on(self.leave.notified());
            }
            self.is_driving.store(false, Ordering::SeqCst);
            let mut before = None;
            while !self.has_ended.load(Ordering::SeqCst) {
                let waits = self.waits.load(Ordering::SeqCst);
                if before == Some(waits) {
                    break;
                }
                before = Some(waits);
                std::thread::park_timeout(PAUSE);
            }
        }
        // Here, and not where the last promise is dropped, which may be within a task.
        let runtime = self.runtime.write().take();
        drop(runtime);
    }

    /// Runs the client's tasks on this thread until `future` is ready. None if it cannot: this thread runs other tasks,
    /// or the client has ended.
    pub fn until<F: Future>(&self, future: F) -> Option<F::Output> {
        if Handle::try_current().is_ok() {
            return None;
        }
        let runtime = self.runtime.read();
        let runtime = runtime.as_ref()?;
        self.waits.fetch_add(1, Ordering::SeqCst);
        if self.is_driving.load(Ordering::SeqCst) {
            self.leave.notify_one();
        }
        Some(runtime.block_on(self.spin.wait(future, tokio::task::yield_now)))
    }

    /// Ends the thread. Every promise must be kept before.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.leave.notify_one();
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }
}
