"""The real ZODB at the other end of the harness's pipe: a FileStorage, driven by lines of JSON.

    python zodb.py [--raw]

docs/peers.md tells the protocol.  Needed is ZODB 6.4; nothing else.

What ZODB does otherwise than the rules is known in part (docs/findings.md), and a search for differences that met the
same few in every history would find no others.  So this adapter steps over the known ones where that takes a few lines;
each such place is marked `not self.raw`, says what ZODB does, and --raw switches all of them off.  What it can not step
over:

- A pack that would free nothing, or after which the packed part would be as long as before, leaves the file as it is:
  its transactions are not marked as packed.  (`_packed` makes up for the mark, `edges` for what is hidden behind it.)
- A pack of what an earlier one packed does nothing, if nothing was written since: no garbage is collected even if the
  earlier pack did not collect any.
- A transaction that is copied with the status `p` hides nothing: rule 4.5 holds for what ZODB itself packed.
- Undo of a transaction with several records of one object tries each of them, in its own order, and may write several:
  so `repeat` is declared with --raw only.
- An empty first transaction is in no undo log, and can not be undone.
- A pack with collection fails if there is no root at its time, but something else; nothing is not kept where an older
  revision is kept for a later undo, or somebody refers to it, and is kept as if it were data where it is reached by a
  backpointer; and the last transaction goes if nothing is left of it.  So `edges` is declared with --raw only.
- A reference to an object that is nowhere stops a pack with collection at the first one, and without it never: so
  `dangling` is declared with --raw only.
"""

import base64
import calendar
import json
import logging
import shutil
import struct
import sys
import tempfile
import time
import types
from io import BytesIO
from pathlib import Path

from persistent.TimeStamp import TimeStamp
from ZODB import BaseStorage, POSException, utils
from ZODB._compat import PersistentUnpickler
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.fspack import PackError
from ZODB.serialize import referencesf

# Versions went with ZODB 3.9.  Nothing is concurrent: a second transaction waits in tpc_begin until the first is over.
CAN = "delete check_current resolve reopen read_only undo restore pack collect".split()
NO_OID_OR_TID = bytes(8)


class Refused(Exception):
    """A rule forbids it: which, and what it has to say."""

    def __init__(self, why, **more):
        self.answer = {"is": "refused", "why": why, **more}


# --- The objects of the histories: what node.rs says, in Python -------------------------------------------------------


def encode(counter, number, strong, weak, foreign):
    """The record of a node, byte for byte as the harness writes it."""

    def oid_list(oids, before=b"", after=b""):
        return b"](" + b"".join(before + b"C\x08" + oid + after + b"Q" for oid in oids) + b"e"

    return b"".join((
        b"\x80\x03cvellum_peer\n", b"Counter" if counter else b"Plain", b"\n.\x80\x03(K", bytes([number]),
        oid_list(strong),
        oid_list(weak, b"](X\x01\0\0\0w", b"\x85e"),
        oid_list(foreign, b"](X\x01\0\0\0nX\x05\0\0\0other", b"\x86e"),
        b"t.",
    ))


class Plain:
    """An object that nobody can merge."""


class Counter:
    """One to whose number both sides add."""

    def _p_resolveConflict(self, ancestor, committed, new):
        return ((committed[0] + new[0] - ancestor[0]) % 256, *new[1:])


def canonical(record):
    """The same node as the harness would have written it: ZODB pickles what it merged in other words."""
    reader = PersistentUnpickler(lambda module, name: name, lambda reference: reference, BytesIO(record))
    name, (number, strong, weak, foreign) = reader.load(), reader.load()
    return encode(name == "Counter", number, strong, [oid for _, (oid,) in weak], [oid for _, (_, oid) in foreign])


class Records:
    """What a ZODB.interfaces.IStorageWrapper says about records: ZODB passes what it merged through here."""

    transform_record_data = staticmethod(canonical)
    untransform_record_data = staticmethod(lambda record: record)


sys.modules["vellum_peer"] = types.ModuleType("vellum_peer")
sys.modules["vellum_peer"].__dict__.update(Plain=Plain, Counter=Counter)


