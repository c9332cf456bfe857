//! The walk over a file, transaction by transaction, that opening, checking and recovering share.
//!
//! The walk says what it [`Found`]; each of the three makes something else of it:
//!
//! ```text
//!              Finished, Unmarked      Torn                       Damaged
//!   open       takes it                cuts it off                refuses the file
//!   check      looks into it           reports an unfinished end  reports it, and continues behind it
//!   recover    copies it               leaves it out              notes the loss, and continues behind it
//! ```

use vellum_disk::DiskFile;
use vellum_storage::Tid;

use super::ending::Ending;
use crate::format::fault::{Fault, FaultKind};
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{TransactionHeader, UNFINISHED};

/// The kind of bytes at a position.
pub(crate) enum Found {
    /// A whole transaction, marked as finished.
    Finished(Whole),
    /// A whole transaction that is not marked; but one that follows it, in an unbroken row of whole ones, is. So all of
    /// them were synced, and a crash came among the marks.
    Unmarked(Whole),
    /// The remains of a commit whose marks were not written when the machine stopped: it begins with a header that
    /// fits, and reaches to the end of the file.
    Torn(Broken),
    /// Something else.
    Damaged(Broken),
}

/// A transaction that agrees with the format.
pub(crate) struct Whole {
    pub position: u64,
    pub header: TransactionHeader,
    /// Its tid does not fit between those of its neighbours. Such a transaction counts: copying an older database
    /// behind a newer one leaves them, and ZODB reads and writes such files.
    pub disorder: Option<Fault>,
}

/// An incomplete transaction, or one that may not count.
pub(crate) struct Broken {
    pub position: u64,
    /// The fault at its beginning.
    pub fault: Fault,
    /// Where the next whole, finished transaction begins; none if none follows.
    pub next: Option<u64>,
}

/// A walk from one position to the end of the file.
pub(crate) struct Walk<'a> {
    file: &'a dyn DiskFile,
    size: u64,
    /// The last transaction that is wanted, if not all are.
    until: Option<Tid>,
    /// Reads the file.
    scanner: Scanner<'a>,
    /// Looks elsewhere, so that the first keeps its window.
    side: Scanner<'a>,
    /// Where the present transaction is, the greatest tid in order before it, and the tid of the one right before it.
    position: u64,
    last: Tid,
    before: Tid,
    /// The same of the next step.
    next: (u64, Tid, Tid),
    /// Up to here an unmarked transaction counts, because a finished one follows.
    finished_until: u64,
    /// Where it was already looked again.
    looked_again: Option<u64>,
}

impl<'a> Walk<'a> {
    /// A walk over the file up to `size`, from `position` on. `last` is the tid of the transaction before that.
    pub fn new(file: &'a dyn DiskFile, size: u64, (position, last): (u64, Tid)) -> Walk<'a> {
        Walk {
            file,
            size,
            until: None,
            scanner: Scanner::new(file, size),
            side: Scanner::new(file, size),
            position,
            last,
            before: last,
            next: (position, last, last),
            finished_until: position,
            looked_again: None,
        }
    }

    /// The walk ends at the last transaction that is not later than this. The rest of the file is skipped, even if it
    /// is damaged.
    pub fn until(self, until: Option<Tid>) -> Walk<'a> {
        Walk { until, ..self }
    }

    /// Where the present transaction begins; at the end of the walk, where the next one would.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where the file ends.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tid of the transaction right before the present position; of those before it, usually the last.
    pub fn before(&self) -> Tid {
        self.before
    }

    /// The greatest tid before the present position, of transactions that are in order.
    pub fn last(&self) -> Tid {
        self.last
    }

