//! Blobs on their way to this client. Those on their way to the server are changes of a transaction.
//!
//! ```text
//!   sendBlob(oid, serial) ─▶ receiveBlobStart, receiveBlobChunk ..., receiveBlobStop ─▶ the answer, None
//! ```
//!
//! A server sends the blobs that it was asked for one after the other. Nothing of them is kept here: each piece is an
//! effect.

use bytes::Bytes;
use vellum_storage::{Oid, Tid};
use vellum_wire::{Fault, Value};

use super::Machine;
use super::calls::refusal;
use crate::ask::Answer;
use crate::error::ClientError;
use crate::event::{ConnectionId, Effect, PromiseId};

/// A blob that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Download {
    /// The call that is answered at its end.
    pub call: i64,
    pub promise: PromiseId,
    pub oid: Oid,
    pub tid: Tid,
    pub stage: Coming,
}

/// How far a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Coming {
    Asked,
    Begun,
    Complete,
}

/// A notice of a server about a blob.
pub(super) enum Part {
    Start,
    Chunk(Bytes),
    Stop,
}

impl Machine {
    /// A part of a blob arrived. It must be the next one of the first blob that was asked for.
    pub(super) fn blob_part(&mut self, connection: ConnectionId, oid: Oid, tid: Tid, part: Part) {
        let calls = &self.calls;
        let is_here = |of: &Download| calls.get(&of.call).is_some_and(|pending| pending.connection == connection);
        let first = self.downloads.front_mut().filter(|first| (first.oid, first.tid) == (oid, tid) && is_here(first));
        let Some(first) = first else {
            return self
                .disbelieve(connection, format!("a part of the blob of {oid} at {tid}, which nobody asked for"));
        };
        let (promise, call) = (first.promise, first.call);
        match (first.stage, part) {
            (Coming::Asked, Part::Start) => {
                first.stage = Coming::Begun;
                self.put(Effect::Blob { promise, piece: None });
            }
            (Coming::Begun, Part::Chunk(piece)) => self.put(Effect::Blob { promise, piece: Some(piece) }),
            (Coming::Begun, Part::Stop) => first.stage = Coming::Complete,
            _ => return self.disbelieve(connection, "the parts of a blob are out of order".to_owned()),
        }
        self.prolong(call);
    }

    /// The server has sent a blob, or says why not.
    pub(super) fn blob_answered(&mut self, connection: ConnectionId, call: i64, outcome: Result<Value, Fault>) {
        let place = self.downloads.iter().position(|download| download.call == call);
        let Some(Download { promise, stage, .. }) = place.and_then(|place| self.downloads.remove(place)) else {
            return;
        };
        match outcome {
            Ok(_) if stage == Coming::Complete && place == Some(0) => {
                self.works();
                self.resolve(promise, Ok(Answer::Done));
            }
            Ok(_) => {
                let why = "a blob has an end and did not come";
                self.resolve(promise, Err(ClientError::Nonsense { asked: "load_blob", why: why.to_owned() }));
                self.disbelieve(connection, why.to_owned());
            }
            Err(fault) => {
                self.works();
                self.resolve(promise, Err(refusal(fault)));
            }
        }
    }

    /// Nobody will send the blob of this call.
    pub(super) fn drop_download(&mut self, call: i64) {
        // It is the first one, if all are lost.
        if let Some(place) = self.downloads.iter().position(|download| download.call == call) {
            self.downloads.remove(place);
        }
    }
}
