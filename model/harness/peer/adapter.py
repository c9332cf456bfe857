"""The base of the adapters: a storage of ZODB's kind at the other end of the harness's pipe, driven by lines of JSON.

docs/peers.md tells the protocol.  Each file beside this one has the adapter of one storage: a class that opens it, says
what it can do, and does otherwise where the storage does.  This file is used by all of them:

    python mapping.py [--raw] [WORD...]

A storage that does otherwise than the rules in every history would hide everything else, so an adapter steps over what
is known of it.  `steps_over` has the words for what several storages do; a class has its own code for the rest, each
place marked `not self.raw`.  --raw switches all of it off.  The words:

    too_long   it takes a user and a description of any length (rule 3.0)
    empty      it takes an empty record (rule 3.1)
    stale      it looks at no serial where there is no object (rule 3.1)
    order      it gives the revisions of a transaction in an order of its own (rule 1.4)
    not_later  it takes a tid that is not later than the last one (rule 1.1)
    extension  it pickles the extension of a transaction again (rule 1.4)
    packed     it does not mark the transactions that a pack went over, and keeps those without revisions (rule 4.4)
"""

import base64
import bisect
import calendar
import json
import logging
import os
import shutil
import struct
import sys
import tempfile
import time
import types
from io import BytesIO
from pathlib import Path

from persistent.TimeStamp import TimeStamp
from ZODB import POSException, utils
from ZODB._compat import PersistentUnpickler
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import referencesf

NO_OID_OR_TID = bytes(8)
LAST_TID = b"\x7f" + b"\xff" * 7
# The extension that histories have: a pickled {"k": 1}.
EXTENSION = b"\x80\x03}X\x01\0\0\0kK\x01s."
# More revisions or transactions than a history has: the harness asks for all, and some storages count in C.
COUNT_MAX = 1 << 30


class Refused(Exception):
    """A rule forbids it: which, and what it has to say."""

    def __init__(self, why, **more):
        self.answer = {"is": "refused", "why": why, **more}


class Waits(Exception):
    """Another transaction is between vote and finish, and this one would have to wait for it."""


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
    # A class comes with its arguments, if a storage pickles it again.
    return encode("Counter" in str(name), number, strong, [oid for _, (oid,) in weak], [oid for _, (_, oid) in foreign])


class Records:
    """What a ZODB.interfaces.IStorageWrapper says about records: ZODB passes what it merged through here."""

    transform_record_data = staticmethod(canonical)
    untransform_record_data = staticmethod(lambda record: record)
    # A DB is told what others change; nobody asks it here.
    invalidate = invalidateCache = staticmethod(lambda *_: None)


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
    """Stands in for the module `time` in a storage."""

    def __init__(self):
        self.now = Moment(bytes(8))

    def time(self):
        return self.now

    def gmtime(self, moment):
        return moment.date if isinstance(moment, Moment) else time.gmtime(moment)


def later(tid):
    """The tid after this one."""
    return TimeStamp(tid).laterThan(TimeStamp(tid)).raw() if tid != NO_OID_OR_TID else tid[:7] + b"\1"


class Tids:
    """The tids of a storage that makes its own, and those that the harness knows them by, in the same order."""

    def __init__(self):
        self.ours, self.theirs = [NO_OID_OR_TID], [NO_OID_OR_TID]

    def add(self, ours, theirs):
        self.ours.append(ours)
        self.theirs.append(theirs)

    def there(self, ours):
        """In the storage: a tid between two transactions is the next one after the first of them."""
        if ours >= LAST_TID:
            return LAST_TID
        n = bisect.bisect_right(self.ours, ours) - 1
        theirs = self.theirs[n]
        return theirs if self.ours[n] == ours else utils.p64(utils.u64(theirs) + 1)

    def here(self, theirs):
        n = bisect.bisect_right(self.theirs, theirs) - 1
        ours = self.ours[n]
        return ours if self.theirs[n] == theirs else utils.p64(utils.u64(ours) + 1)


# --- The storage ------------------------------------------------------------------------------------------------------


