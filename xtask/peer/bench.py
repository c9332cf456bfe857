"""Measure the real ZODB FileStorage on a database.

    python bench.py FILE --what WHAT... [--k K] [--oids OIDS] [--count N] [--dir DIR] [--json]

WHAT is any of:

    open        open the database without an index, which reads all of FILE; the best of K
    open-index  open it with an index ZODB made; the best of K
    load        load the first N objects of OIDS, one after another; the best of K
    load2       the same loads, shared by two threads; the best of K
    iterate     read every record of every transaction; the best of K
    commit      N transactions of one 200-byte object each, flushed to disk, into a fresh file in DIR
    copy        copy all of it into a fresh file in DIR, with copyTransactionsFrom; once
    states      the states of the first N records as JSON, by zodb-json-codec; the best of K
    undo-log    the newest 20 transactions that can be undone, N times; the best of K
    pack        pack a fresh copy of it in DIR to now, with collection; once
    memory      what opening adds to a new process's resident memory, without an index and with one

OIDS has one oid a line, in 16 hex digits.  FILE is opened read-only, and by another name, so that an index
next to it is neither used nor touched.  Run it twice if FILE may not be in the page cache yet.

Every measurement prints one line: with --json, an object with `what`, `seconds` (of the best run), `runs`
(the seconds of every run), `count` (the things done, `unit` says what), and more.
"""

import argparse
import gc
import itertools
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import threading
import time

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

PAYLOAD = 200


class Database:
    """FILE by another name, in a directory of its own: with no index, or with one that ZODB made."""

    def __init__(self, path, index):
        self.dir = tempfile.TemporaryDirectory(prefix="bench-")
        self.path = os.path.join(self.dir.name, "Data.fs")
        self.index = index
        os.symlink(os.path.abspath(path), self.path)
        if index:
            storage = FileStorage(self.path, read_only=True)
            # As FileStorage does on closing, which it leaves out when it is read-only.
            storage._index.save(storage._pos, self.path + ".index")
            storage.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.dir.cleanup()

    def open(self):
        return open_read_only(self.path, self.index)


def open_read_only(path, index):
    storage = FileStorage(path, read_only=True)
    assert bool(storage._used_index) == index, "the index was not as it should have been"
    return storage


def timed(k, action):
    """Runs `action` k times; returns the times taken and what the last run returned."""
    runs = []
    for _ in range(k):
        gc.collect()
        started = time.perf_counter()
        result = action()
        runs.append(time.perf_counter() - started)
    return {"seconds": min(runs), "runs": runs}, result


def open_database(args, index):
    with Database(args.file, index) as database:
        runs = []
        for _ in range(args.k):
            gc.collect()
            started = time.perf_counter()
            storage = database.open()
            runs.append(time.perf_counter() - started)
            count, size = len(storage), storage.getSize()
            storage.close()
            del storage
    yield {"seconds": min(runs), "runs": runs, "count": count, "unit": "objects", "bytes": size}


