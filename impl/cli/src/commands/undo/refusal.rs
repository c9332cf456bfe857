//! Why transactions cannot be undone: the objects in the way, the later changes to them, and what would help.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Draft, Error, NotUndone, Oid, Refusal, Storage, Tid, TransactionMeta, Voted, WhyNot};
use vellum_terminal::people::{count, counted, printable, printable_start};
use vellum_terminal::{Failure, Out, Run};

use crate::file::Database;
use crate::file::revisions::{Entry, Revisions};
use crate::ui::changes::{JsonState, State};
use crate::ui::classes::class_name;
use crate::ui::meta::{JsonTransaction, Metadata, moment};

/// The number of transactions that are tried together. To undo more, look first at the other changes of those
/// transactions.
const TOGETHER_MAX: usize = 50;

/// Why transactions cannot be undone.
pub struct RefusedUndo {
    /// The first transaction that cannot be undone.
    tid: Tid,
    why: Refusal,
    objects: Vec<InTheWay>,
    /// These transactions and the later ones that must be undone with them, newest first, if that helps.
    together: Option<Vec<Tid>>,
}

/// An object that cannot be undone.
struct InTheWay {
    oid: Oid,
    why: WhyNot,
    now: State,
    undone_already: bool,
    later: Vec<(Tid, Metadata)>,
}

/// The same, for programs.
#[derive(Serialize)]
pub struct JsonRefusedUndo {
    tid: String,
    message: String,
    objects: Vec<JsonInTheWay>,
    together: Option<Vec<String>>,
}

#[derive(Serialize)]
struct JsonInTheWay {
    oid: String,
    class: Option<String>,
    why: String,
    now: JsonState,
    undone_already: bool,
    changed_later: Vec<JsonTransaction>,
}

impl RefusedUndo {
    /// Finds out why these, newest first, cannot be undone.
    pub fn find(database: &Database, tids: &[Tid]) -> Run<RefusedUndo> {
        let changed = || Failure::Message("another process is changing the database: try again".to_owned());
        let (tid, why) = refused(database, tids)?.ok_or_else(changed)?;
        let revisions = database.revisions();
        let asked: BTreeSet<Tid> = tids.iter().copied().collect();
        let mut objects = Vec::new();
        for &NotUndone { oid, why } in in_the_way(&why) {
            let newest = revisions.known(oid)?;
            let mut later = later(&revisions, oid, tid)?;
            later.retain(|(tid, _)| !asked.contains(tid));
            objects.push(InTheWay {
                oid,
                why,
                now: revisions.state(&newest)?,
                undone_already: is_undone_already(&revisions, &newest, tid)?,
                later,
            });
        }
        let mut refusal = RefusedUndo { tid, why, objects, together: None };
        if !refusal.undone_already() {
            refusal.together = together(database, &revisions, asked)?;
        }
        Ok(refusal)
    }

    fn undone_already(&self) -> bool {
        !self.objects.is_empty() && self.objects.iter().all(|object| object.undone_already)
    }

    /// For people.
    pub fn show(&self, out: &mut Out, path: &Path, at_most: usize, now: Timestamp) -> Run<()> {
        let at_most = if at_most == 0 { usize::MAX } else { at_most };
        if self.objects.is_empty() {
            writeln!(out, "Nothing was changed: {}.", self.why)?;
            return Ok(());
        }
        let objects = counted(self.objects.len() as u64, "object");
        writeln!(out, "Nothing was changed: {} cannot be undone, because of {objects}:", self.tid)?;
        for object in self.objects.iter().take(at_most) {
            object.show(out, path, now)?;
        }
        if self.objects.len() > at_most {
            writeln!(out, "  and {} more; `--objects 0` shows all", count((self.objects.len() - at_most) as u64))?;
        }
        writeln!(out)?;
        match &self.together {
            _ if self.undone_already() => {
                writeln!(out, "All of it is as it was before that transaction: it was undone already.")?;
            }
            Some(together) => {
                let tids: Vec<_> = together.iter().map(Tid::to_string).collect();
                writeln!(out, "It can be undone together with what changed these objects later:")?;
                writeln!(out, "  vellum undo {} {} --dry-run", printable(&path.display().to_string()), tids.join(" "))?;
            }
            None => writeln!(
                out,
                "Later changes of these objects have to be undone first, the newest one before the others."
            )?,
        }
        Ok(())
    }

    /// For programs.
    pub fn json(&self) -> JsonRefusedUndo {
        JsonRefusedUndo {
            tid: self.tid.to_string(),
            message: self.why.to_string(),
            objects: self.objects.iter().map(InTheWay::json).collect(),
            together: self.together.as_ref().map(|tids| tids.iter().map(Tid::to_string).collect()),
        }
    }
}