class Notes:
    """A transaction before its vote: a storage is told of it then, when it is known at which time."""

    def __init__(self, user, description, extension, tid, packed):
        self.user, self.description, self.extension = user, description, bytes.fromhex(extension)
        self.tid, self.status = tid and bytes.fromhex(tid), "p" if packed else " "
        self.changes = []

    def meta(self):
        return TransactionMetaData(self.user, self.description, self.extension)

    def stored(self):
        return {change["oid"] for change in self.changes if change["change"] == "store"}

    def written(self):
        """The objects that it says to write, in order."""
        return [change["oid"] for change in self.changes if change["change"] in ("store", "delete", "restore")]


class Adapter:
    """A database in its folder; `do_...` and `ask_...` are the words of the protocol.

    A class says what `name`, `can`, `cannot` and `steps_over` are, and opens the storage; the rest is of ZODB's
    interfaces, and may be done otherwise.
    """

    name = ""
    can = ()
    # The questions that it has no answer to.
    cannot = ()
    steps_over = ()
    # A walk over the records that finds none ends with this.
    none_left = ValueError
    # Whether it makes its own tids, whatever it is told.
    own_tids = False
    # Whether its records may be other bytes for the same object.
    other_bytes = False
    # Whether a question takes so long that its answer is kept until the next step that reaches the storage: a
    # transaction is a note until its vote.
    remembers = False

    def __init__(self, folder, raw=False, words=()):
        self.folder, self.raw, self.words = folder, raw, words
        self.clock = Clock()
        # Several sessions of one storage, if it has them: transactions and questions use them in turn.
        self.sessions, self.remembered = [], None
        self.prepare()
        self.do_reset()

    @property
    def storage(self):
        return self.sessions[0]

    # --- What a storage is

    def prepare(self):
        """Once, at the beginning."""

    def connect(self, read_only):
        """Opens it, and returns its sessions."""
        raise NotImplementedError

    def clear(self):
        """Makes the database empty. No session is open."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def end(self):
        """Once, at the end."""
        self._close()

    def steps(self, over):
        return not self.raw and over in self.steps_over

    def _open(self, read_only=False):
        self.sessions = self.connect(read_only)
        self.read_only = read_only
        self.begun, self.voted = {}, {}

    def _close(self):
        for session, meta, _ in self.voted.values() if self.sessions else ():
            session.tpc_abort(meta)
        for session in self.sessions:
            session.close()
        self.sessions = []

    def answer(self, request):
        """What to say to one line."""
        if isinstance(request, list):
            return self._answers(request)
        if request["do"] not in ("begin", "change"):
            self.remembered = None
        try:
            return getattr(self, "do_" + request.pop("do"))(**request)
        except Refused as refused:
            return refused.answer
        except Exception as error:
            return failed(error)

    def _answers(self, questions):
        if not self.remembers or self.remembered is None:
            self.remembered, self.walks = {}, {}
            self.turn += 1
            self.before_questions()
        if not self.remembers:
            return self.ask_all(questions)
        words = [json.dumps(question) for question in questions]
        new = {word: question for word, question in zip(words, questions) if word not in self.remembered}
        self.remembered.update(zip(new, self.ask_all(list(new.values()))))
        return [self.remembered[word] for word in words]

    def before_questions(self):
        """Before the first question after a step."""

    def ask_all(self, questions):
        return [self._ask(question) for question in questions]

    def there(self, tid):
        """The tid, in the storage."""
        tid = bytes.fromhex(tid)
        return self.tids.there(tid) if self.own_tids else min(tid, LAST_TID)

    def here(self, tid):
        """A tid of the storage, to the harness."""
        return (self.tids.here(tid) if self.own_tids else tid).hex()

    def data(self, record):
        """A record of the storage, to the harness."""
        return (canonical(record) if self.other_bytes and record else record).hex()

    # --- Steps

    def do_hello(self):
        hello = {"name": self.name + " (raw)" * self.raw, "can": list(self.can)}
        return {**hello, "cannot": list(self.cannot)} if self.cannot else hello

    def do_reset(self):
        self._close()
        self.clear()
        self.clock.now = Moment(NO_OID_OR_TID)
        self.time = NO_OID_OR_TID
        self.tids, self.order, self.packed, self.turn = Tids(), {}, set(), 0
        self._open()
        return {"is": "done"}

    def do_reopen(self, read_only):
        self._close()
        self._open(read_only)
        return {"is": "done"}

    def do_begin(self, transaction, **meta):
        # A storage wants to know the time at the begin, and the harness tells it at the vote: till then, we take notes.
        self.begun[transaction] = Notes(**meta)
        return {"is": "done"}

    def do_change(self, transaction, **change):
        self.begun[transaction].changes.append(change)
        return {"is": "done"}

    def do_vote(self, transaction, clock):
        if self.voted and len(self.sessions) == 1:
            return {"is": "busy"}
        self.time = bytes.fromhex(clock)
        self.clock.now = Moment(self.time)
        notes = self.begun[transaction]
        session, meta = self.session_of(transaction), notes.meta()
        if session is None:
            return {"is": "busy"}
        try:
            resolved = self._vote(session, meta, notes)
        except Waits:
            return {"is": "busy"}
        except BaseException:
            del self.begun[transaction]
            raise
        del self.begun[transaction]
        self.voted[transaction] = session, meta, notes
        return {"is": "voted", "resolved": sorted(oid.hex() for oid in resolved if oid.hex() in notes.stored())}

    def session_of(self, transaction):
        """The session that a transaction uses: one that has no other between vote and finish."""
        busy = {id(session) for session, _, _ in self.voted.values()}
        free = [session for session in self.sessions if id(session) not in busy]
        return free[self.turn % len(free)] if free else None

    def _vote(self, session, meta, notes):
        if self.steps("too_long") and max(len(meta.user), len(meta.description)) > 0xffff:
            raise Refused("too_long")
        try:
            try:
                self.tpc_begin(session, meta, notes)
                for change in notes.changes:
                    change = dict(change)
                    getattr(self, "_" + change.pop("change"))(session, meta, **change)
                return session.tpc_vote(meta) or ()
            except BaseException:
                session.tpc_abort(meta)
                self.aborted()
                raise
        except POSException.ReadConflictError as error:
            raise Refused("read_conflict", **self._serials(error, notes)) from None
        except POSException.ConflictError as error:
            raise Refused("conflict", **self._serials(error, notes)) from None
        except POSException.POSKeyError as error:
            if not isinstance(error.args[0], bytes):
                raise  # It is about a file of a blob.
            raise Refused("key", oid=error.args[0].hex()) from None
        except POSException.ReadOnlyError:
            raise Refused("read_only") from None
        except POSException.MultipleUndoErrors:
            raise  # Over ZEO with msgpack, it has no text.
        except POSException.POSError as error:
            if str(error) in ("user name too long", "description too long", "too much extension data"):
                raise Refused("too_long") from None
            raise

    def tpc_begin(self, session, meta, notes):
        if self.steps("not_later") and notes.tid is not None and notes.tid <= session.lastTransaction():
            raise Refused("not_later")
        told = () if notes.tid is None else (notes.tid, notes.status)
        # Not each storage that takes a tid takes a status.
        session.tpc_begin(meta, *told[: 1 + ("restore" in self.can)])

    def aborted(self):
        """After an abort."""

    def do_finish(self, transaction):
        session, meta, notes = self.voted.pop(transaction)
        tid = session.tpc_finish(meta)
        if self.own_tids:
            self.tids.add(max(self.time, later(self.tids.ours[-1])), tid)
        self.order[tid] = notes
        return {"is": "finished", "tid": self.here(tid)}

    def do_abort(self, transaction):
        if self.begun.pop(transaction, None) is None:
            session, meta, _ = self.voted.pop(transaction)
            session.tpc_abort(meta)
            self.aborted()
        return {"is": "done"}

    def _serials(self, error, notes):
        committed, serial = error.serials
        oid, serial = error.oid.hex(), self.here(serial)
        if self.own_tids:
            # There is no way back from a serial that is no transaction's.
            checks = isinstance(error, POSException.ReadConflictError)
            told = [change["serial"] for change in notes.changes
                    if change.get("oid") == oid and checks == (change["change"] == "check_current")]
            serial = told[0] if told else serial
        return {"oid": oid, "committed": self.here(committed), "serial": serial}

    # --- Changes

    def _store(self, session, meta, oid, serial, data, version, blob=None):
        told, oid, data = serial, bytes.fromhex(oid), bytes.fromhex(data)
        serial = self.there(serial)
        if self.steps("empty") and not data:
            raise Refused("empty", oid=oid.hex())
        if self.steps("stale") and serial != NO_OID_OR_TID and not self._is_known(session, oid):
            raise Refused("conflict", oid=oid.hex(), committed=NO_OID_OR_TID.hex(), serial=told)
        if blob is None:
            session.store(oid, serial, data, version, meta)
        else:
            session.storeBlob(oid, serial, data, self._blob_file(blob), version, meta)

    def _blob_file(self, blob):
        number, path = tempfile.mkstemp(dir=self.folder)
        os.write(number, bytes.fromhex(blob))
        os.close(number)
        return path

    def _delete(self, session, meta, oid, serial):
        session.deleteObject(bytes.fromhex(oid), self.there(serial), meta)

    def _check_current(self, session, meta, oid, serial):
        session.checkCurrentSerialInTransaction(bytes.fromhex(oid), self.there(serial), meta)

    def _undo(self, session, meta, tid):
        try:
            session.undo(self.undo_id(self.there(tid)), meta)
        except POSException.MultipleUndoErrors as error:
            raise Refused("undo_conflict", oids=sorted(oid.hex() for oid, _ in error._errs)) from None
        except POSException.UndoError:
            raise Refused("not_undoable", tid=tid) from None

    @staticmethod
    def undo_id(tid):
        """What the undo log calls a transaction."""
        return base64.b64encode(tid)

    @staticmethod
    def undo_tid(of):
        return base64.b64decode(of)

    def _is_known(self, session, oid):
        try:
            return session.loadBefore(oid, LAST_TID) is not None
        except POSException.POSKeyError:
            return False

    # --- Packing

    def do_pack(self, to, collect, go_on):
        if self.voted:
            return {"is": "busy"}  # It may wait for the commit lock, and nobody here could end the wait.
        if self.read_only:
            raise Refused("read_only")
        to = bytes.fromhex(to)
        self.pack(to, collect)
        if self.steps("packed"):
            self.packed |= {tid for tid in self._tids_now() if bytes.fromhex(self.here(tid)) <= to}
        return {"is": "packed", "dangling": None}

    def pack(self, to, collect):
        self.storage.pack(Moment(to), referencesf, gc=collect)

    def _tids_now(self):
        return [transaction.tid for transaction in self.storage.iterator()]

    # --- Questions

    def reader(self):
        """The session that answers: each in turn."""
        return self.sessions[self.turn % len(self.sessions)]

    def _ask(self, question):
        try:
            return getattr(self, "ask_" + question.pop("ask"))(**question)
        except POSException.POSKeyError:
            return {"is": "key_error"}
        except Exception as error:
            return failed(error)

    def ask_load(self, oid, version):
        data, tid = self.load(bytes.fromhex(oid))
        return {"is": "loaded", "data": self.data(data), "tid": self.here(tid)}

    def load(self, oid):
        return self.reader().load(oid, "")

    def ask_load_before(self, oid, before):
        shown = self.reader().loadBefore(bytes.fromhex(oid), self.there(before))
        if shown is None:
            return {"is": "not_yet"}
        data, tid, end = shown
        return {"is": "shown", "data": self.data(data), "tid": self.here(tid), "next": end and self.here(end)}

    def ask_load_serial(self, oid, tid):
        return {"is": "record", "data": self.data(self.reader().loadSerial(bytes.fromhex(oid), self.there(tid)))}

    def ask_load_blob(self, oid, tid):
        path = self.reader().loadBlob(bytes.fromhex(oid), self.there(tid))
        return {"is": "blob", "bytes": Path(path).read_bytes().hex()}

    def ask_history(self, oid, limit):
        entries = self.reader().history(bytes.fromhex(oid), size=min(limit, COUNT_MAX))
        return {"is": "history", "entries": [{**self._entry(e["tid"], e), "size": e["size"]} for e in entries]}

    def _entry(self, tid, e):
        return {"tid": self.here(tid), "user": text(e["user_name"]), "description": text(e["description"])}

    def ask_undo_log(self, first, last):
        entries = self.reader().undoLog(first, min(last, COUNT_MAX))
        return {"is": "undo_log", "entries": [self._entry(self.undo_tid(e["id"]), e) for e in entries]}

    def ask_transactions(self, first, last, newest_first):
        # The same ones are often asked for in both orders, and a storage reads them each time.
        if (first, last) not in self.walks:
            walk = self.reader().iterator(self.there(first), self.there(last))
            self.walks[first, last] = [self._transaction(t) for t in walk if not self._is_gone(t)]
        transactions = self.walks[first, last]
        return {"is": "transactions", "transactions": transactions[::-1] if newest_first else transactions}

    def _is_gone(self, t):
        """Whether a pack should have removed a transaction that has no revisions."""
        return t.tid in self.packed and t.tid != self.reader().lastTransaction() and not list(t)

    def _transaction(self, t):
        extension = getattr(t, "extension_bytes", b"")
        if not isinstance(extension, bytes) or not extension or self.steps("extension"):
            extension = EXTENSION if t.extension == {"k": 1} else extension or b""
        return {
            "tid": self.here(t.tid),
            "packed": t.status == "p" or t.tid in self.packed,
            "user": text(t.user),
            "description": text(t.description),
            "extension": extension.hex(),
            "revisions": self._in_order(t.tid, [self._revision(t, r) for r in t]),
        }

    def _revision(self, transaction, r):
        told = {
            "oid": r.oid.hex(),
            "version": r.version,
            "data": self.data(r.data) if r.data else None,
            "source": self._source(r),
        }
        if "blobs" in self.can and r.data and r.data.startswith(b"\x80\x03cZODB.blob\n"):
            try:
                path = self.reader().loadBlob(r.oid, transaction.tid)
                told["blob"] = Path(path).read_bytes().hex()
            except POSException.POSKeyError:
                pass
        return told

    def _source(self, record):
        source = getattr(record, "data_txn", None)
        return source and self.here(source)

    def _in_order(self, tid, revisions):
        if not self.steps("order") or tid not in self.order:
            return revisions
        written = self.order[tid].written()
        place = {oid: n for n, oid in enumerate(written)}
        return sorted(revisions, key=lambda revision: (place.get(revision["oid"], len(written)), revision["oid"]))

    def ask_last_transaction(self):
        return {"is": "tid", "tid": self.here(self.reader().lastTransaction())}

    def ask_last_invalidations(self, count):
        changed = self.reader().lastInvalidations(min(count, COUNT_MAX))
        told = [[self.here(tid), self._oids_in_order(tid, oids)] for tid, oids in changed]
        return {"is": "invalidations", "changed": told}

    def _oids_in_order(self, tid, oids):
        return [revision["oid"] for revision in self._in_order(tid, [{"oid": oid.hex()} for oid in oids])]

    def ask_current_records(self, first):
        oid, records = bytes.fromhex(first), []
        while oid is not None:
            try:
                found, tid, data, following = self.reader().record_iternext(oid)
            except self.none_left:
                break  # So FileStorage says that there is no object from here on.
            except POSException.POSKeyError as error:
                # FileStorage's walk stops at an object that is nothing.
                if self.raw:
                    return failed(error)
                oid = utils.p64(utils.u64(error.args[0]) + 1)
                continue
            records.append([found.hex(), self.here(tid), self.data(data)])
            oid = following
        return {"is": "current_records", "records": records}


def text(of):
    return of.decode() if isinstance(of, bytes) else of


def failed(error):
    return {"is": "failed", "message": f"{type(error).__name__}: {error}"}


def main(adapter):
    """Answers the lines of stdin."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    # A conflict that cannot be merged is no news; nor is an index of an empty database, or a clock that steps back.
    logging.getLogger("ZODB").setLevel(logging.CRITICAL + 1)
    # Answers alone go to stdout, whatever ZODB prints.
    answers, sys.stdout = sys.stdout, sys.stderr
    words = sys.argv[1:]
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="vellum-peer-", dir=memory if memory.is_dir() else None))
    peer = None
    try:
        peer = adapter(folder, "--raw" in words, [word for word in words if word != "--raw"])
        for line in sys.stdin:
            answers.write(json.dumps(peer.answer(json.loads(line)), separators=(",", ":")) + "\n")
            answers.flush()
    finally:
        if peer is not None:
            peer.end()
        shutil.rmtree(folder, ignore_errors=True)
