//! Work that yields the processors to the threads that serve clients.

use std::panic::resume_unwind;

use vellum_sync::thread;

/// How much nicer a background thread is than the thread that begins the work: the kernel gives it about a tenth of
/// what that thread gets while both want a processor.
const NICENESS: i32 = 10;

/// Does the work on a thread of low priority, and waits for it. Threads that the work begins have that priority, too. A
/// thread cannot raise its priority again without privileges, so this one ends with the work.
pub(crate) fn run<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let mut work = Some(work);
    let done = thread::scope(|scope| {
        let spawned = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, || {
            lower();
            work.take().map(|work| work())
        });
        // Without a thread, the caller does the work.
        spawned.ok().and_then(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    done.unwrap_or_else(|| work.take().expect("no thread has taken the work")())
}

/// Lowers this thread's priority. Without that, the work only is in the way a little more.
fn lower() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::getpriority_process(None)
        .and_then(|own| rustix::process::setpriority_process(None, (own + NICENESS).min(19)))
    {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::run;

    #[test]
    fn the_work_is_done_once_at_a_lower_priority_and_the_caller_keeps_its_own() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let (before, mut times) = (priority(), 0);
        let within = run("test", || {
            times += 1;
            std::thread::spawn(priority).join().unwrap()
        });
        assert_eq!((within, times), ((before + super::NICENESS).min(19), 1));
        assert_eq!(priority(), before);
    }

    #[test]
    fn a_panic_of_the_work_is_the_callers() {
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let panicked = catch_unwind(|| run("test", || panic!("the work")));
        std::panic::set_hook(quiet);
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"the work"));
    }
}
