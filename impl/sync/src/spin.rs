//! Waiting awake, where the answer comes sooner than a sleeping thread would be woken.
//!
//! ```text
//!   sleeps:      asks ──▶ sleeps ···· the answer is here ── 10 to 30 µs ──▶ goes on
//!   stays awake: asks ──▶ looks, looks, looks, the answer is here ─▶ goes on
//! ```
//!
//! It costs processor time, so a wait that was in vain is followed by 1, 3, 7 and at most 63 waits without it. A server
//! that is far away, or a client that thinks, is not spun for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Misses beyond these count no more: then 63 of 64 waits sleep at once.
const MISSES_MAX: u32 = 6;

/// The waits of one place in the code, each for an answer of the same kind.
#[derive(Debug)]
pub struct Spin {
    /// The longest time that a wait stays awake.
    patience: Duration,
    /// Waits in a row that stayed awake in vain.
    misses: AtomicU32,
    /// So many waits sleep at once.
    asleep: AtomicU32,
}

impl Spin {
    /// Waits that stay awake for at most `patience`.
    pub const fn new(patience: Duration) -> Spin {
        Spin { patience, misses: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// Waits for `future`, awake at first if that has paid. `pass` lets the other tasks of this thread run, and looks
    /// for events without sleeping.
    pub async fn wait<F: Future, P: Future<Output = ()>>(&self, future: F, pass: impl Fn() -> P) -> F::Output {
        let mut future = pin!(future);
        if self.stays_awake() {
            let begun = Instant::now();
            loop {
                let now = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
                let is_over = begun.elapsed() >= self.patience;
                match now {
                    Poll::Ready(output) => {
                        self.has_paid(!is_over);
                        return output;
                    }
                    Poll::Pending if is_over => break,
                    Poll::Pending => pass().await,
                }
            }
            self.has_paid(false);
        }
        future.await
    }

    fn stays_awake(&self) -> bool {
        // Two threads that wait at once may both count one wait: no harm.
        let asleep = self.asleep.load(Ordering::Relaxed);
        self.asleep.store(asleep.saturating_sub(1), Ordering::Relaxed);
        asleep == 0
    }

    fn has_paid(&self, has_paid: bool) {
        let misses = if has_paid { 0 } else { (self.misses.load(Ordering::Relaxed) + 1).min(MISSES_MAX) };
        self.misses.store(misses, Ordering::Relaxed);
        self.asleep.store((1 << misses) - 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::task::{Context, Waker};

    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
        }
    }

    /// Ready when it was looked at so often.
    fn after(mut looks: u32) -> impl Future<Output = &'static str> {
        poll_fn(move |_| match looks {
            0 => Poll::Ready("here"),
            _ => {
                looks -= 1;
                Poll::Pending
            }
        })
    }

    #[test]
    fn a_wait_that_pays_looks_until_it_is_ready() {
        let spin = Spin::new(Duration::from_secs(3600));
        assert_eq!(run(spin.wait(after(100), || ready(()))), "here");
        assert!(spin.stays_awake());
    }

    #[test]
    fn waits_in_vain_become_rare() {
        let spin = Spin::new(Duration::ZERO);
        let mut awake = Vec::new();
        for n in 0..300 {
            if spin.asleep.load(Ordering::Relaxed) == 0 {
                awake.push(n);
            }
            assert_eq!(run(spin.wait(after(3), || ready(()))), "here");
        }
        assert_eq!(awake, [0, 2, 6, 14, 30, 62, 126, 190, 254]);
    }
}
