//! Chains of promises.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use vellum_client::{Client, ClientError, ClientOptions, Promise};

fn counted_down(n: u32) -> Promise<u32> {
    match n {
        0 => Promise::of(Ok(0)),
        _ => Promise::of(Ok(n)).then(|n| counted_down(n - 1)),
    }
}

/// As of a program that follows references in its cache, whose answers are there at once.
#[test]
fn a_long_chain_takes_no_stack() {
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    let counted = thread.spawn(|| counted_down(100_000).wait()).unwrap();
    assert_eq!(counted.join().unwrap(), Ok(0));
}

#[test]
fn a_panic_leaves_the_others_their_answers() {
    let (sender, heard) = channel();
    let begun = std::thread::spawn(move || {
        Promise::of(Ok(1)).finally(move |answer| {
            let inner = Promise::of(answer);
            inner.finally(|_| panic!("of a continuation"));
            inner.finally(move |answer| sender.send(answer).unwrap());
        });
    });
    assert!(begun.join().is_err(), "the panic comes out");
    assert_eq!(heard.recv().unwrap(), Ok(1));
}

/// A task, and how often it was woken. It may have a promise itself.
#[derive(Default)]
struct Task {
    woken: AtomicUsize,
    has: Mutex<Option<Promise<()>>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

fn is_pending(promise: &mut Promise<()>, task: &Arc<Task>) -> bool {
    let waker = Waker::from(Arc::clone(task));
    Pin::new(promise).poll(&mut Context::from_waker(&waker)) == Poll::Pending
}

/// A client without a server, and a promise of one.
fn open_promise() -> (Client, Promise<()>) {
    let client = Client::open(ClientOptions::at("127.0.0.1:9")).unwrap();
    let connected = client.connected();
    (client, connected)
}

/// A program that waits again and again, and gives up each time.
#[test]
fn tasks_that_wait_no_longer_are_not_kept() {
    let (client, promise) = open_promise();
    let task = Arc::new(Task::default());
    for _ in 0..100 {
        let another = Arc::new(Task::default());
        let mut polled = promise.clone();
        assert!(is_pending(&mut polled, &another));
        assert_eq!(Arc::strong_count(&another), 2);
        drop(polled);
        assert_eq!(Arc::strong_count(&another), 1, "a task that was cancelled is kept");
    }
    // It goes from task to task. The last one is woken.
    let mut moved = promise.clone();
    let earlier: Vec<_> = (0..100).map(|_| Arc::new(Task::default())).collect();
    for earlier in &earlier {
        assert!(is_pending(&mut moved, earlier));
    }
    assert!(earlier[..99].iter().all(|earlier| Arc::strong_count(earlier) == 1));
    assert!(is_pending(&mut moved, &task));
    let mut other = promise.clone();
    assert!(is_pending(&mut other, &task));
    drop(client);
    assert_eq!(promise.wait(), Err(ClientError::Closed));
    assert_eq!(task.woken.load(Ordering::SeqCst), 2);
    assert!(!is_pending(&mut moved, &task));
}

/// The last handle of a task is its waker, and the task has another promise of the same answer.
#[test]
fn a_task_may_end_with_its_waker() {
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let (_client, mut promise) = open_promise();
        for is_replaced in [true, false] {
            let (task, mut own) = (Arc::new(Task::default()), promise.clone());
            assert!(is_pending(&mut own, &Arc::default()));
            let mut polled = promise.clone();
            assert!(is_pending(&mut polled, &task));
            *task.has.lock().unwrap() = Some(own);
            drop(task);
            if is_replaced {
                assert!(is_pending(&mut polled, &Arc::default()));
            }
        }
        assert!(is_pending(&mut promise, &Arc::default()));
        done.send(()).unwrap();
    });
    is_done.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits for itself");
}
