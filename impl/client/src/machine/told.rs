//! Notices of a server.

use vellum_storage::Origin;
use vellum_wire::Notice;

use super::Machine;
use super::blobs::Part;
use crate::event::{ConnectionId, Told};

impl Machine {
    pub(super) fn noticed(&mut self, connection: ConnectionId, notice: Notice) {
        let Some(session) = self.session.as_ref().filter(|session| session.connection == connection) else {
            // Before it has registered, a client is told of nothing.
            return self.disbelieve(connection, "a notice before there is a storage".to_owned());
        };
        match notice {
            Notice::Invalidate { tid, oids } if !session.is_ready() => self.noticed_early(connection, tid, oids),
            Notice::Invalidate { tid, .. } if self.last.is_some_and(|last| tid <= last) => {
                self.disbelieve(connection, format!("an invalidation of {tid}, which was known"));
            }
            Notice::Invalidate { tid, oids } => {
                self.note_changes(tid, &oids);
                self.last = Some(tid);
                self.tell(Told::Committed { tid, oids, origin: Origin::default() });
            }
            Notice::Info { length, size } => {
                if let Some(info) = &mut self.info {
                    (info.length, info.size) = (length.max(0) as u64, size.max(0) as u64);
                }
            }
            Notice::Prefetched { call, revisions } => self.prefetched(connection, call, revisions),
            Notice::ReceiveBlobStart { oid, serial } => self.blob_part(connection, oid, serial, Part::Start),
            Notice::ReceiveBlobChunk { oid, serial, chunk } => {
                self.blob_part(connection, oid, serial, Part::Chunk(chunk));
            }
            Notice::ReceiveBlobStop { oid, serial } => self.blob_part(connection, oid, serial, Part::Stop),
        }
    }
}