    /// For a look at other parts of the file.
    pub fn side(&mut self) -> &mut Scanner<'a> {
        &mut self.side
    }

    /// Goes to the next position, and says what stands there; none at the end of the walk.
    ///
    /// Each record is given to `each`, with a scanner to follow its pointers. A fault that `each` returns breaks the
    /// transaction.
    pub fn step(
        &mut self,
        mut each: impl FnMut(&mut Scanner<'a>, &TransactionHeader, Record) -> Result<(), Fault>,
    ) -> Option<Found> {
        (self.position, self.last, self.before) = self.next;
        let position = self.position;
        if position >= self.size || self.until == Some(self.last) {
            return None;
        }
        let side = &mut self.side;
        let header = match self.scanner.transaction(position, |header, record| each(side, header, record)) {
            Ok(header) => header,
            Err(fault) => return Some(self.broken(fault)),
        };
        let disorder = self.disorder(&header);
        let last = match &disorder {
            Some(_) => self.last,
            None => header.tid,
        };
        if self.until.is_some_and(|until| header.tid > until) {
            return None;
        }
        if header.status == UNFINISHED && !self.is_finished_after() {
            let kind = FaultKind::Unfinished;
            return Some(self.broken(Fault { position, tid: Some(header.tid), oid: None, kind }));
        }
        self.next = (header.end(position), last, header.tid);
        let whole = Whole { position, header, disorder };
        Some(if header.status == UNFINISHED { Found::Unmarked(whole) } else { Found::Finished(whole) })
    }

    /// The present transaction's tid, if it is out of order.
    fn disorder(&mut self, header: &TransactionHeader) -> Option<Fault> {
        let (position, last) = (self.position, self.last);
        if header.tid <= last {
            let kind = FaultKind::NotLater { last };
            return Some(Fault { position, tid: Some(header.tid), oid: None, kind });
        }
        self.side.tid_astray(position, header, last)
    }

    /// Whether a finished transaction follows the present one, which is not marked.
    fn is_finished_after(&mut self) -> bool {
        if self.position >= self.finished_until {
            // The row may begin with a transaction that is not later than the one before it.
            self.finished_until = finished_after(&mut self.side, self.position, Tid::ZERO);
        }
        self.position < self.finished_until
    }

    /// The end of a file that begins with zeros, where a header would be: a crash leaves that, and so does a disk that
    /// lost a commit. It is [`Found::Damaged`] with this fault.
    pub fn is_blank(broken: &Broken) -> bool {
        broken.next.is_none() && matches!(broken.fault.kind, FaultKind::NoHeader { zeros: true, .. })
    }

    /// Classifies the present position, if there is no valid transaction. The walk continues behind it.
    pub fn broken(&mut self, mut fault: Fault) -> Found {
        let position = self.position;
        let next = self.scanner.resync(position + 1, self.size, self.before.min(self.last));
        self.next = (next.unwrap_or(self.size), self.last, self.before);
        if next.is_some() {
            return Found::Damaged(Broken { position, fault, next });
        }
        let bytes = self.size - position;
        let torn = match Ending::at(&mut self.scanner, position, self.before.min(self.last)) {
            Ok(Ending::Header(status)) => status.is_none_or(|status| status == UNFINISHED),
            Ok(Ending::Blank) => {
                fault = Fault { tid: None, oid: None, kind: FaultKind::NoHeader { bytes, zeros: true }, ..fault };
                false
            }
            Ok(Ending::Foreign) => {
                // One wrong field in a header is named by itself.
                if is_about_header(&fault.kind) {
                    fault = Fault { tid: None, oid: None, kind: FaultKind::NoHeader { bytes, zeros: false }, ..fault };
                }
                false
            }
            Err(e) => {
                fault.kind = FaultKind::Unreadable(e.to_string());
                false
            }
        };
        let broken = Broken { position, fault, next };
        if torn { Found::Torn(broken) } else { Found::Damaged(broken) }
    }

    /// Looks at the present position again, up to where the file ends now. True if another process has finished a
    /// transaction there while this walk was looking at it; then the next step is at this position again. Once a
    /// position.
    pub fn look_again(&mut self) -> bool {
        if self.looked_again == Some(self.position) {
            return false;
        }
        let size = self.file.len().map_or(self.size, |size| size.max(self.size));
        let finished = finished_after(&mut Scanner::new(self.file, size), self.position, self.last) > self.position;
        if finished {
            *self = Walk {
                finished_until: self.finished_until,
                looked_again: Some(self.position),
                next: (self.position, self.last, self.before),
                ..Walk::new(self.file, size, (self.position, self.last)).until(self.until)
            };
        }
        finished
    }
}

/// Whether the fault says no more than that the header does not fit.
fn is_about_header(kind: &FaultKind) -> bool {
    use FaultKind::{BadStatus, CutOff, HeaderCutOff, LengthTooSmall, Unfinished};
    matches!(kind, HeaderCutOff { .. } | CutOff { .. } | LengthTooSmall { .. } | BadStatus(_) | Unfinished)
}

/// The end of the last finished transaction in an unbroken row of whole ones from `position` on; `position` if there is
/// none.
fn finished_after(scanner: &mut Scanner<'_>, position: u64, last: Tid) -> u64 {
    let (mut at, mut last, mut until) = (position, last, position);
    while at < scanner.end() {
        match scanner.transaction(at, |_, _| Ok(())) {
            Ok(header) if header.tid > last => {
                at = header.end(at);
                last = header.tid;
                if header.status != UNFINISHED {
                    until = at;
                }
            }
            _ => break,
        }
    }
    until
}
