//! Transactions of the future: a clock was ahead when they were written, and their tids say so for ever.

use std::path::Path;

use jiff::Timestamp;
use vellum_file::{FileStorage, Scanner};
use vellum_storage::{Order, Tid, TidRange};
use vellum_terminal::people;

use crate::ui::{args, say};

/// Clocks of two machines may differ by so many seconds.
const TOLERANCE_SECONDS: i64 = 60;

/// Warns if there are transactions of the future. `as_of`: only transactions up to this are shown.
pub fn warn(path: &Path, storage: &FileStorage, as_of: Option<Tid>) {
    let Ok(now) = args::now() else { return };
    let last = last_in_file(storage).unwrap_or_else(|| storage.last_transaction());
    if !is_future(last, now) {
        return;
    }
    // As of an earlier moment, the first one of the future is not among what the storage has.
    let range = TidRange { first: Tid::at(now).next(), last: Tid::MAX };
    let first = match as_of {
        None => storage.transactions(range, Order::OldestFirst).ok().and_then(|mut all| all.next()?.ok()),
        Some(_) => None,
    };
    let begins = match first.map(|transaction| transaction.tid).filter(|tid| *tid != last) {
        Some(first) => format!("from {first}, {}, to {last}, {},", people::time(first, now), people::time(last, now)),
        None => format!("up to {last}, {},", people::time(last, now)),
    };
    let shown = match as_of {
        Some(_) => ". --at goes by these times: what they did is shown for a time in the future only",
        None => "",
    };
    tell(path, &begins, shown);
}

/// The same for a file that was only looked at.
pub fn warn_of(path: &Path, first: Option<Tid>, last: Tid, now: Timestamp) {
    if !is_future(last, now) {
        return;
    }
    let begins = match first.filter(|first| *first != last) {
        Some(first) => format!("from {first}, {}, to {last}, {},", people::time(first, now), people::time(last, now)),
        None => format!("up to {last}, {},", people::time(last, now)),
    };
    tell(path, &begins, "");
}

/// Whether the tid is later than any clock shows now.
pub fn is_future(tid: Tid, now: Timestamp) -> bool {
    tid.time().is_some_and(|time| time.as_second() > now.as_second() + TOLERANCE_SECONDS)
}

fn tell(path: &Path, begins: &str, shown: &str) {
    say(&format!(
        "warning: {}: the transactions {begins} are of the future: a clock was ahead when they were written. Until then, \
         each new one gets the last tid plus one, and so a wrong time as well. --since, --until, --at, --before and --days \
         go by the times in the file{shown}",
        path.display()
    ));
}

/// The tid of the last transaction of the whole file; none if it does not end with one.
fn last_in_file(storage: &FileStorage) -> Option<Tid> {
    let (file, _) = storage.data_file();
    let size = file.len().ok()?;
    let mut twin = [0; 8];
    file.read_full_at(&mut twin, size.checked_sub(8)?).ok()?;
    let start = size.checked_sub(u64::from_be_bytes(twin).checked_add(8)?)?;
    Some(Scanner::new(&*file, size).header(start).ok()?.tid)
}
