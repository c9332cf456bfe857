"""Measure a storage of ZODB's world on a database, for `cargo xtask tables`.

    python table_bench.py KIND FILE --dir DIR --oids OIDS --changed CHANGED --commits N
    python table_bench.py KIND FILE --dir DIR --oids OIDS --memory

KIND is `zodb`, ZODB's FileStorage, or `relstorage`, RelStorage with its history on SQLite, which syncs each commit.
FILE is copied into a fresh storage in DIR, with copyTransactionsFrom.  OIDS and CHANGED are files of oids, one a line in
16 hex digits: those are loaded, these are written again before the pack.

It prints one line, an object: seconds by row, and bytes on the disk.  With --memory: resident memory of a process that has
opened a copy and has loaded OIDS, and what it had before.
"""

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time

from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf
from ZODB.utils import p64, z64

THREADS = 8
FIRST_NEW = 1 << 40
CHANGES_EACH = 100


class Zodb:
    def __init__(self, folder):
        self.path = os.path.join(folder, "Data.fs")

    def open(self):
        return FileStorage(self.path)

    def of_thread(self, storage):
        return storage


class Relational:
    def __init__(self, folder):
        self.path = os.path.join(folder, "data")

    def open(self):
        options = Options(keep_history=True)
        return RelStorage(Sqlite3Adapter(self.path, {"synchronous": "full"}, options=options), options=options)

    def of_thread(self, storage):
        return storage.new_instance()


def oids_of(path):
    with open(path) as lines:
        return [bytes.fromhex(line.strip()) for line in lines if line.strip()]


def timed(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def commit(storage, records):
    transaction = TransactionMetaData()
    storage.tpc_begin(transaction)
    for oid, serial, data in records:
        storage.store(oid, serial, data, "", transaction)
    storage.tpc_vote(transaction)
    storage.tpc_finish(transaction)


def commits(kind, storage, first, count, threads):
    """Commits of one new object each, by so many threads."""
    record = b"\x80\x03cshop\nItem\n.\x80\x03C\xc8" + b"x" * 200 + b"."
    failed = []

    def some(thread):
        try:
            own = kind.of_thread(storage)
            for number in range(thread, count, threads):
                commit(own, [(p64(first + number), z64, record)])
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=some, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]


def change(storage, oids):
    """Writes the objects again, many in each transaction."""
    for start in range(0, len(oids), CHANGES_EACH):
        loaded = [(oid, *storage.load(oid)) for oid in oids[start : start + CHANGES_EACH]]
        commit(storage, [(oid, serial, data) for oid, data, serial in loaded])


def bytes_of(folder):
    return sum(
        os.stat(os.path.join(place, name)).st_blocks * 512
        for place, _, names in os.walk(folder)
        for name in names
        if not name.endswith((".lock", ".old", ".tmp"))
    )


def fill(kind, file):
    source, target = FileStorage(file, read_only=True), kind.open()
    seconds = timed(lambda: target.copyTransactionsFrom(source))
    source.close()
    target.close()
    return seconds


def rows(kind, args):
    found = {"copy": fill(kind, args.file), "bytes": bytes_of(args.dir)}
    storage = kind.open()
    loads = oids_of(args.oids)
    reader = kind.of_thread(storage)
    found["load"] = timed(lambda: [reader.load(oid) for oid in loads])
    found["commit"] = timed(lambda: commits(kind, storage, FIRST_NEW, args.commits, 1))
    found["commit8"] = timed(lambda: commits(kind, storage, FIRST_NEW + args.commits, args.commits, THREADS))
    storage.close()
    # What these commits wrote is garbage, which a pack would remove: it has a database of its own.
    shutil.rmtree(args.dir)
    os.makedirs(args.dir)
    fill(kind, args.file)
    storage = kind.open()
    change(kind.of_thread(storage), oids_of(args.changed))
    storage.close()
    found["bytes_changed"] = bytes_of(args.dir)
    storage = kind.open()
    found["pack"] = timed(lambda: storage.pack(time.time(), referencesf))
    storage.close()
    found["bytes_packed"] = bytes_of(args.dir)
    return found


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def memory(kind, args):
    """In a process of its own: what the copying took does not count."""
    if args.memory == "filled":
        loads = oids_of(args.oids)
        before = resident()
        storage = kind.open()
        reader = kind.of_thread(storage)
        for oid in loads:
            reader.load(oid)
        return {"memory": resident(), "before": before}
    fill(kind, args.file)
    again = [sys.executable, *sys.argv[:-1], "--memory=filled"]
    return json.loads(subprocess.run(again, check=True, stdout=subprocess.PIPE).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=["zodb", "relstorage"])
    parser.add_argument("file")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--oids", required=True)
    parser.add_argument("--changed")
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--memory", nargs="?", const="fill")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    kind = {"zodb": Zodb, "relstorage": Relational}[args.kind](args.dir)
    print(json.dumps(memory(kind, args) if args.memory else rows(kind, args)))


if __name__ == "__main__":
    main()
