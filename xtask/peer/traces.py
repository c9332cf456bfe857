"""Traces of real ZEO clients on a mail database.

    traces.py VELLUM FOLDER [--messages N] [--seed S]

writes FOLDER/NAME.trace for each workload, in ZEO's format, and FOLDER/references.vtrace with the references of all
objects, in the compact format of docs/traces.md.  The database is served by `vellum serve` for half of the workloads and
by runzeo for the others.  Everything is on the loopback interface.

The last line on stdout is JSON: for each workload the cache's size, and the loads and hits of the real cache.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import mail
import transaction
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.serialize import get_refs
from ZODB.utils import p64, u64

CACHE_BYTES = 1 << 20
# Objects that a connection keeps: few, so that loads reach the cache below it.
CONNECTION_OBJECTS = 60


class Server:
    """`vellum serve` or runzeo, which is ended whatever happens."""

    def __init__(self, kind, vellum, file):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = free.getsockname()
        address = "%s:%d" % self.address
        if kind == "vellum":
            command = [vellum, "serve", file, "--listen", address]
        else:
            command = [os.path.join(os.path.dirname(sys.executable), "runzeo"), "-a", address, "-f", file]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            try:
                socket.create_connection(self.address, 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{command}: no answer")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Connected:
    """A database of one connection, which keeps few objects."""

    def __init__(self, storage):
        self.connect(storage)

    def connect(self, storage):
        self.db = DB(storage, cache_size=CONNECTION_OBJECTS)
        self.manager = transaction.TransactionManager()
        self.connection = self.db.open(self.manager)
        self.mailbox = self.connection.root()["mail"]

    def begin(self):
        """A new transaction: the connection sees the present, and keeps few objects."""
        self.manager.begin()
        self.connection.cacheGC()

    def close(self):
        self.manager.abort()
        self.connection.close()
        self.db.close()


class Client(Connected):
    """A client of ZEO, with a recorded cache."""

    def __init__(self, address, folder, name, persistent=False):
        self.address, self.name = address, name
        self.file = open(os.path.join(folder, name + ".trace"), "ab")
        self.path = os.path.join(folder, name + ".zec") if persistent else None
        self.open()

    def open(self):
        # rel_trace.py uses this file where there is no ZEO.
        import recorder
        from ZEO.ClientStorage import ClientStorage

        recorder.install(self.path, CACHE_BYTES, self.file)
        self.connect(ClientStorage(self.address, wait_timeout=20))

    def close(self):
        super().close()
        self.file.flush()

    def end(self):
        self.close()
        self.file.close()


class Reader:
    """What people do with their mail."""

    def __init__(self, client, seed, facts):
        self.client, self.random, self.facts = client, random.Random(seed), facts

    def search(self):
        """The newest messages of a sender; few senders are asked for often."""
        self.client.begin()
        senders = self.facts["senders"]
        sender = senders[min(int(self.random.paretovariate(0.6)) - 1, len(senders) - 1)]
        by_id = self.client.mailbox["by_id"]
        for id in list(self.client.mailbox["by_sender"][sender])[:10]:
            by_id[id].subject

    def page(self, first, count):
        """A page of a folder, by date."""
        self.client.begin()
        dates = self.facts["dates"][first : first + count]
        by_date = self.client.mailbox["by_date"]
        for date in dates:
            by_date[date].subject

    def crawl(self):
        """Every message once, in the order of the dates, with the message that it answers."""
        for number, message in enumerate(self.client.mailbox["by_date"].values()):
            message.subject
            if message.parent is not None:
                message.parent.subject
            if number % 20 == 0:
                self.client.connection.cacheGC()

    def scan(self):
        """The catalogue, from its beginning to its end."""
        for number, (id, message) in enumerate(self.client.mailbox["by_id"].items()):
            message.sender
            if number % 20 == 0:
                self.client.connection.cacheGC()

    def flag(self):
        """Marks a message of a sender as seen, or tries to."""
        self.client.begin()
        date = self.random.choice(self.facts["dates"][-200:])
        message = self.client.mailbox["by_date"][date]
        message.flags = dict(message.flags, seen=self.random.random() < 0.5)
        try:
            self.client.manager.commit()
        except transaction.interfaces.TransientError:
            self.client.manager.abort()


def crawl(client, reader):
    reader.crawl()
    for _ in range(60):
        reader.search()


def search(client, reader):
    for _ in range(900):
        reader.search()


def moving(client, reader):
    """A working set of pages that moves on by two thirds, ten times."""
    pages = len(reader.facts["dates"]) // 20
    width = pages // 8
    for phase in range(10):
        first = phase * width * 2 // 3 % (pages - width)
        for _ in range(60):
            reader.page((first + reader.random.randrange(width)) * 20, 20)


def scans(client, reader):
    for _ in range(3):
        for _ in range(250):
            reader.search()
        client.begin()
        reader.scan()


def restart(client, reader):
    for _ in range(450):
        reader.search()
    client.close()
    client.open()
    for _ in range(450):
        reader.search()


def several(clients, readers):
    """Three clients that search, read the newest pages, and change messages of these."""
    last = len(readers[0].facts["dates"])
    for turn in range(450):
        for reader in readers:
            reader.search()
            if turn % 3 == 0:
                reader.page(last - 20 * (1 + reader.random.randrange(8)), 20)
            if turn % 2 == 0:
                reader.flag()


def facts(path):
    """The keys of the database, as a program knows them that has them in its own index."""
    db = DB(FileStorage(path, read_only=True))
    mailbox = db.open().root()["mail"]
    senders = sorted(mailbox["by_sender"], key=lambda sender: (-len(mailbox["by_sender"][sender]), sender))
    found = {"senders": senders, "dates": list(mailbox["by_date"])}
    transaction.abort()
    db.close()
    return found


def number(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def difference(step):
    return number(step << 1 if step >= 0 else (-step << 1) - 1)


def references(path, out):
    """The references of all objects, in the compact format."""
    storage = FileStorage(path, read_only=True)
    data, cursor = {}, None
    while True:
        oid, _, record, cursor = storage.record_iternext(cursor)
        data[u64(oid)] = record
        if cursor is None:
            break
    storage.close()
    with open(out, "wb") as file:
        file.write(b"VLTRACE1")
        second, before = 1, 0
        for oid in sorted(data):
            to = [u64(target) for target, _ in get_refs(data[oid])]
            if not to:
                continue
            file.write(b"\x09" + difference(second) + difference(oid - before) + number(len(to)))
            last, before, second = oid, oid, 0
            for target in to:
                file.write(difference(target - last) + number(len(data[target])))
                last = target


def counts(path):
    """Loads and hits of current revisions in a trace."""
    import recorder

    loads = hits = 0
    with open(path, "rb") as file:
        while head := file.read(recorder.RECORD.size):
            _, field, length, _, _ = recorder.RECORD.unpack(head)
            file.read(length)
            loads += field & 0xFF in (recorder.MISS, recorder.HIT)
            hits += field & 0xFF == recorder.HIT
    return {"bytes": CACHE_BYTES, "loads": loads, "hits": hits}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("vellum")
    parser.add_argument("folder")
    parser.add_argument("--messages", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    path = os.path.join(args.folder, "mail.fs")
    real, clock = time.time, mail.Clock()
    time.time = clock
    try:
        mail.write(path, args.messages, args.seed, clock)
    finally:
        time.time = real
    known = facts(path)
    references(path, os.path.join(args.folder, "references.vtrace"))

    shown = {}
    for kind, workloads in [("vellum", [crawl, search, moving]), ("runzeo", [scans, restart])]:
        server = Server(kind, args.vellum, path)
        try:
            for workload in workloads:
                name = workload.__name__
                client = Client(server.address, args.folder, name, persistent=workload is restart)
                # Each with searches of its own.
                seed = args.seed * 100 + len(shown)
                workload(client, Reader(client, seed, known))
                client.end()
                shown[name] = counts(os.path.join(args.folder, name + ".trace"))
                print(name, shown[name], file=sys.stderr)
        finally:
            server.end()
    server = Server("vellum", args.vellum, path)
    try:
        clients = [Client(server.address, args.folder, f"several-{n}") for n in (1, 2, 3)]
        several(clients, [Reader(client, args.seed * 100 + 10 + n, known) for n, client in enumerate(clients)])
        for client in clients:
            client.end()
            shown[client.name] = counts(os.path.join(args.folder, client.name + ".trace"))
            print(client.name, shown[client.name], file=sys.stderr)
    finally:
        server.end()
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
