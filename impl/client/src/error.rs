//! Why an application did not get what it asked for.

use vellum_storage::Tid;
use vellum_wire::Fault;

use crate::ask::Conflict;

/// Why an application did not get what it asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// No server could be reached in time.
    #[error("{asked}: no server could be reached in {seconds} s: {why}. Nothing was done. Ask again when it is there")]
    NotConnected {
        /// The question.
        asked: &'static str,
        /// How long the client tried.
        seconds: u64,
        /// The failure of the last attempt.
        why: String,
    },

    /// So many calls wait for a server that this one is not taken.
    #[error("{asked}: {count} calls wait for a server already: {why}. Nothing was done. Wait for some of them first")]
    TooMany {
        /// The question.
        asked: &'static str,
        /// How many wait.
        count: usize,
        /// The failure of the last attempt to reach a server.
        why: String,
    },

    /// An earlier transaction of this client is not over, and was not worked on.
    #[error(
        "begin: an earlier transaction of this client is open, and nothing was done in it for {seconds} s. The new one was \
         not begun. Finish or abort the earlier one, or begin the new one with another client"
    )]
    Busy {
        /// How long the new one waited.
        seconds: u64,
    },

    /// The connection ended before the answer came, and a repetition might not be the same.
    #[error("{asked}: the connection ended before the answer came: {why}. {}", still(.asked))]
    Disconnected {
        /// The question.
        asked: &'static str,
        /// How it ended.
        why: String,
    },

    /// The client had told the server to finish a transaction, and the connection ended before it had its answer, or
    /// the server failed. The transaction is whole or not at all.
    #[error(
        "finish: its outcome is unknown: {why}. The transaction may be finished, or may have left no \
         trace. Load one of its objects to find out; do not commit it again before that"
    )]
    OutcomeUnknown {
        /// How it ended.
        why: String,
    },

    /// The server did not answer in time. The client has closed the connection.
    #[error(
        "{asked}: the server did not answer in {seconds} s. The connection was closed, and another one is being made"
    )]
    TimedOut {
        /// The question.
        asked: &'static str,
        /// How long the client waited.
        seconds: u64,
    },

    /// The server has fewer transactions than this client knows: it was rolled back, or it is another database.
    #[error(
        "the server's last transaction is {server}, and this client knows {client}: the server was rolled back, or serves \
         another database. Nothing was read from it. If it is right, drop what the client has with `forget`"
    )]
    ServerBehind {
        /// The last transaction of the server.
        server: Tid,
        /// The last transaction that this client knows.
        client: Tid,
    },

    /// The server said what no server says. The client has closed the connection.
    #[error("{asked}: the server said something that makes no sense: {why}. The connection was closed")]
    Nonsense {
        /// The question.
        asked: &'static str,
        /// The fault in it.
        why: String,
    },

    /// The server refused.
    #[error("{0}")]
    Refused(Fault),

    /// This client, or its server, only reads.
    #[error("the server lets this client only read")]
    ReadOnly,

    /// The transaction is over: it was finished, aborted or refused, or its connection ended.
    #[error("the transaction is over: {why}. Nothing of it is there. Begin another one")]
    TransactionOver {
        /// Why.
        why: String,
    },

    /// The question cannot be put in this protocol.
    #[error("ZEO's protocol has no words for {what}")]
    Unsayable {
        /// The thing that was asked for.
        what: &'static str,
    },

    /// A blob cannot be kept on this machine.
    #[error("the blob cannot be written to a scratch file: {why}. The server still has it")]
    NotKept {
        /// Why.
        why: String,
    },

    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

fn still(asked: &str) -> &'static str {
    match asked {
        "pack" => "The server may go on packing",
        "transactions" => "Begin again after the last transaction that came",
        "load_many" | "load_blob" => "It may be asked for again",
        _ => "Nothing of the transaction is there",
    }
}

/// Conflicts that nobody merged.
pub(crate) fn conflict(conflicts: &[Conflict]) -> ClientError {
    match conflicts.first() {
        Some(Conflict { oid, committed, serial, .. }) => {
            ClientError::Refused(Fault::Conflict { oid: *oid, committed: *committed, serial: *serial, class: None })
        }
        None => ClientError::Nonsense { asked: "vote", why: "conflicts of no object".to_owned() },
    }
}
