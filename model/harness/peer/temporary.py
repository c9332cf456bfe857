"""tempstorage 6.0: Zope's storage for sessions, in memory, which counts references and frees what has none.

    python temporary.py [--raw]

It remembers old revisions for a minute or two, for the sake of conflicts, and has no transactions and no history. It
frees an object when the last reference to it goes, the root included, and whether or not an older root would still show
it. So the records are put in a box in which it sees no references, except with --raw.
"""

import io
import pickle
import sys

from adapter import Adapter, main
from persistent.TimeStamp import TimeStamp
from tempstorage.TemporaryStorage import TemporaryStorage
from ZODB import BaseStorage, POSException

BOX = b"\x80\x03cvellum_peer\nBox\n."


class Box:
    """An object whose state is the record of another."""

    def _p_resolveConflict(self, ancestor, committed, new):
        if b"\nCounter\n" not in new:
            raise POSException.ConflictError
        number = [record[record.index(b"(K") + 2] for record in (ancestor, committed, new)]
        at = new.index(b"(K") + 2
        return new[:at] + bytes([(number[1] + number[2] - number[0]) % 256]) + new[at + 1:]


def unboxed(record):
    """The record in the box, which ZODB pickles in other words after a merge."""
    box = io.BytesIO(record)
    pickle.load(box)
    return pickle.load(box)


sys.modules["vellum_peer"].Box = Box


class Temporary(Adapter):
    """One TemporaryStorage."""

    name = "tempstorage 6.0"
    can = ("check_current", "resolve")
    cannot = ("transactions", "history", "last_invalidations", "current_records")
    steps_over = ("too_long", "empty", "stale")

    def prepare(self):
        BaseStorage.time = self.clock
        sys.modules["tempstorage.TemporaryStorage"].time = self.clock

    def connect(self, read_only):
        storage = TemporaryStorage()
        if not self.raw:
            # It forgets old revisions after a minute, and the harness's clock is quick.
            storage._conflict_cache_gcevery = float("inf")
        return [storage]

    def _vote(self, session, meta, notes):
        resolved = super()._vote(session, meta, notes)
        if self.raw:
            return resolved
        # It does not tell which objects it merged.
        return [oid for oid, serial in self.stores(notes) if session._index.get(oid, serial) != serial]

    @staticmethod
    def stores(notes):
        stores = (change for change in notes.changes if change["change"] == "store")
        return [(bytes.fromhex(change["oid"]), bytes.fromhex(change["serial"])) for change in stores]

    def _store(self, session, meta, oid, serial, data, version):
        if data and not self.raw:
            data = (BOX + pickle.dumps(bytes.fromhex(data), 3)).hex()
        super()._store(session, meta, oid, serial, data, version)

    def data(self, record):
        return (record if self.raw else unboxed(record)).hex()

    def aborted(self):
        if not self.raw:
            # After an abort, it goes on from the tid of the aborted transaction.
            self.storage._ts = TimeStamp(self.storage.lastTransaction())

    def ask_load_serial(self, oid, tid):
        try:
            return super().ask_load_serial(oid, tid)
        except POSException.ConflictError:
            # So it says that it has no such revision.
            if self.raw:
                raise
            return {"is": "key_error"}

    def ask_load(self, oid, version):
        try:
            return super().ask_load(oid, version)
        except (KeyError, POSException.ConflictError):
            # So it says that there is no such object, and that there was one until a moment ago.
            if self.raw:
                raise
            return {"is": "key_error"}


if __name__ == "__main__":
    main(Temporary)
