"""Real ZEO clients and `vellum serve`.

    clients.py VELLUM FOLDER CODEC VERSION

plays what a site's clients do, prints a line for each thing that was looked at, and fails at the first that is wrong.
CODEC is pickle or msgpack, VERSION the one that ZEO must have. Everything is on the loopback interface or a Unix socket,
and ends by itself.
"""

import logging
import multiprocessing
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from importlib import metadata

import transaction
import ZEO
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from zc.zlibstorage import ZlibStorage
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, ReadOnlyError
from ZODB.utils import p64, u64, z64

WAIT = 10


class Server:
    """`vellum serve`, which is ended whatever happens."""

    def __init__(self, vellum, file, codec, address="127.0.0.1:0", *more):
        self.command = [vellum, "serve", file, "--listen", address, *more]
        if codec == "msgpack":
            self.command.append("--msgpack")
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline().strip()
        assert line.startswith("listening on "), line
        shown = line.removeprefix("listening on ")
        if "/" in shown:
            self.address = shown
        else:
            host, port = shown.rsplit(":", 1)
            self.address = (host, int(port))
            # Whoever starts it again finds it where it was.
            self.command[self.command.index("--listen") + 1] = shown

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(WAIT)
        self.process.stdout.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def connect(address, **more):
    """A client that asks the server at each new transaction, so that it sees what others have committed."""
    return DB(ClientStorage(address, wait_timeout=WAIT, server_sync=True, **more))


def commit(database, change, tries=100):
    """Makes a change, again and again until it does not conflict; returns how often it did."""
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    try:
        for attempt in range(tries):
            try:
                change(connection.root())
                manager.commit()
                return attempt
            except ConflictError:
                manager.abort()
        raise AssertionError("it always conflicts")
    finally:
        manager.abort()
        connection.close()


def read(database, look):
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    try:
        connection.sync()
        return look(connection.root())
    finally:
        manager.abort()
        connection.close()


def write_keys(address, first, count):
    database = connect(address)
    for key in range(first, first + count):
        commit(database, lambda root: root["tree"].__setitem__(key, str(key)))
    database.close()


def processes(server):
    """Several processes write into one B-tree; their changes are merged."""
    database = connect(server.address)

    def begin(root):
        root["tree"] = IOBTree()
        root["names"] = OOBTree()

    commit(database, begin)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_keys, args=(server.address, 1000 * n, 25)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0, writer.exitcode
    keys = read(database, lambda root: list(root["tree"]))
    assert keys == [1000 * n + key for n in range(3) for key in range(25)], keys
    database.close()
    return "3 processes, %d commits into one tree" % len(keys)


def past(server):
    """Undo, history, iteration."""
    database = connect(server.address)
    commit(database, lambda root: root.__setitem__("word", "one"))
    commit(database, lambda root: root.__setitem__("word", "two"))
    newest = database.undoLog(0, 1)[0]
    manager = transaction.TransactionManager()
    database.undo(newest["id"], manager.get())
    manager.commit()
    assert read(database, lambda root: root["word"]) == "one"
    storage = database.storage
    history = storage.history(z64, 100)
    assert len(history) >= 3 and history[0]["size"] >= 0
    # The records of a transaction can be asked for until the next transaction is.
    transactions = [(found.tid, list(found)) for found in storage.iterator()]
    assert transactions[-1][0] == storage.lastTransaction()
    records = [record for _, found in transactions for record in found]
    assert records[-1].oid == z64 and records[-1].data_txn is not None
    serial = history[1]["tid"]
    assert storage.loadSerial(z64, serial)
    database.close()
    return "%d transactions, %d records" % (len(transactions), len(records))


def packs(server):
    """Packing while others work."""
    database = connect(server.address)
    stop, done = threading.Event(), []

    def work():
        mine = connect(server.address)
        while not stop.is_set():
            commit(mine, lambda root: root["names"].__setitem__("n%d" % len(done), len(done)))
            done.append(1)
        mine.close()

    writer = threading.Thread(target=work)
    writer.start()
    for _ in range(3):
        time.sleep(0.1)
        database.pack()
    stop.set()
    writer.join(WAIT)
    assert not writer.is_alive()
    assert read(database, lambda root: len(root["names"])) == len(done)
    database.close()
    return "3 packs beside %d commits" % len(done)