impl InTheWay {
    fn show(&self, out: &mut Out, path: &Path, now: Timestamp) -> Run<()> {
        const LATER_MAX: usize = 5;
        writeln!(out, "  {}  {}, {}", self.oid, class_name(self.now.class.as_deref()), self.why)?;
        writeln!(out, "      now       {}", self.now.now(now))?;
        if self.undone_already {
            writeln!(out, "                which is what it was before that transaction")?;
        }
        let mut label = "later";
        for (tid, meta) in self.later.iter().take(LATER_MAX) {
            writeln!(out, "      {label:<9} {}", moment(*tid, now))?;
            let who = [&meta.user, &meta.description].map(|text| printable_start(text));
            let who: Vec<_> = who.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
            if !who.is_empty() {
                writeln!(out, "                    {}", who.join(": "))?;
            }
            label = "";
        }
        if self.later.len() > LATER_MAX {
            let more = count((self.later.len() - LATER_MAX) as u64);
            let log = format!("vellum log {} --object {:x}", printable(&path.display().to_string()), self.oid.0);
            writeln!(out, "                and {more} more; `{log}` lists them")?;
        }
        Ok(())
    }

    fn json(&self) -> JsonInTheWay {
        JsonInTheWay {
            oid: self.oid.to_string(),
            class: self.now.class.as_deref().map(str::to_owned),
            why: self.why.to_string(),
            now: self.now.json(),
            undone_already: self.undone_already,
            changed_later: self.later.iter().map(|(tid, meta)| JsonTransaction::new(*tid, meta)).collect(),
        }
    }
}

/// The transactions that changed the object after that one, newest first.
fn later(revisions: &Revisions<'_>, oid: Oid, after: Tid) -> Run<Vec<(Tid, Metadata)>> {
    let mut found: Vec<(Tid, Metadata)> = Vec::new();
    for entry in revisions.chain(oid)? {
        let entry = entry?;
        let tid = entry.tid;
        if tid <= after {
            break;
        }
        // A transaction may hold the object twice.
        if found.last().is_none_or(|(last, _)| *last != tid) {
            found.push((tid, revisions.metadata(&entry)?));
        }
    }
    Ok(found)
}

/// These, and the later ones that must be undone with them, newest first. None if that does not help, or takes too
/// many.
fn together(database: &Database, revisions: &Revisions<'_>, asked: BTreeSet<Tid>) -> Run<Option<Vec<Tid>>> {
    let mut all = asked;
    while all.len() <= TOGETHER_MAX {
        let tids = newest_first(&all);
        let Some((tid, why)) = refused(database, &tids)? else { return Ok(Some(tids)) };
        let before = all.len();
        for object in in_the_way(&why) {
            all.extend(later(revisions, object.oid, tid)?.into_iter().map(|(tid, _)| tid));
        }
        if all.len() == before {
            break;
        }
    }
    Ok(None)
}

/// Whether the object is now what it was before that transaction.
fn is_undone_already(revisions: &Revisions<'_>, newest: &Entry, tid: Tid) -> Run<bool> {
    let is_later = |entry: &Run<Entry>| entry.as_ref().is_ok_and(|entry| entry.tid > tid);
    let mut past = revisions.chain(newest.oid)?.skip_while(is_later);
    if past.next().transpose()?.is_none_or(|entry| entry.tid != tid) {
        return Ok(false);
    }
    let now = revisions.data(newest)?;
    Ok(match past.next().transpose()? {
        Some(before) => now == revisions.data(&before)? && newest.version == before.version,
        None => now.is_none(),
    })
}

/// Votes on undoing these transactions, in this order.
pub fn vote(storage: &dyn Storage, mut draft: Draft, tids: &[Tid]) -> vellum_storage::Result<Voted> {
    for &tid in tids {
        draft.undo(tid)?;
    }
    storage.vote(draft)
}

/// Why these cannot be undone in this order: the first transaction that fails, and its refusal. None if they can be.
fn refused(database: &Database, tids: &[Tid]) -> Run<Option<(Tid, Refusal)>> {
    let mut why = None;
    // The refusal of a vote does not say which of the transactions fails.
    let (mut good, mut bad) = (0, tids.len() + 1);
    while good + 1 < bad {
        // All of them at first, since usually all can be undone.
        let tried = if bad > tids.len() { tids.len() } else { good.midpoint(bad) };
        match vote(database.storage(), database.rehearse(TransactionMeta::new())?, &tids[..tried]) {
            Ok(_) => good = tried,
            Err(Error::Refused(e @ (Refusal::UndoConflict { .. } | Refusal::NotUndoable { .. }))) => {
                (bad, why) = (tried, Some(e));
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(why.map(|why| (tids[bad - 1], why)))
}

/// The objects that a refusal names.
fn in_the_way(why: &Refusal) -> &[NotUndone] {
    match why {
        Refusal::UndoConflict { objects } => objects,
        _ => &[],
    }
}

/// Newest first, as they are undone.
fn newest_first(tids: &BTreeSet<Tid>) -> Vec<Tid> {
    tids.iter().rev().copied().collect()
}