# --- The clock --------------------------------------------------------------------------------------------------------


class Moment(float):
    """Seconds since 1970 that still know of which tid they are the time: a float is too coarse for the last bits."""

    def __new__(cls, tid):
        minutes, fraction = struct.unpack(">II", tid)
        days, minute = divmod(minutes, 24 * 60)
        months, day = divmod(days, 31)
        date = (months // 12 + 1900, months % 12 + 1, day + 1, *divmod(minute, 60))
        moment = super().__new__(cls, calendar.timegm((*date, 0)) + fraction * 60 / 2**32)
        moment.date = date
        # The middle of the tid, so that no rounding makes it the one before.
        moment.second = (fraction + 0.5) * 60 / 2**32
        return moment

    def __mod__(self, minute):
        return self.second


class Clock:
    """Stands in for the module `time` in ZODB."""

    def __init__(self):
        self.now = Moment(bytes(8))

    def time(self):
        return self.now

    def gmtime(self, moment):
        return moment.date if isinstance(moment, Moment) else time.gmtime(moment)


# --- The storage ------------------------------------------------------------------------------------------------------


class Peer:
    """One database, in its folder; `do_...` and `ask_...` are the words of the protocol."""

    def __init__(self, folder, raw):
        self.path, self.raw, self.clock = folder / "db.fs", raw, Clock()
        file_storage = sys.modules["ZODB.FileStorage.FileStorage"]
        BaseStorage.time = utils.time = file_storage.time = self.clock
        file_storage.fsync = None  # Power does not fail here.
        self.storage = None
        self.do_reset()

    def answer(self, request):
        """What to say to one line."""
        if isinstance(request, list):
            self.walks = {}
            return [self._ask(question) for question in request]
        try:
            return getattr(self, "do_" + request.pop("do"))(**request)
        except Refused as refused:
            return refused.answer
        except Exception as error:
            return failed(error)

    def _open(self, read_only=False):
        self.storage = FileStorage(str(self.path), read_only=read_only)
        self.storage.registerDB(Records)
        self.read_only = read_only
        self.begun, self.voted = {}, None

    def _close(self):
        if self.storage is not None:
            if self.voted is not None:
                self.storage.tpc_abort(self.voted)
            self.storage.close()

    # --- Steps

    def do_hello(self):
        more = ["repeat", "edges", "dangling"] if self.raw else []
        return {"name": "ZODB 6.4 FileStorage" + " (raw)" * self.raw, "can": CAN + more}

    def do_reset(self):
        self._close()
        for file in self.path.parent.iterdir():
            file.unlink()
        self.clock.now = Moment(NO_OID_OR_TID)
        self.packed_to, self.packed = NO_OID_OR_TID, set()
        self._open()
        return {"is": "done"}

    def do_reopen(self, read_only):
        self._close()
        self._open(read_only)
        return {"is": "done"}

    def do_begin(self, transaction, user, description, extension, tid, packed):
        # ZODB wants to know the time at the begin, and the harness tells it at the vote: until then, we take notes.
        meta = TransactionMetaData(user, description, bytes.fromhex(extension))
        self.begun[transaction] = (meta, tid and bytes.fromhex(tid), "p" if packed else " ", [])
        return {"is": "done"}

    def do_change(self, transaction, **change):
        self.begun[transaction][-1].append(change)
        return {"is": "done"}

    def do_vote(self, transaction, clock):
        if self.voted is not None:
            return {"is": "busy"}
        self.clock.now = Moment(bytes.fromhex(clock))
        storage = self.storage
        meta, tid, status, changes = self.begun.pop(transaction)
        try:
            try:
                storage.tpc_begin(meta, tid, status)
                if not self.raw and tid is not None and tid <= storage.lastTransaction():
                    raise Refused("not_later")  # ZODB takes any tid.
                for change in changes:
                    getattr(self, "_" + change.pop("change"))(meta, **change)
                resolved = storage.tpc_vote(meta) or ()
            except BaseException:
                storage.tpc_abort(meta)
                self._forget_tid()
                raise
        except POSException.ReadConflictError as error:
            raise Refused("read_conflict", **serials(error)) from None
        except POSException.ConflictError as error:
            raise Refused("conflict", **serials(error)) from None
        except POSException.POSKeyError as error:
            raise Refused("key", oid=error.args[0].hex()) from None
        except POSException.ReadOnlyError:
            raise Refused("read_only") from None
        except POSException.POSError as error:
            if str(error) in ("user name too long", "description too long", "too much extension data"):
                raise Refused("too_long") from None
            raise
        self.voted = meta
        return {"is": "voted", "resolved": sorted(oid.hex() for oid in resolved)}

    def do_finish(self, transaction):
        voted, self.voted = self.voted, None
        return {"is": "finished", "tid": self.storage.tpc_finish(voted).hex()}

    def do_abort(self, transaction):
        if self.begun.pop(transaction, None) is None:
            voted, self.voted = self.voted, None
            self.storage.tpc_abort(voted)
            self._forget_tid()
        return {"is": "done"}

    def _forget_tid(self):
        if not self.raw:
            # After an abort, ZODB goes on from the tid of the aborted transaction.
            self.storage._ts = TimeStamp(self.storage.lastTransaction())

    # --- Changes

    def _store(self, meta, oid, serial, data, version):
        oid, serial, data = map(bytes.fromhex, (oid, serial, data))
        if not self.raw:
            if not data:
                raise Refused("empty", oid=oid.hex())  # ZODB writes a record that can not be read.
            if serial != NO_OID_OR_TID and self._newest(oid) is None:
                # ZODB looks at no serial where there is no object.
                raise Refused("conflict", oid=oid.hex(), committed=NO_OID_OR_TID.hex(), serial=serial.hex())
        self.storage.store(oid, serial, data, version, meta)

    def _delete(self, meta, oid, serial):
        self.storage.deleteObject(bytes.fromhex(oid), bytes.fromhex(serial), meta)

    def _check_current(self, meta, oid, serial):
        oid, serial = bytes.fromhex(oid), bytes.fromhex(serial)
        try:
            self.storage.checkCurrentSerialInTransaction(oid, serial, meta)
        except POSException.POSKeyError:
            # To ZODB, an object that is nothing has no serial.
            newest = self._newest(oid)
            if self.raw or newest is None:
                raise
            if newest != serial:
                raise POSException.ReadConflictError(oid=oid, serials=(newest, serial)) from None

    def _undo(self, meta, tid):
        try:
            if not self.raw and bytes.fromhex(tid) in self.packed:
                raise POSException.UndoError("packed")  # See `_packed`.
            self.storage.undo(base64.b64encode(bytes.fromhex(tid)), meta)
        except POSException.MultipleUndoErrors as error:
            raise Refused("undo_conflict", oids=sorted(oid.hex() for oid, _ in error._errs)) from None
        except POSException.UndoError:
            raise Refused("not_undoable", tid=tid) from None

    def _restore(self, meta, oid, data, version, source, under):
        oid, data, source = (text if text is None else bytes.fromhex(text) for text in (oid, data, source))
        if not self.raw and source is not None:
            # ZODB fails if there is no such transaction, trusts a source that has no data of its own whatever that
            # comes to, and fails where nothing has a source.
            there = [record.data for transaction in self.storage.iterator(source, source)
                     for record in transaction if record.oid == oid]
            if data is None or not there or there[-1] != data:
                source = None
        self.storage.restore(oid, self.storage._tid, data, version, source, meta)

    def _newest(self, oid):
        try:
            return self.storage.history(oid)[0]["tid"]
        except POSException.POSKeyError:
            return None

    # --- Packing

    def do_pack(self, to, collect, go_on):
        if self.voted is not None:
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

        def references(data):
            oids = {*referencesf(data), *extra}
            extra.clear()
            return [oid for oid in oids if oid in there or not (go_on or oid in known)]

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
        self.storage._ltid = max(left, default=NO_OID_OR_TID)
        self._forget_tid()

    # --- Questions

    def _ask(self, question):
        try:
            return getattr(self, "ask_" + question.pop("ask"))(**question)
        except POSException.POSKeyError:
            return {"is": "key_error"}
        except Exception as error:
            return failed(error)

    def ask_load(self, oid, version):
        data, tid = self.storage.load(bytes.fromhex(oid), version)
        return {"is": "loaded", "data": data.hex(), "tid": tid.hex()}

    def ask_load_before(self, oid, before):
        shown = self.storage.loadBefore(bytes.fromhex(oid), bytes.fromhex(before))
        if shown is None:
            return {"is": "not_yet"}
        data, tid, end = shown
        return {"is": "shown", "data": data.hex(), "tid": tid.hex(), "next": end and end.hex()}

    def ask_load_serial(self, oid, tid):
        return {"is": "record", "data": self.storage.loadSerial(bytes.fromhex(oid), bytes.fromhex(tid)).hex()}

    def ask_history(self, oid, limit):
        entries = self.storage.history(bytes.fromhex(oid), size=limit)
        return {"is": "history", "entries": [{**entry(e["tid"], e), "size": e["size"]} for e in entries]}

    def ask_undo_log(self, first, last):
        entries = [(base64.b64decode(e["id"]), e) for e in self.storage.undoLog(first, last)]
        if not self.raw:
            entries = [(tid, e) for tid, e in entries if tid not in self.packed]
        return {"is": "undo_log", "entries": [entry(tid, e) for tid, e in entries]}

    def ask_transactions(self, first, last, newest_first):
        # The same ones are often asked for in both orders, and ZODB reads them from the file each time.
        if (first, last) not in self.walks:
            walk = self.storage.iterator(bytes.fromhex(first), bytes.fromhex(last))
            self.walks[first, last] = [self._transaction(t) for t in walk]
        transactions = self.walks[first, last]
        return {"is": "transactions", "transactions": transactions[::-1] if newest_first else transactions}

    def _transaction(self, t):
        return {
            "tid": t.tid.hex(),
            "packed": t.status == "p" or (not self.raw and t.tid in self.packed),
            "user": t.user.decode(),
            "description": t.description.decode(),
            "extension": t.extension_bytes.hex(),
            "revisions": [
                {"oid": r.oid.hex(), "version": r.version, "data": r.data and r.data.hex(), "source": self._source(r)}
                for r in t
            ],
        }

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

    def ask_last_transaction(self):
        return {"is": "tid", "tid": self.storage.lastTransaction().hex()}

    def ask_last_invalidations(self, count):
        changed = self.storage.lastInvalidations(count)
        return {"is": "invalidations", "changed": [[tid.hex(), [oid.hex() for oid in oids]] for tid, oids in changed]}

    def ask_current_records(self, first):
        oid, records = bytes.fromhex(first), []
        while oid is not None:
            try:
                found, tid, data, following = self.storage.record_iternext(oid)
            except ValueError:
                break  # So ZODB says that there is no object from here on.
            except POSException.POSKeyError as error:
                # ZODB's walk stops at an object that is nothing.
                if self.raw:
                    return failed(error)
                oid = utils.p64(utils.u64(error.args[0]) + 1)
                continue
            records.append([found.hex(), tid.hex(), data.hex()])
            oid = following
        return {"is": "current_records", "records": records}


def entry(tid, e):
    return {"tid": tid.hex(), "user": e["user_name"].decode(), "description": e["description"].decode()}


def serials(error):
    committed, serial = error.serials
    return {"oid": error.oid.hex(), "committed": committed.hex(), "serial": serial.hex()}


def failed(error):
    return {"is": "failed", "message": f"{type(error).__name__}: {error}"}


def main():
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    # A conflict that can not be merged is no news; nor is an index of an empty database, or a clock that steps back.
    logging.getLogger("ZODB").setLevel(logging.CRITICAL + 1)
    # Answers alone go to stdout, whatever ZODB prints.
    answers, sys.stdout = sys.stdout, sys.stderr
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="vellum-peer-", dir=memory if memory.is_dir() else None))
    try:
        peer = Peer(folder, raw="--raw" in sys.argv[1:])
        for line in sys.stdin:
            answers.write(json.dumps(peer.answer(json.loads(line)), separators=(",", ":")) + "\n")
            answers.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