def kills(server):
    """kill -9 loses nothing that was acknowledged, and no oid is given out twice."""
    first, second = connect(server.address), connect(server.address)
    commit(first, lambda root: root.__setitem__("things", OOBTree()))
    rounds, made = 3, 0
    for turn in range(rounds):
        for database in (first, second):
            name = "%d-%s" % (turn, "first" if database is first else "second")
            commit(database, lambda root: root["things"].__setitem__(name, PersistentMapping(name=name)))
            made += 1
        server.process.kill()
        server.process.wait(WAIT)
        server.process.stdout.close()
        server.start()
        for database in (first, second):
            deadline = time.monotonic() + 30
            while not database.storage.is_connected():
                assert time.monotonic() < deadline, "it does not come back"
                time.sleep(0.05)
    # Oids that one client kept over the restart, and that the other was given after it.
    fresh = connect(server.address)
    for k in range(3):
        for n, database in enumerate((fresh, first, second)):
            name = "after-%d-%d" % (n, k)
            commit(database, lambda root: root["things"].__setitem__(name, PersistentMapping(name=name)))
            made += 1
    found = read(fresh, lambda root: {name: thing["name"] for name, thing in root["things"].items()})
    oids = read(fresh, lambda root: [u64(thing._p_oid) for thing in root["things"].values()])
    assert len(found) == made and all(name == said for name, said in found.items()), found
    assert len(set(oids)) == made, "two objects have one oid"
    for database in (first, second, fresh):
        database.close()
    return "%d kills, %d objects" % (rounds, made)


def caches(server, folder):
    """A cache on disk is verified when its client comes back."""
    os.makedirs(os.path.join(folder, "cache"), exist_ok=True)
    kept = dict(client="site", var=os.path.join(folder, "cache"), cache_size=1 << 20)
    database = connect(server.address, **kept)
    commit(database, lambda root: root.__setitem__("cached", PersistentMapping(n=1)))
    assert read(database, lambda root: root["cached"]["n"]) == 1
    database.close()
    other = connect(server.address)
    commit(other, lambda root: root["cached"].__setitem__("n", 2))
    other.close()
    server.end()
    server.start()
    database = connect(server.address, **kept)
    assert read(database, lambda root: root["cached"]["n"]) == 2
    result = database.storage._cache and "a change that it had missed"
    database.close()
    return result


def read_only(server):
    """Clients who only read."""
    storage = ClientStorage(server.address, wait_timeout=WAIT, read_only=True)
    database = DB(storage)
    assert storage.isReadOnly()
    assert read(database, lambda root: len(root)) > 0
    try:
        storage.new_oid()
    except ReadOnlyError:
        pass
    else:
        raise AssertionError("it writes")
    database.close()
    return "no oid, no write"


def older(vellum, folder, codec):
    """A server that was restored from a backup is older than its client's cache."""
    file = os.path.join(folder, "older.fs")
    kept = dict(client="older", var=folder)
    with Server(vellum, file, codec) as server:
        database = connect(server.address, **kept)
        commit(database, lambda root: root.__setitem__("n", 1))
        server.end()
        with open(file, "rb") as backup:
            saved = backup.read()
        server.start()
        database.close()
        database = connect(server.address, **kept)
        commit(database, lambda root: root.__setitem__("n", 2))
        database.close()
        server.end()
        with open(file, "wb") as restored:
            restored.write(saved)
        os.remove(file + ".index")
        server.start()
        try:
            ClientStorage(server.address, wait_timeout=2, **kept)
        except ClientDisconnected:
            return "the client refuses"
        raise AssertionError("the client believes its cache")


def sockets(vellum, folder, codec):
    """A Unix socket."""
    path = os.path.join(folder, "zeo.sock")
    with Server(vellum, os.path.join(folder, "unix.fs"), codec, path) as server:
        database = connect(path)
        commit(database, lambda root: root.__setitem__("n", 1))
        database.close()
        assert server.end() == 0
        assert not os.path.exists(path)
    return "served and removed"


def believing(folder, *certificate):
    """How a client speaks TLS that believes the server, and shows a certificate or none."""
    context = ssl.create_default_context(cafile=os.path.join(folder, "server.pem"))
    if certificate:
        context.load_cert_chain(*(os.path.join(folder, name) for name in certificate))
    return context


