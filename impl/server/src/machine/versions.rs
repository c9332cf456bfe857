//! Work in versions, which only Vellum's clients know.

use vellum_storage::Change;
use vellum_wire::{Call, Fault, MessageId};

use super::Machine;
use super::calls::{Next, fail};
use crate::event::{ConnectionId, Question};

impl Machine {
    /// A call of the extension for versions.
    pub(super) fn version_call(&mut self, connection: ConnectionId, reply: &Option<MessageId>, call: Call) -> Next {
        let storage = self.connections[&connection].storage.expect("it has registered");
        if !self.storages[storage.0].has_versions {
            return fail(Fault::text("builtins.TypeError", "Versions are not supported"));
        }
        match call {
            Call::LoadInVersion { oid, version } => {
                self.counters(connection).loads += 1;
                self.ask(connection, reply, Question::LoadInVersion { oid, version })
            }
            Call::ModifiedInVersion { oid } => self.ask(connection, reply, Question::ModifiedInVersion { oid }),
            Call::Versions => self.ask(connection, reply, Question::Versions),
            Call::NextInVersion { iterator } => {
                self.ask(connection, reply, Question::NextRevision { iterator, in_version: true })
            }
            Call::StoreInVersion { oid, serial, data, version, transaction } => {
                self.change(connection, transaction, Change::Store { oid, serial, version, data: data.into() })
            }
            Call::CommitVersion { from, to, transaction } => {
                self.change(connection, transaction, Change::CommitVersion { from, to })
            }
            Call::AbortVersion { from, transaction } => {
                self.change(connection, transaction, Change::AbortVersion { from })
            }
            Call::RestoreInVersion { oid, data, version, source, base, transaction } => {
                let data = data.map(Into::into);
                self.change(connection, transaction, Change::Restore { oid, version, data, source, base })
            }
            call => unreachable!("{} has no version", call.name()),
        }
    }
}