def load_database(args, threads):
    with open(args.oids) as lines:
        oids = [bytes.fromhex(line.strip()) for line in lines if line.strip()][: args.count]
    if args.count is not None and len(oids) < args.count:
        raise SystemExit(f"{args.oids} has only {len(oids)} oids, not {args.count}")
    with Database(args.file, index=True) as database:
        storage = database.open()

        def load(some):
            loaded = 0
            for oid in some:
                data, _ = storage.load(oid)
                loaded += len(data)
            return loaded

        def load_in_threads():
            loaded = []
            workers = [
                threading.Thread(target=lambda some: loaded.append(load(some)), args=(oids[i::threads],))
                for i in range(threads)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            if len(loaded) != threads:
                raise SystemExit("a thread failed")
            return sum(loaded)

        times, loaded = timed(args.k, lambda: load(oids) if threads == 1 else load_in_threads())
        objects = len(storage)
        storage.close()
    yield {
        **times,
        "count": len(oids),
        "unit": "loads",
        "bytes": loaded,
        "threads": threads,
        "objects": objects,
    }


def iterate(args):
    with Database(args.file, index=True) as database:
        storage = database.open()

        def read_all():
            transactions = records = size = 0
            for transaction in storage.iterator():
                transactions += 1
                for record in transaction:
                    records += 1
                    size += len(record.data or b"")
            return transactions, records, size

        times, (transactions, records, size) = timed(args.k, read_all)
        objects = len(storage)
        storage.close()
    yield {
        **times,
        "count": records,
        "unit": "records",
        "bytes": size,
        "transactions": transactions,
        "objects": objects,
    }


def states(args):
    import zodb_json_codec

    with Database(args.file, index=True) as database:
        storage = database.open()
        every = (record.data for transaction in storage.iterator() for record in transaction if record.data)
        records = list(itertools.islice(every, args.count))
        to_json = zodb_json_codec.decode_zodb_record_for_pg_json

        def write_all():
            return sum(len(to_json(record)[2]) for record in records)

        times, written = timed(args.k, write_all)
        storage.close()
    yield {**times, "count": len(records), "unit": "records", "bytes": written}


def commit(args):
    rng = random.Random(1)
    count = args.count or 1_000
    changes = [(p64(i), rng.randbytes(PAYLOAD)) for i in range(count)]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as directory:
        path = os.path.join(directory, "Data.fs")
        storage = FileStorage(path, create=True)
        gc.collect()
        started = time.perf_counter()
        for oid, data in changes:
            transaction = TransactionMetaData()
            storage.tpc_begin(transaction)
            storage.store(oid, z64, data, "", transaction)
            storage.tpc_vote(transaction)
            storage.tpc_finish(transaction)
        seconds = time.perf_counter() - started
        size, objects = storage.getSize(), len(storage)
        storage.close()
    yield {
        "seconds": seconds,
        "runs": [seconds],
        "count": count,
        "unit": "transactions",
        "bytes": size,
        "objects": objects,
        "payload": PAYLOAD,
    }


def copy(args):
    with Database(args.file, index=True) as database, tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as directory:
        source = database.open()
        target = FileStorage(os.path.join(directory, "Data.fs"), create=True)
        gc.collect()
        started = time.perf_counter()
        target.copyTransactionsFrom(source)
        seconds = time.perf_counter() - started
        size, objects = target.getSize(), len(target)
        assert size == source.getSize()
        source.close()
        target.close()
    yield {"seconds": seconds, "runs": [seconds], "count": objects, "unit": "objects", "bytes": size, "objects": objects}


def pack(args):
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as directory:
        path = os.path.join(directory, "Data.fs")
        shutil.copyfile(args.file, path)
        with open(path, "rb+") as copied:
            os.fsync(copied)
        storage = FileStorage(path)
        objects, before = len(storage), storage.getSize()
        gc.collect()
        started = time.perf_counter()
        storage.pack(time.time(), referencesf)
        seconds = time.perf_counter() - started
        size = storage.getSize()
        storage.close()
    yield {"seconds": seconds, "runs": [seconds], "count": objects, "unit": "objects", "bytes": before, "after": size}


def undo_log(args):
    with Database(args.file, index=True) as database:
        storage = database.open()
        count = args.count or 100
        times, _ = timed(args.k, lambda: [len(storage.undoLog(0, 20)) for _ in range(count)])
        objects = len(storage)
        storage.close()
    yield {**times, "count": count, "unit": "questions", "objects": objects}


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def measure_memory(path, index):
    gc.collect()
    before = resident()
    started = time.perf_counter()
    storage = open_read_only(path, index)
    seconds = time.perf_counter() - started
    gc.collect()
    after = resident()
    objects = len(storage)
    return {
        "seconds": seconds,
        "runs": [seconds],
        "count": objects,
        "unit": "objects",
        "bytes": after - before,
        "per_object": (after - before) / max(objects, 1),
        "before": before,
        "after": after,
        "index": index,
    }


def memory(args):
    for index in (False, True):
        with Database(args.file, index) as database:
            # A process of its own, which has no memory left over from other measurements.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                yield pool.apply(measure_memory, (database.path, index))


MEASUREMENTS = {
    "open": lambda args: open_database(args, index=False),
    "open-index": lambda args: open_database(args, index=True),
    "load": lambda args: load_database(args, threads=1),
    "load2": lambda args: load_database(args, threads=2),
    "iterate": iterate,
    "states": states,
    "commit": commit,
    "copy": copy,
    "pack": pack,
    "undo-log": undo_log,
    "memory": memory,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--what", nargs="+", choices=MEASUREMENTS, required=True)
    parser.add_argument("--k", type=int, default=3, help="take the best of this many runs")
    parser.add_argument("--oids", help="what to load: one oid a line, in hex")
    parser.add_argument("--count", type=int, help="how many objects to load, or transactions to commit")
    parser.add_argument("--dir", help="where to commit; as a rule not a RAM disk")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.oids is None and {"load", "load2"} & set(args.what):
        parser.error("load and load2 need --oids")

    for what in args.what:
        for measured in MEASUREMENTS[what](args):
            line = {"what": what, **measured}
            if args.json:
                print(json.dumps(line), flush=True)
            else:
                print(" ".join(f"{name}={value}" for name, value in line.items()), flush=True)


if __name__ == "__main__":
    main()
