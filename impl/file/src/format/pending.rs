//! The status of transactions that a crash kept from being marked.

use vellum_storage::Status;

use crate::format::UNFINISHED;
use crate::format::scan::Scanner;

/// Finds the status that an unmarked transaction is to have.
///
/// A commit of several transactions is marked after all of it is synced, so a crash can leave some of them marked and
/// others not. All of one commit have one status. An unmarked transaction gets that of the first marked one after it,
/// or [`Status::Complete`] if none follows.
///
/// The row of unmarked transactions that was walked over last is remembered: asking for one after the other, in either
/// direction, reads each header once.
#[derive(Debug)]
pub(crate) struct PendingStatus {
    /// The row of which the status is known.
    from: u64,
    until: u64,
    status: Status,
}

impl Default for PendingStatus {
    fn default() -> PendingStatus {
        PendingStatus { from: 0, until: 0, status: Status::Complete }
    }
}

impl PendingStatus {
    /// That of the unmarked transaction at `position`.
    pub fn status(&mut self, scanner: &mut Scanner<'_>, position: u64) -> Status {
        let (mut at, mut status) = (position, Status::Complete);
        let until = loop {
            if self.from <= at && at < self.until {
                status = self.status;
                break self.until;
            }
            match scanner.header(at) {
                Ok(header) if header.status == UNFINISHED => at = header.end(at),
                Ok(header) => {
                    status = Status::from_byte(header.status).filter(|s| *s != Status::Undone).unwrap_or_default();
                    break at;
                }
                Err(_) => break at,
            }
        };
        *self = PendingStatus { from: position, until: until.max(position + 1), status };
        status
    }
}
