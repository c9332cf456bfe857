"""ZODB's DemoStorage: the changes in one storage, over a base that is not written to.

    python demo.py mapping|file [--raw]

A history begins with empty changes over an empty base. Where it is opened again, the storage becomes the base of a new
one: so a history has as many layers as openings. With `mapping`, all changes are in memory; with `file`, each layer of
changes is a FileStorage. Both stand on a FileStorage.

A layer can undo what is in its changes, and not what is in its base, so `undo` is not declared; nor are packs, which
find no object of the base (docs/findings/demostorage.md).
"""

import sys

from adapter import NO_OID_OR_TID, Adapter, Records, later, main
from persistent.TimeStamp import TimeStamp
from ZODB import BaseStorage, MappingStorage, utils
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage


class Demo(Adapter):
    """Layers of changes over a FileStorage."""

    can = ("check_current", "resolve", "reopen")
    cannot = ("last_invalidations", "current_records")

    def prepare(self):
        file_storage = sys.modules["ZODB.FileStorage.FileStorage"]
        BaseStorage.time = utils.time = file_storage.time = self.clock
        file_storage.fsync = None
        self.in_files = self.words == ["file"]
        self.name = f"ZODB 6.4 DemoStorage, changes in a {'FileStorage' if self.in_files else 'MappingStorage'}"
        # The changes' storage refuses some things at the begin, a user name that is too long, and never again: the
        # demo storage waits for its own lock from then on.
        self.steps_over = ("stale", "empty", "too_long")

    def tpc_begin(self, session, meta, notes):
        if not self.raw:
            # The changes' tids begin at the clock, whatever the base's are; and a FileStorage goes on from the tid of
            # an aborted transaction.
            last = session.lastTransaction()
            if last != NO_OID_OR_TID:
                session.changes._ts = TimeStamp(last)
                notes.tid = max(self.time, later(last))
        super().tpc_begin(session, meta, notes)

    def changes(self):
        if not self.in_files:
            return MappingStorage.MappingStorage()
        return FileStorage(str(self.folder / f"layer-{len(list(self.folder.glob('layer-*.fs')))}.fs"))

    def connect(self, read_only):
        if self.layers is None:
            self.layers = FileStorage(str(self.folder / "base.fs"))
        self.layers = DemoStorage(base=self.layers, changes=self.changes())
        self.layers.registerDB(Records)
        return [self.layers]

    def do_reset(self):
        self.layers = None
        return super().do_reset()

    def do_reopen(self, read_only):
        # A transaction under way goes with the layer's last state; the layer itself is the next one's base.
        for session, meta, _ in self.voted.values():
            session.tpc_abort(meta)
        self._open()
        return {"is": "done"}

    def _transaction(self, t):
        return {**super()._transaction(t), "packed": False}


if __name__ == "__main__":
    main(Demo)
