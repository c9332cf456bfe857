"""The real ZODB at the other end of the harness's pipe: a FileStorage.

    python zodb.py [--raw]

docs/peers.md tells the protocol, and adapter.py is the base of this.  Needed is ZODB 6.4; nothing else.

What ZODB does otherwise than the rules is known in part (docs/findings/filestorage.md), and a search for differences
that met the same few in every history would find no others. So this adapter steps over the known ones where that
takes a few lines; each such place is marked `not self.raw`, says what ZODB does, and --raw switches all of them off.
It cannot step over these:

- A pack that would free nothing, or after which the packed part would be as long as before, leaves the file as it is:
  its transactions are not marked as packed.  (`_packed` makes up for the mark, `edges` for what is hidden behind it.)
- A pack of what an earlier one packed does nothing, if nothing was written since: no garbage is collected even if the
  earlier pack did not collect any.
- A transaction that is copied with the status `p` hides nothing: rule 4.5 holds for what ZODB itself packed.
- Undo of a transaction with several records of one object tries each of them, in its own order, and may write several:
  so `repeat` is declared with --raw only.
- An empty first transaction is in no undo log, and cannot be undone.
- A pack with collection fails if there is no root at its time, but something else; nothing is not kept where an older
  revision is kept for a later undo, or somebody refers to it, and is kept as if it were data where it is reached by a
  backpointer; and the last transaction goes if nothing is left of it.  So `edges` is declared with --raw only.
- A reference to an object that is nowhere stops a pack with collection at the first one, and without it never: so
  `dangling` is declared with --raw only.
"""

import sys

from adapter import NO_OID_OR_TID, Adapter, Moment, Records, Refused, main
from persistent.TimeStamp import TimeStamp
from ZODB import BaseStorage, POSException, utils
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.fspack import PackError
from ZODB.serialize import referencesf

# Versions went with ZODB 3.9.  Nothing is concurrent: a second transaction waits in tpc_begin until the first is over.
CAN = "delete check_current resolve reopen read_only undo restore pack collect".split()


class Peer(Adapter):
    """One database of FileStorage, in its folder."""

    name = "ZODB 6.4 FileStorage"
    # It writes an empty record that cannot be read, looks at no serial where there is no object, and takes any tid.
    steps_over = ("empty", "stale", "not_later")

    def prepare(self):
        self.path = self.folder / "db.fs"
        file_storage = sys.modules["ZODB.FileStorage.FileStorage"]
        BaseStorage.time = utils.time = file_storage.time = self.clock
        file_storage.fsync = None  # Power does not fail here.
        self.can = CAN + (["repeat", "edges", "dangling"] if self.raw else [])

    def connect(self, read_only):
        storage = FileStorage(str(self.path), read_only=read_only)
        storage.registerDB(Records)
        return [storage]

    def do_reset(self):
        self.packed_to, self.packed = NO_OID_OR_TID, set()
        return super().do_reset()

    @property
    def file(self):
        """The FileStorage, whatever is over it."""
        return self.storage

    def aborted(self):
        if not self.raw:
            # After an abort, ZODB goes on from the tid of the aborted transaction.
            self.file._ts = TimeStamp(self.file.lastTransaction())

    # --- Changes

    def _is_known(self, session, oid):
        return self._newest(oid) is not None

    def _check_current(self, session, meta, oid, serial):
        try:
            super()._check_current(session, meta, oid, serial)
        except POSException.POSKeyError:
            # To ZODB, an object that is nothing has no serial.
            oid, serial = bytes.fromhex(oid), bytes.fromhex(serial)
            newest = self._newest(oid)
            if self.raw or newest is None:
                raise
            if newest != serial:
                raise POSException.ReadConflictError(oid=oid, serials=(newest, serial)) from None

    def _undo(self, session, meta, tid):
        if not self.raw and bytes.fromhex(tid) in self.packed:
            raise Refused("not_undoable", tid=tid)  # See `_packed`.
        super()._undo(session, meta, tid)

    def _restore(self, session, meta, oid, data, version, source, under):
        oid, data, source = (text if text is None else bytes.fromhex(text) for text in (oid, data, source))
        if not self.raw and source is not None:
            # ZODB fails if there is no such transaction, trusts a source that has no data of its own whatever that
            # comes to, and fails where nothing has a source.
            there = [record.data for transaction in session.iterator(source, source)
                     for record in transaction if record.oid == oid]
            if data is None or not there or there[-1] != data:
                source = None
        session.restore(oid, session._tid, data, version, source, meta)

    def _newest(self, oid):
        try:
            return self.storage.history(oid)[0]["tid"]
        except POSException.POSKeyError:
            return None

    # --- Packing

    def do_pack(self, to, collect, go_on):
        if self.voted:
            return {"is": "busy"}  # ZODB would wait for the commit lock, and nobody here could end the wait.
        to = bytes.fromhex(to)
        if self.read_only:
            raise Refused("read_only")
        if self.raw:
            self.storage.pack(Moment(to), referencesf, gc=collect)
        elif to >= self.packed_to:
            self._pack(to, collect, go_on)
        return {"is": "packed", "dangling": None}

    def _pack(self, to, collect, go_on):
        transactions = [(transaction.tid, list(transaction)) for transaction in self.storage.iterator()]
        later = [record for tid, records in transactions if tid > to for record in records]
        # ZODB keeps nothing for what is later than the pack: not what a later record refers to, nor what the object was
        # before it, nor some of the sources of undos; and it stops where an object that it keeps refers to one that is
        # nothing at the time.  So the first object that it asks about, which is the root, gets all that for references
        # too, and no object those to nothing.
        extra = {oid for record in later if record.data for oid in referencesf(record.data)}
        extra |= {record.oid for record in later}
        known, there = set(), set()
        for tid, records in transactions:
            for record in records:
                known.add(record.oid)
                if tid <= to:
                    (there.discard if record.data is None else there.add)(record.oid)

        extra &= known

        def references(data, oids=None):
            found = {*referencesf(data), *extra}
            extra.clear()
            return [oid for oid in found if oid in there or not (go_on or oid in known)]

        try:
            self.storage.pack(Moment(to), references, gc=collect)
        except (PackError, AssertionError):
            if collect:
                raise
            # Without collection, ZODB loses the source of a later undo, notices it, and gives up.
            extra.update(there)
            self.storage.pack(Moment(to), references, gc=True)
        self._packed(to, transactions)

    def _packed(self, to, before):
        """Takes note of what ZODB does not write down: to when it packed, and what, if that has freed nothing."""
        left = {transaction.tid for transaction in self.storage.iterator()}
        self.packed_to = min(to, max((tid for tid, _ in before), default=NO_OID_OR_TID))
        self.packed = (self.packed | {tid for tid, _ in before if tid <= to}) & left
        # To ZODB, a transaction that was packed away is still the last, until the storage is opened again.
        self.file._ltid = max(left, default=NO_OID_OR_TID)
        self.aborted()

    # --- Questions

    def ask_undo_log(self, first, last):
        entries = super().ask_undo_log(first, last)["entries"]
        # See `_packed`.
        return {"is": "undo_log", "entries": [e for e in entries if bytes.fromhex(e["tid"]) not in self.packed]}

    def _source(self, record):
        source = record.data_txn
        if not self.raw and source is not None:
            # ZODB follows one backpointer, even if there is another behind it, or nothing.
            if record.data is None:
                return None
            for transaction in self.storage.iterator(source, source):
                source = [self._source(r) or source.hex() for r in transaction if r.oid == record.oid][-1]
                return source
        return source and source.hex()


if __name__ == "__main__":
    main(Peer)
