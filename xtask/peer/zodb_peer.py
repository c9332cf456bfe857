"""Drive a real ZODB FileStorage over stdin and stdout, so that a program can play one script on two engines.

    python zodb_peer.py

Every line in is a request, a JSON object with an `op`; every line out is its answer, in the same order.
Oids, tids and all other bytes are in hex.  A request that fails is answered by {"error": the name of the
exception's class, "message": ...}; a commit that fails has been aborted by then.  At the end of the input
the storage is closed.  ZODB's warnings go to stderr.

    open  path, read_only?, create?, layer?, compress?
                                         -> used_index, last_transaction, len, size; with a layer of zc.zlibstorage
                                            above the file, `zlib` or `server`, if one is named
    close                                -> (nothing)
    commit  tid?, user?, description?, extension?, changes
                                         -> tid, resolved: the oids of which conflicts were resolved
        {"op": "store", "oid", "serial", "data"}, {"op": "delete", "oid", "serial"},
        {"op": "check_current", "oid", "serial"}, {"op": "undo", "tid"}
    vote  (as for commit)                -> resolved; the transaction is then between vote and finish
    finish                               -> tid
    abort                                -> (nothing)
    load  oid                            -> data, tid
    load_before  oid, tid                -> data, tid, end (or null); data is null when there is none
    load_serial  oid, tid                -> data
    history  oid, count?                 -> history: [{tid, size, user, description}], newest first
    last_transaction                     -> tid
    len                                  -> len
    size                                 -> size
    new_oid                              -> oid
    used_index                           -> used_index
    last_invalidations  count            -> invalidations: [[tid, [oid, ...]], ...]
    pack  tid, gc?, also?, without?      -> len, size; to the time of this tid.  References to the oids `without`
                                            are passed over, and the first record that is asked for its
                                            references has those to the oids `also` too
    iterate                              -> transactions: [{tid, status, user, description, extension,
                                            records: [{oid, sha256, data_tid}]}]
    describe                             -> last_transaction, len, size, transactions, records, objects:
                                            {oid: {tid, sha256, history: [tid, ...]}}

`sha256` is that of the object's data, and null where an object is deleted or its creation undone; `data_tid`
is the transaction a record borrows its data from, or null.
"""

import base64
import calendar
import hashlib
import json
import logging
import sys

from persistent.TimeStamp import TimeStamp
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf

EVERYTHING = 1 << 60


def unhex(text):
    return None if text is None else bytes.fromhex(text)


def hexed(data):
    return None if data is None else data.hex()


def sha256(data):
    return None if data is None else hashlib.sha256(data).hexdigest()


class Moment(int):
    """The time of a tid, whose date must be one that there is, in seconds; but nothing of the tid is lost."""

    def __new__(cls, tid):
        minute, second = TimeStamp(tid), int.from_bytes(tid[4:], "big") * 60 / 2**32
        date = (minute.year(), minute.month(), minute.day(), minute.hour(), minute.minute(), int(second))
        moment = super().__new__(cls, calendar.timegm(date))
        # The middle of the tid, so that no rounding makes it the one before.
        moment.second = second + 30 / 2**32
        return moment

    def __mod__(self, minute):
        return self.second


