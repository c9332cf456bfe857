//! Judges what clients wrote down. It knows nothing of the server: only what each client read, wrote and was told, and
//! when.
//!
//! ```text
//!   commits, by tid     1 ──────── 2 ──────── 3 ──────── 4
//!   a transaction             └─ its snapshot ─┘             all that it read is of one moment
//!                                               ▲            what it changed was not changed in between
//! ```

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// A transaction as its client wrote it down. Times are of one clock.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// The client's name.
    #[allow(dead_code, reason = "messages show it")]
    pub client: String,
    /// When it began.
    pub begin: u64,
    /// The objects that it read, with the labels found there.
    pub reads: Vec<(u64, String)>,
    /// The objects that it changed, with its labels. It read them all.
    pub writes: Vec<(u64, String)>,
    /// When its commit began.
    pub commit: u64,
    /// When that returned.
    pub end: u64,
    /// The tid of a commit that wrote something.
    pub tid: Option<u64>,
    /// Whether it was refused for a conflict.
    pub refused: bool,
}

/// The number of transactions of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Transactions that wrote something.
    pub commits: usize,
    /// Those that only read.
    pub reads: usize,
    /// Those that were refused.
    pub refusals: usize,
    /// Commits during which another one returned.
    pub overlaps: usize,
}

/// The commits in the order of their tids.
struct History<'a> {
    commits: Vec<&'a Entry>,
    /// Where each label was written; 0 is before all of them, and the first commit is 1.
    written: HashMap<(u64, &'a str), usize>,
    /// Of each object, where it was changed.
    changed: BTreeMap<u64, Vec<usize>>,
}

impl<'a> History<'a> {
    fn of(initial: &'a str, entries: &'a [Entry]) -> Result<History<'a>, String> {
        let mut commits: Vec<&Entry> = entries.iter().filter(|entry| entry.tid.is_some()).collect();
        commits.sort_by_key(|entry| entry.tid);
        if let Some(pair) = commits.windows(2).find(|pair| pair[0].tid == pair[1].tid) {
            return Err(format!("two commits have one tid:\n{:?}\n{:?}", pair[0], pair[1]));
        }
        let mut history = History { commits: Vec::new(), written: HashMap::new(), changed: BTreeMap::new() };
        for oid in entries.iter().flat_map(|entry| entry.reads.iter().map(|(oid, _)| *oid)) {
            history.written.insert((oid, initial), 0);
        }
        for (n, commit) in commits.iter().enumerate() {
            for (oid, label) in &commit.writes {
                history.written.insert((*oid, label), n + 1);
                history.changed.entry(*oid).or_default().push(n + 1);
            }
        }
        history.commits = commits;
        Ok(history)
    }

    /// The first commit after this place that changed the object.
    fn next_change(&self, oid: u64, place: usize) -> Option<usize> {
        self.changed.get(&oid)?.iter().copied().find(|change| *change > place)
    }

    /// How many commits the transaction saw: the least and the most that explain all its reads.
    fn snapshot(&self, entry: &Entry) -> Result<(usize, usize), String> {
        let (mut least, mut most) = (0, self.commits.len());
        for (oid, label) in &entry.reads {
            let Some(place) = self.written.get(&(*oid, label.as_str())) else {
                return Err(format!("it read {label} of {oid}, which nobody committed: {entry:?}"));
            };
            least = least.max(*place);
            most = most.min(self.next_change(*oid, *place).map_or(usize::MAX, |next| next - 1));
        }
        match least <= most {
            true => Ok((least, most)),
            false => Err(format!("no moment explains all that it read: {entry:?}")),
        }
    }
}

