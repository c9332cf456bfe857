//! The table of corners: a line for each, in the order of the rules.
//!
//! A corner has a name, its rule's number, its description, and the capabilities that a storage needs to reach it. A
//! new corner needs a line here, and one in the file that says when it is reached: `steps.rs`, `packs.rs` or
//! `answers.rs`.

use crate::subject::Can;

macro_rules! corners {
    ($($name:ident $rule:literal $what:literal $([$($can:ident),+])? $({forgets: $seconds:literal})?)+) => {
        /// A rule, or a corner of one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the table says it")]
        pub enum Corner { $($name),+ }

        impl Corner {
            /// All of them, in the order of the rules.
            pub const ALL: &[Corner] = &[$(Corner::$name),+];

            /// The rule's number.
            pub fn rule(self) -> &'static str {
                match self { $(Corner::$name => $rule),+ }
            }

            /// A description of the corner.
            pub fn what(self) -> &'static str {
                match self { $(Corner::$name => $what),+ }
            }

            /// The capabilities that a storage needs to reach it.
            pub fn needs(self) -> Can {
                match self { $(Corner::$name => Can { $($($can: true,)+)? $(forgets: Some($seconds),)? ..Can::default() }),+ }
            }
        }
    };
}

corners! {
    ClockForward "1.1" "the tid is the clock's"
    ClockBehind "1.1" "the clock stands or goes back: the next tid after the last"
    TwiceInOne "1.4" "an object twice in one transaction" [repeat]
    Load "2.1" "load: on the trunk"
    LoadBase "2.1" "load: the base of a revision in a version, at the newest tid" [versions]
    LoadInVersion "2.1" "load: in the version" [versions]
    LoadUnknown "2.1" "load: unknown"
    LoadTombstone "2.1" "load: a tombstone" [delete]
    BeforeShown "2.2" "load_before: shown until now"
    BeforeNext "2.2" "load_before: shown until something else was"
    BeforeNotYet "2.2" "load_before: not there yet"
    BeforeTombstone "2.2" "load_before: a tombstone then" [delete]
    BeforeVersionUndone "2.2" "load_before: since the undo of a version's commit" [versions, undo]
    Serial "2.3" "load_serial"
    SerialBase "2.3" "load_serial: the base of a revision in a version" [versions]
    SerialNone "2.3" "load_serial: no such revision, or a tombstone"
    HistoryLong "2.4" "history: three revisions or more"
    HistoryShared "2.4" "history: a revision that holds no data" [undo]
    HistoryUnknown "2.4" "history: unknown"
    UndoLog "2.5" "undo_log" [undo]
    UndoLogAfterPack "2.5" "undo_log: ends at a pack" [undo, pack]
    Transactions "2.6" "transactions"
    TransactionsShared "2.6" "transactions: data shared with an earlier revision" [undo]
    TransactionsSharedTwice "2.6" "transactions: data shared with one that shares it" [undo]
    CurrentTombstone "2.9" "current_records: passes over tombstones" [delete]
    Versions "2.11" "versions: two at once" [versions]
    UnseenDraft "3.0" "an open transaction stays invisible"
    UnseenVoted "3.0" "a transaction between vote and finish stays invisible"
    TwoVoted "3.0" "two transactions between vote and finish" [concurrent]
    Busy "3.0" "a transaction that has to wait for another" [sessions]
    AbortDraft "3.0" "abort before the vote"
    AbortVoted "3.0" "abort after the vote"
    ReopenUnderWay "3.0" "closed with a transaction under way, and opened again" [reopen]
    ReopenVoted "3.0" "closed with a transaction voted, and opened again" [reopen]
    ReadOnly "3.0" "refused: read-only" [read_only]
    TooLong "3.0" "refused: user or description too long"
    LongestUser "3.0" "a user of 65,535 bytes"
    StoreNew "3.1" "store: a new object"
    StoreAgain "3.1" "store: a change"
    StoreOnTombstone "3.1" "store: over a tombstone" [delete]
    StoreResolved "3.1" "store: to an old revision, merged" [resolve]
    StoreConflict "3.1" "store: conflict"
    StoreUnknownSerial "3.1" "store: a new object with a serial: conflict"
    StoreLock "3.1" "store: version lock" [versions]
    StoreInVersion "3.1" "store: in a version, over a trunk revision" [versions]
    StoreBornInVersion "3.1" "store: a new object in a version" [versions]
    StoreEmpty "3.1" "store: an empty record refused"
    Delete "3.2" "delete" [delete]
    DeleteUnknown "3.2" "delete: unknown" [delete]
    DeleteConflict "3.2" "delete: conflict" [delete]
    DeleteLock "3.2" "delete: version lock" [delete, versions]
    DeleteTwice "3.2" "delete: over a tombstone" [delete]
    CheckHolds "3.3" "check_current: holds" [check_current]
    CheckConflict "3.3" "check_current: read conflict" [check_current]
    CheckUnknown "3.3" "check_current: unknown" [check_current]
    CheckTombstone "3.3" "check_current: of a tombstone" [check_current, delete]
    UndoChange "3.4" "undo: of the newest revision" [undo]
    UndoCreation "3.4" "undo: of a creation; writes a tombstone" [undo]
    UndoUndo "3.4" "undo: of an undo" [undo]
    UndoDelete "3.4" "undo: of a deletion" [undo, delete]
    UndoSameData "3.4" "undo: not the newest, but the same data" [undo]
    UndoMerged "3.4" "undo: merged" [undo, resolve]
    UndoConflict "3.4" "undo: refused, naming the objects" [undo]
    UndoSeveral "3.4" "undo: two of the same object in one transaction" [undo]
    UndoUnknown "3.4" "undo: of an unknown transaction" [undo]
    UndoPacked "3.4" "undo: of a packed transaction" [undo, pack]
    UndoInVersion "3.4" "undo: of a revision in a version" [undo, versions]
    UndoVersionCommit "3.4" "undo: of a version's commit; the object is in the version again" [undo, versions]
    CommitVersion "3.5" "commit_version: to the trunk" [versions]
    CommitVersionTo "3.5" "commit_version: to another version" [versions]
    CommitVersionError "3.5" "commit_version: refused" [versions]
    AbortVersion "3.6" "abort_version: back to the base" [versions]
    AbortVersionBorn "3.6" "abort_version: of an object born there; writes a tombstone" [versions]
    AbortVersionError "3.6" "abort_version: refused" [versions]
    Restore "3.7" "restore: data" [restore]
    RestoreTombstone "3.7" "restore: a tombstone" [restore]
    RestoreSource "3.7" "restore: the source counts" [restore]
    RestoreNoSource "3.7" "restore: the source does not count" [restore]
    RestoreBase "3.7" "restore: the given base counts" [restore, versions]
    RestoreBaseElsewhere "3.7" "restore: the given base is not here, so the base is what the trunk shows" [restore, versions]
    RestoreTid "3.7" "a transaction with a given tid" [restore]
    NotLater "3.7" "refused: the tid is not later than the last" [restore]
    PackKeepsLater "4.1" "pack: with transactions after its time" [pack]
    PackForgets "4.2" "pack: an old revision goes" [pack]
    PackCollects "4.2" "pack: an object goes, since nothing needs it" [pack, collect]
    PackCollectsCycle "4.2" "pack: objects that only refer to each other go" [pack, collect]
    PackKeepsByLater "4.2" "pack: kept for a later revision only" [pack, collect]
    PackVersions "4.2" "pack: a revision in a version and its base are kept" [pack, versions]
    PackSource "4.3" "pack: an older revision is kept as a later one's source" [pack, undo]
    PackBase "4.3" "pack: kept as the base of a later revision" [pack, versions]
    PackTombstone "4.2" "pack: a tombstone is kept, since it is referred to, or has a later revision" [pack, edges]
    PackLastStays "4.4" "pack: the last transaction stays, without revisions" [pack, collect, edges]
    PackCollectsLater "4.7" "pack: to the same time again, to collect" [pack, collect]
    PackTransactionGoes "4.4" "pack: a transaction goes" [pack]
    PackOwnData "4.4" "pack: what shared its data holds it now" [pack, undo]
    PackedPast "4.5" "reading: not behind a packed revision" [pack]
    PackWeak "4.6" "pack: an object goes though a weak reference names it" [pack, collect]
    PackAgain "4.7" "pack: to where it was packed, or before" [pack]
    PackDangling "4.8" "pack: refused, dangling" [pack, dangling]
    PackDanglingLater "4.8" "pack: dangling after its time is reported" [pack, dangling]
    PackGoOn "4.8" "pack: dangling, and told to go on" [pack, dangling]
    PackUnderWay "4.9" "pack: with a transaction between vote and finish" [pack, concurrent]
    CountsObject "4.11" "pack by counts: an object goes, since no record refers to it" [counts]
    CountsCascade "4.11" "pack by counts: an object goes, since another one went" [counts]
    CountsCycle "4.11" "pack by counts: objects stay that only refer to each other" [counts]
    CountsForgets "4.11" "pack by counts: an old revision of a needed object goes" [counts]
    ForgetsAtOnce "4.12" "a commit forgets what it made old itself" {forgets: 0}
    ForgetsLater "4.12" "a commit forgets what an earlier one made old" {forgets: 60}
    ForgetsSome "4.12" "a commit forgets a part of what is due" {forgets: 60}
    ForgetsForReaders "4.12" "a commit keeps an older revision for readers" {forgets: 60}
    ForgetsBase "4.12" "a commit keeps the base revision of an object that it changed" [versions] {forgets: 0}
    ForgetsTransaction "4.12" "a commit leaves nothing of an earlier transaction" {forgets: 0}
    ForgetsCopied "4.12" "a copied revision may not name its source" [restore] {forgets: 60}
    ForgetsPackedEarlier "4.12" "a pack to a time before the forgotten one collects" [collect] {forgets: 0}
    PackUntold "4.10" "pack: refused, since a record may hide references" [pack, collect, untold]
    StoreBlob "8.1" "store: a blob" [blobs]
    StoreBlobAfterRecord "8.1" "store: the record, and then the record with its blob" [blobs, repeat]
    StoreBlobTwice "8.1" "store: two blobs of an object in one transaction" [blobs, repeat]
    StoreBlobConflict "8.1" "store: a conflict that would be merged without the blob" [blobs, resolve]
    LoadBlob "8.2" "load_blob" [blobs]
    LoadBlobInVersion "8.2" "load_blob: of a revision in a version" [blobs, versions]
    LoadBlobNone "8.2" "load_blob: the revision has none" [blobs]
    UndoBlob "8.3" "undo: of a change of a blob" [blobs, undo]
    UndoBlobChanged "8.3" "undo: refused, since only the blob was changed since" [blobs, undo]
    UndoSameBlob "8.3" "undo: not the newest, but the same blob" [blobs, undo]
    EndOfVersionBlob "8.3" "the end of a version: a blob is shared" [blobs, versions]
    RestoreOtherBlob "8.3" "restore: the source has the same record, and another blob" [blobs, restore]
    PackForgetsBlob "8.4" "pack: a blob goes" [blobs, pack]
    PackKeepsBlob "8.4" "pack: a blob stays, of a revision that is packed" [blobs, pack]
    RestoreBlob "8.5" "restore: a blob" [blobs, restore]
    AbortBlob "8.6" "a transaction with a blob is aborted" [blobs]
}