class Peer:
    """One storage at most; every method but the helpers is an `op`, and its parameters are the request's."""

    def __init__(self):
        self.storage = None
        self.voted = None

    def open(self, path, read_only=False, create=False, layer=None, compress=True):
        if self.storage is not None:
            raise ValueError("a storage is already open")
        self.storage = FileStorage(path, read_only=read_only, create=create)
        if layer is not None:
            from zc.zlibstorage import ServerZlibStorage, ZlibStorage

            self.storage = {"zlib": ZlibStorage, "server": ServerZlibStorage}[layer](self.storage, compress)
        return {
            **self.used_index(),
            "last_transaction": hexed(self.storage.lastTransaction()),
            **self.len(),
            **self.size(),
        }

    def close(self):
        storage, self.storage = self.storage, None
        storage.close()
        return {}

    def commit(self, **request):
        return {**self.vote(**request), **self.finish()}

    def vote(self, changes, tid=None, user="", description="", extension=""):
        storage = self.storage
        transaction = TransactionMetaData(unhex(user), unhex(description), unhex(extension))
        try:
            storage.tpc_begin(transaction, unhex(tid), " ")
            for change in changes:
                self._change(transaction, **change)
            resolved = storage.tpc_vote(transaction) or ()
        except BaseException:
            storage.tpc_abort(transaction)
            raise
        self.voted = transaction
        return {"resolved": [oid.hex() for oid in resolved]}

    def finish(self):
        transaction, self.voted = self.voted, None
        try:
            return {"tid": self.storage.tpc_finish(transaction).hex()}
        except BaseException:
            self.storage.tpc_abort(transaction)
            raise

    def abort(self):
        transaction, self.voted = self.voted, None
        self.storage.tpc_abort(transaction)
        return {}

    def _change(self, transaction, op, oid=None, serial=None, data=None, tid=None):
        storage = self.storage
        if op == "store":
            storage.store(unhex(oid), unhex(serial), unhex(data), "", transaction)
        elif op == "delete":
            storage.deleteObject(unhex(oid), unhex(serial), transaction)
        elif op == "check_current":
            storage.checkCurrentSerialInTransaction(unhex(oid), unhex(serial), transaction)
        elif op == "undo":
            storage.undo(base64.b64encode(unhex(tid)), transaction)
        else:
            raise ValueError(f"no such change: {op}")

    def load(self, oid):
        data, tid = self.storage.load(unhex(oid))
        return {"data": data.hex(), "tid": tid.hex()}

    def load_before(self, oid, tid):
        data, tid, end = self.storage.loadBefore(unhex(oid), unhex(tid)) or (None, None, None)
        return {"data": hexed(data), "tid": hexed(tid), "end": hexed(end)}

    def load_serial(self, oid, tid):
        return {"data": self.storage.loadSerial(unhex(oid), unhex(tid)).hex()}

    def history(self, oid, count=1):
        return {
            "history": [
                {
                    "tid": entry["tid"].hex(),
                    "size": entry["size"],
                    "user": entry["user_name"].hex(),
                    "description": entry["description"].hex(),
                }
                for entry in self.storage.history(unhex(oid), size=count)
            ]
        }

    def last_transaction(self):
        return {"tid": self.storage.lastTransaction().hex()}

    def len(self):
        return {"len": len(self.storage)}

    def size(self):
        return {"size": self.storage.getSize()}

    def new_oid(self):
        return {"oid": self.storage.new_oid().hex()}

    def used_index(self):
        return {"used_index": bool(self.storage._used_index)}

    def last_invalidations(self, count):
        invalidations = self.storage.lastInvalidations(count)
        return {"invalidations": [[tid.hex(), [oid.hex() for oid in oids]] for tid, oids in invalidations]}

    def pack(self, tid, gc=None, also=(), without=()):
        also, without = [unhex(oid) for oid in also], {unhex(oid) for oid in without}

        def references(data, _oids=None):
            oids = [oid for oid in referencesf(data) if oid not in without] + also
            also.clear()
            return oids

        self.storage.pack(Moment(unhex(tid)), references, gc)
        return {**self.len(), **self.size()}

    def iterate(self):
        return {
            "transactions": [
                {
                    "tid": transaction.tid.hex(),
                    "status": transaction.status,
                    "user": transaction.user.hex(),
                    "description": transaction.description.hex(),
                    "extension": transaction.extension_bytes.hex(),
                    "records": [
                        {
                            "oid": record.oid.hex(),
                            "sha256": sha256(record.data),
                            "data_tid": hexed(record.data_txn),
                        }
                        for record in transaction
                    ],
                }
                for transaction in self.storage.iterator()
            ]
        }

    def describe(self):
        storage = self.storage
        objects = {}
        for oid in storage._index.keys():
            history = [entry["tid"].hex() for entry in storage.history(oid, size=EVERYTHING)]
            try:
                data, tid = storage.load(oid)
            except POSKeyError:
                data, tid = None, bytes.fromhex(history[0])
            objects[oid.hex()] = {"tid": tid.hex(), "sha256": sha256(data), "history": history}
        transactions = records = 0
        for transaction in storage.iterator():
            transactions += 1
            records += sum(1 for _ in transaction)
        return {
            "last_transaction": hexed(storage.lastTransaction()),
            **self.len(),
            **self.size(),
            "transactions": transactions,
            "records": records,
            "objects": objects,
        }

    def _answer(self, line):
        try:
            request = json.loads(line)
            op = request.pop("op")
            action = None if op.startswith("_") else getattr(Peer, op, None)
            if action is None:
                raise ValueError(f"no such op: {op}")
            if self.storage is None and op != "open":
                raise ValueError("no storage is open")
            return action(self, **request)
        except Exception as error:
            return {"error": type(error).__name__, "message": str(error)}


def main():
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    # Answers alone go to stdout, whatever ZODB prints.
    answers, sys.stdout = sys.stdout, sys.stderr
    peer = Peer()
    for line in sys.stdin:
        print(json.dumps(peer._answer(line)), file=answers, flush=True)
    if peer.storage is not None:
        peer.close()


if __name__ == "__main__":
    main()
