//! Damage, for people and for programs.

use std::path::Path;

use vellum_file::{CutShort, Fault, FaultKind, Recovery};
use vellum_terminal::Failure;

use crate::ui::say;

/// The failure of a command that damage has stopped.
pub fn damage(path: &Path, fault: &Fault) -> Failure {
    Failure::Message(format!(
        "{}; `vellum check` shows all that is wrong, `vellum recover` copies what is whole",
        describe(path, fault)
    ))
}

/// A fault in one line: its position and its kind.
pub fn describe(path: &Path, fault: &Fault) -> String {
    let tid = fault.tid.map(|tid| format!(" (transaction {tid})")).unwrap_or_default();
    let oid = fault.oid.map(|oid| format!(" (object {oid})")).unwrap_or_default();
    format!("{}: damaged at {fault}{tid}{oid}", path.display())
}

/// A fault's kind as a word.
pub fn kind(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::NoHeader { .. } => "no_header",
        FaultKind::HeaderCutOff { .. } => "header_cut_off",
        FaultKind::CutOff { .. } => "cut_off",
        FaultKind::Unfinished => "unfinished",
        FaultKind::BadStatus(_) => "bad_status",
        FaultKind::LengthTooSmall { .. } => "length_too_small",
        FaultKind::TwinDiffers { .. } => "twin_differs",
        FaultKind::NotLater { .. } => "not_later",
        FaultKind::NotEarlier { .. } => "not_earlier",
        FaultKind::RecordCutOff { .. } => "record_cut_off",
        FaultKind::RecordTooLong { .. } => "record_too_long",
        FaultKind::WrongTransaction { .. } => "wrong_transaction",
        FaultKind::WrongTid { .. } => "wrong_tid",
        FaultKind::BackpointerTooHigh { .. } => "backpointer_too_high",
        FaultKind::BackpointerAstray { .. } => "backpointer_astray",
        FaultKind::WrongPrevious { .. } => "wrong_previous",
        FaultKind::TrunkAstray { .. } => "trunk_astray",
        FaultKind::VersionAstray { .. } => "version_astray",
        FaultKind::Unreadable(_) => "unreadable",
    }
}

/// Warns of bytes at the end of the file that are not shown.
pub fn warn_end(path: &Path, position: u64, recovery: &Recovery) {
    match (recovery.short, recovery.cut, recovery.blank) {
        (Some(CutShort { tid, length, .. }), there, _) => say(&format!(
            "warning: {}: the last transaction, {tid} at position {position}, is cut at byte {there} of {length}, and is not \
             shown. It is marked as finished: a copy that was made during a commit ends so, and so does a file that lost its \
             end. Make the copy again; or `vellum recover` copies everything before it",
            path.display()
        )),
        (None, 0, _) => {}
        (None, cut, true) => warn_blank(path, position, cut),
        (None, cut, false) => warn_unfinished(path, position, cut),
    }
}

/// Warns of an unfinished commit at the end of the file.
fn warn_unfinished(path: &Path, position: u64, bytes: u64) {
    say(&format!(
        "warning: {}: the last {bytes} bytes, from position {position} on, are a commit that is not finished, and are \
         not shown. Either a program is committing just now, or the machine stopped during a commit; then opening the \
         database for writing cuts them off",
        path.display()
    ));
}

/// Warns of zeros at the end of the file.
fn warn_blank(path: &Path, position: u64, bytes: u64) {
    say(&format!(
        "warning: {}: the last {bytes} bytes, from position {position} on, begin with zeros where a transaction's header \
         should be, and are not shown. A machine that stops during a commit leaves that, and so does a disk that lost a \
         commit: which of the two cannot be told. Opening the database for writing cuts them off",
        path.display()
    ));
}
