//! Progress bars: on a terminal only, and only for work that takes a moment.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vellum_file::Progress;

/// Work that takes less time shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// A progress bar on standard error. Dropping it removes the bar.
pub struct Meter {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    what: &'static str,
    start: Instant,
    bar: Mutex<Option<ProgressBar>>,
}

impl Meter {
    /// A bar for work that begins now.
    pub fn new(what: &'static str) -> Meter {
        let inner = || Arc::new(Inner { what, start: Instant::now(), bar: Mutex::new(None) });
        Meter { inner: io::stderr().is_terminal().then(inner) }
    }

    /// A meter that shows nothing.
    pub fn hidden() -> Meter {
        Meter { inner: None }
    }

    /// Shows that `done` of `all` is done.
    pub fn update(&self, done: u64, all: u64) {
        if let Some(inner) = &self.inner {
            inner.update(done, all);
        }
    }

    /// Returns [`Meter::update`] as a function.
    pub fn progress(&self) -> Progress {
        let inner = self.inner.clone();
        Arc::new(move |done, all| {
            if let Some(inner) = &inner {
                inner.update(done, all);
            }
        })
    }

    /// Hides the bar while `write` writes to the terminal.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match self.inner.as_ref().and_then(|inner| inner.bar()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = self.inner.as_ref().and_then(|inner| inner.bar()) {
            bar.finish_and_clear();
        }
    }
}

impl Inner {
    fn bar(&self) -> Option<ProgressBar> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, done: u64, all: u64) {
        let elapsed = self.start.elapsed();
        if elapsed < PATIENCE {
            return;
        }
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg:>10} [{wide_bar}] {percent:>3} %, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::stderr())
                .with_style(style.progress_chars("=> "))
                .with_message(self.what)
                .with_elapsed(elapsed)
        });
        bar.set_length(all);
        bar.set_position(done.min(all));
    }
}