/// Judges the transactions of all clients. Each object had the label `initial` in the beginning.
///
/// # Errors
///
/// An answer that has no explanation.
pub fn judge(initial: &str, entries: &[Entry]) -> Result<Judged, String> {
    let history = History::of(initial, entries)?;
    let mut judged = Judged::default();
    let mut latest = 0;
    for commit in &history.commits {
        // If one commit returned before another one began, its tid is smaller.
        if commit.end < latest {
            return Err(format!("it returned before another commit began, whose tid is smaller: {commit:?}"));
        }
        latest = latest.max(commit.commit);
    }
    for entry in entries {
        let (_, most) = history.snapshot(entry)?;
        let over = history.commits.iter().rposition(|commit| commit.end < entry.begin).map_or(0, |n| n + 1);
        if most < over {
            return Err(format!("a commit that it does not see had returned before it began: {entry:?}"));
        }
        let place = entry.tid.and_then(|tid| history.commits.iter().position(|commit| commit.tid == Some(tid)));
        match place {
            Some(place) => {
                judged.commits += 1;
                for (oid, label) in entry.reads.iter().filter(|(oid, _)| entry.writes.iter().any(|(o, _)| o == oid)) {
                    let seen = history.written.get(&(*oid, label.as_str())).copied().unwrap_or_default();
                    if history.next_change(*oid, seen) != Some(place + 1) {
                        return Err(format!("{oid} had been changed by another commit: {entry:?}"));
                    }
                }
                let others = history.commits.iter().filter(|other| other.tid != entry.tid);
                judged.overlaps +=
                    usize::from(others.into_iter().any(|other| entry.commit < other.end && other.end < entry.end));
            }
            None if entry.refused => {
                judged.refusals += 1;
                let is_changed = |(oid, label): &(u64, String)| {
                    let seen = history.written.get(&(*oid, label.as_str())).copied().unwrap_or_default();
                    history.next_change(*oid, seen).is_some_and(|next| history.commits[next - 1].commit < entry.end)
                };
                let mut written = entry.reads.iter().filter(|(oid, _)| entry.writes.iter().any(|(o, _)| o == oid));
                if !written.any(is_changed) {
                    return Err(format!("it was refused, and nobody had changed what it wrote: {entry:?}"));
                }
            }
            None => judged.reads += 1,
        }
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(times: [u64; 3], reads: &[(u64, &str)], writes: &[(u64, &str)], tid: Option<u64>) -> Entry {
        let owned = |pairs: &[(u64, &str)]| pairs.iter().map(|(oid, label)| (*oid, (*label).to_owned())).collect();
        let [begin, commit, end] = times;
        let client = "a client".to_owned();
        Entry { client, begin, reads: owned(reads), writes: owned(writes), commit, end, tid, refused: false }
    }

    fn fault(entries: &[Entry]) -> String {
        judge("0", entries).unwrap_err().split(':').next().unwrap().to_owned()
    }

    #[test]
    fn what_has_an_explanation_is_right() {
        let first = entry([0, 1, 2], &[(1, "0")], &[(1, "a")], Some(10));
        let second = entry([3, 4, 5], &[(1, "a"), (2, "0")], &[(2, "b")], Some(20));
        // It began before both, and sees what it wants of them, but of one moment.
        let reader = entry([0, 9, 9], &[(1, "a"), (2, "0")], &[], None);
        let refused = Entry { refused: true, ..entry([1, 2, 3], &[(1, "0")], &[(1, "c")], None) };
        let judged = judge("0", &[first, second, reader, refused]).unwrap();
        assert_eq!(judged, Judged { commits: 2, reads: 1, refusals: 1, overlaps: 0 });
    }

    #[test]
    fn every_anomaly_is_found() {
        let first = || entry([0, 1, 2], &[(1, "0"), (2, "0")], &[(1, "a"), (2, "a")], Some(10));
        let half = entry([0, 9, 9], &[(1, "a"), (2, "0")], &[], None);
        assert_eq!(fault(&[first(), half]), "no moment explains all that it read");
        let lost = entry([0, 3, 4], &[(1, "0")], &[(1, "b")], Some(20));
        assert_eq!(fault(&[first(), lost]), "1 had been changed by another commit");
        let old = entry([3, 4, 4], &[(1, "0")], &[], None);
        assert_eq!(fault(&[first(), old]), "a commit that it does not see had returned before it began");
        let never = entry([3, 4, 4], &[(1, "z")], &[], None);
        assert_eq!(fault(&[first(), never]), "it read z of 1, which nobody committed");
        let early = entry([3, 4, 5], &[(3, "0")], &[(3, "c")], Some(5));
        assert_eq!(fault(&[first(), early]), "it returned before another commit began, whose tid is smaller");
        let refused = Entry { refused: true, ..entry([3, 4, 5], &[(1, "a")], &[(1, "c")], None) };
        assert_eq!(fault(&[first(), refused]), "it was refused, and nobody had changed what it wrote");
        assert_eq!(fault(&[first(), first()]), "two commits have one tid");
    }
}
