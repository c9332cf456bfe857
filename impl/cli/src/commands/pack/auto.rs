//! `vellum pack --auto`: packs a database in tables in the background until it is told to end.

use std::io::Write;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use vellum_table::{Autopacking, SHARE};
use vellum_terminal::people::printable;
use vellum_terminal::{Failure, Out, Outcome, Run};

use super::Pack;
use crate::file::tables;

/// So often the command looks whether the thread has failed.
const LOOK: Duration = Duration::from_secs(1);

impl Pack {
    /// Packs until a signal.
    pub fn run_auto(self, out: &mut Out, keep: Duration) -> Run {
        let path = &self.file;
        let name = path.display().to_string();
        if !tables::is_one(path) {
            return Err(Failure::Message(format!(
                "{name}: --auto packs only a database in tables. Nothing was changed. `vellum copy {name} \
                 site.vellum` makes one of it"
            )));
        }
        let storage = match self.without_blobs {
            true => tables::open_to_write(path)?,
            false => tables::open_to_write_with_blobs(path, &self.blobs)?,
        };
        self.refuse_tables_with_blobs(&storage)?;
        let autopacking = storage.autopack(keep, SHARE)?;
        writeln!(out, "{}: packing in the background; it ends with SIGTERM or ^C", printable(&name))?;
        out.flush()?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(told_to_end(&autopacking))?;
        autopacking.end()?;
        writeln!(out, "ended; the next run goes on")?;
        Ok(Outcome::Fine)
    }
}

/// Waits for a signal, or for the failure of the thread.
async fn told_to_end(autopacking: &Autopacking) -> Run<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
        if autopacking.has_failed() {
            return Ok(());
        }
    }
}