def tls(vellum, folder, codec):
    """A client with a certificate that is believed is served, and no other one, also after certificates were read again."""
    names = ["--tls-certificate", "server.pem", "--tls-key", "server.key", "--tls-authenticate", "client.pem"]
    options = [name if name.startswith("--") else os.path.join(folder, name) for name in names]
    with Server(vellum, os.path.join(folder, "tls.fs"), codec, "127.0.0.1:0", *options) as server:
        known = dict(ssl=believing(folder, "client.pem", "client.key"), ssl_server_hostname="localhost")
        database = connect(server.address, **known)
        commit(database, lambda root: root.__setitem__("n", 1))
        refused = [
            dict(ssl=believing(folder), ssl_server_hostname="localhost"),
            dict(ssl=believing(folder, "server.pem", "server.key"), ssl_server_hostname="localhost"),
            dict(),
        ]
        for stranger in refused:
            try:
                ClientStorage(server.address, wait_timeout=1, **stranger)
            except ClientDisconnected:
                continue
            raise AssertionError("a stranger got in: %r" % stranger)
        server.process.send_signal(signal.SIGHUP)
        commit(database, lambda root: root.__setitem__("n", 2))
        database.close()
        database = connect(server.address, **known)
        assert read(database, lambda root: root["n"]) == 2
        database.close()
        assert server.end() == 0
    return "%d kinds of strangers were refused" % len(refused)


def compressed(vellum, folder, codec):
    """zc.zlibstorage on the server; and in the clients, with its counterpart on the server."""
    shown = []
    for layer, wrap in (("zlibstorage", lambda storage: storage), ("serverzlibstorage", ZlibStorage)):
        path, conf = os.path.join(folder, layer + ".fs"), os.path.join(folder, layer + ".conf")
        with open(conf, "w") as file:
            file.write(
                f"%import zc.zlibstorage\n<zeo>\n  address 127.0.0.1:0\n</zeo>\n"
                f"<{layer}>\n  <filestorage>\n    path {path}\n  </filestorage>\n</{layer}>\n"
            )
        with Server(vellum, "--config=" + conf, codec) as server:

            def client():
                return DB(wrap(ClientStorage(server.address, wait_timeout=WAIT, server_sync=True)))

            first = client()
            commit(first, lambda root: root.__setitem__("tree", OOBTree({"a": "a" * 500})))
            for letter in "xyz":
                commit(first, lambda root: root["tree"].__setitem__(letter, letter * 500))
            others = [client() for _ in range(2)]
            # Both have read the same, and the second one comes too late.
            managers = [transaction.TransactionManager() for _ in others]
            connections = [database.open(manager) for database, manager in zip(others, managers)]
            for connection, letter in zip(connections, "bc"):
                connection.root()["tree"][letter] = letter * 500
            for manager, connection in zip(managers, connections):
                manager.commit()
                connection.close()
            keys = ["a", "b", "c", "x", "y", "z"]
            assert read(first, lambda root: sorted(root["tree"])) == keys
            undone = first.undoLog(0, 10)[2]["id"]
            manager = transaction.TransactionManager()
            first.undo(undone, manager.get())
            manager.commit()
            keys.remove("z")
            first.pack()
            others.append(client())
            for database in (first, others[-1]):
                values = read(database, lambda root: dict(root["tree"]))
                assert sorted(values) == keys and all(values[key] == key * 500 for key in keys), values
            for database in (first, *others):
                database.close()
            assert server.end() == 0
        # Below the layer: every long record is compressed, the merged one too.
        storage = FileStorage(path, read_only=True)
        forms = [record.data[:2] == b".z" for records in storage.iterator() for record in records if record.data]
        data = storage.load(p64(1))[0]
        storage.close()
        assert data[:2] == b".z" and len(data) < 500, data
        database = DB(ZlibStorage(FileStorage(path, read_only=True)))
        assert read(database, lambda root: sorted(root["tree"])) == keys
        database.close()
        shown.append(f"{layer}: {sum(forms)} of {len(forms)} records compressed, 1 merged, 1 undone by merging")
    return ", ".join(shown)


def main():
    logging.disable(logging.CRITICAL)
    vellum, folder, codec, version = sys.argv[1:]
    assert metadata.version("ZEO") == version, metadata.version("ZEO")
    with Server(vellum, os.path.join(folder, "Data.fs"), codec) as server:
        shown = [
            ("processes", processes(server)),
            ("past", past(server)),
            ("packs", packs(server)),
            ("kills", kills(server)),
            ("caches", caches(server, folder)),
            ("read only", read_only(server)),
        ]
        assert server.end() == 0
    shown.append(("older", older(vellum, folder, codec)))
    shown.append(("sockets", sockets(vellum, folder, codec)))
    shown.append(("tls", tls(vellum, folder, codec)))
    shown.append(("compressed", compressed(vellum, folder, codec)))
    for name, what in shown:
        print("%s: %s" % (name, what))


if __name__ == "__main__":
    main()
