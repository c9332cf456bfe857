"""Real ZEO clients with blobs, and `vellum serve`.

    blob_clients.py VELLUM FOLDER CODEC VERSION

does with blobs what a site's clients do, with transfers and with a shared folder: creates, reads, changes, undoes, packs,
exports; several processes at once.  ZODB's own FileStorage then opens what they left, and goes on with it; and the server what
ZODB made.  Prints a line for each thing that was looked at, and fails at the first that is wrong.
"""

import hashlib
import io
import multiprocessing
import os
import random
import shutil
import sys
import time
from importlib import metadata

import transaction
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, POSKeyError
from ZODB.utils import p64, z64

from clients import WAIT, Server

PROCESSES = 4
BLOBS = 6


def connect(server, folder, shared, name):
    """A client with a cache of its own, or with the server's folder."""
    blobs = os.path.join(folder, "blobs") if shared else os.path.join(folder, "cache-%s" % name)
    return DB(ClientStorage(server.address, wait_timeout=WAIT, server_sync=True, blob_dir=blobs, shared_blob_dir=shared))


def write(blob, data):
    with blob.open("w") as file:
        file.write(data)


def read(blob):
    with blob.open() as file:
        return file.read()


def files(folder):
    """All blobs, and what is on its way."""
    found = [os.path.join(at, name) for at, _, names in os.walk(os.path.join(folder, "blobs")) for name in names]
    found = [path for path in found if not path.endswith(".layout")]
    return [path for path in found if path.endswith(".blob")], [path for path in found if not path.endswith(".blob")]


def life(server, folder, shared):
    """The life of a blob, seen by two clients."""
    ann, bob = (connect(server, folder, shared, name) for name in ["ann", "bob"])
    one, two = ann.open(), bob.open()
    blob = one.root()["blob"] = Blob()
    large = random.Random(7).randbytes(3_000_000)
    write(blob, large)
    transaction.commit()
    two.sync()
    assert read(two.root()["blob"]) == large
    write(blob, b"second")
    one.root()["empty"] = Blob()
    transaction.commit()
    two.sync()
    assert read(two.root()["blob"]) == b"second" and read(two.root()["empty"]) == b""
    # The record is stored once, though the client sends it twice.
    oids = [record.oid for records in ann.storage.iterator(ann.storage.lastTransaction()) for record in records]
    assert len(oids) == len(set(oids)) == 3, oids

    # What is given up leaves nothing.
    before = files(folder)
    for how in ["abort", "savepoint"]:
        write(blob, b"given up")
        if how == "savepoint":
            transaction.savepoint()
        transaction.abort()
    assert read(blob) == b"second"
    late = two.root()["blob"]
    two.transaction_manager.abort()
    manager = transaction.TransactionManager()
    other = bob.open(manager)
    write(other.root()["blob"], b"bob's")
    write(blob, b"third")
    transaction.commit()
    try:
        manager.commit()
        raise AssertionError("there is no conflict")
    except ConflictError:
        manager.abort()
    other.sync()
    assert read(other.root()["blob"]) == b"third"
    other.close()
    assert len(files(folder)[0]) == len(before[0]) + 1, files(folder)

    # An undo brings the bytes back.
    ann.undo(ann.undoLog(0, 1)[0]["id"])
    transaction.commit()
    two.sync()
    one.sync()
    assert read(blob) == read(late) == b"second"

    # An export and an import bring the bytes along.
    exported = one.exportFile(blob._p_oid, io.BytesIO())
    exported.seek(0)
    one.root()["copy"] = one.importFile(exported)
    transaction.commit()
    two.sync()
    assert read(two.root()["copy"]) == b"second"

    # A pack takes away what is not current; its files go, too.
    count = len(files(folder)[0])
    time.sleep(0.1)
    ann.pack(time.time())
    assert len(files(folder)[0]) == 3 < count, files(folder)
    assert read(blob) == b"second" and read(two.root()["copy"]) == b"second"
    first = p64(1)
    if not shared:
        shutil.rmtree(os.path.join(folder, "cache-bob"))
    bob.close()
    bob = connect(server, folder, shared, "bob")
    assert read(bob.open().root()["blob"]) == b"second"
    try:
        bob.storage.loadBlob(blob._p_oid, first)
        raise AssertionError("there is a blob of no revision")
    except POSKeyError:
        pass
    ann.close()
    bob.close()


def work(address, folder, shared, number, errors):
    """A process that stores blobs of its own and reads those of the others."""
    try:
        server = type("Server", (), {"address": address})
        database = connect(server, folder, shared, "process%d" % number)
        dice = random.Random(number)
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        for n in range(BLOBS):
            for attempt in manager.attempts(50):
                with attempt:
                    mine = connection.root()["all"][number]
                    mine[n] = blob = Blob()
                    data = dice.randbytes(dice.choice([0, 10, 59_000, 400_000]))
                    write(blob, hashlib.sha256(data).digest() + data)
            manager.begin()
            for theirs in connection.root()["all"].values():
                for blob in list(theirs.values()):
                    data = read(blob)
                    assert hashlib.sha256(data[32:]).digest() == data[:32], "the bytes of another blob"
        connection.close()
        database.close()
    except BaseException as error:
        errors.put("%d: %r" % (number, error))
        raise


def together(server, folder, shared):
    """Several processes at once."""
    database = connect(server, folder, shared, "ann")
    with database.transaction() as connection:
        connection.root()["all"] = PersistentMapping({n: PersistentMapping() for n in range(PROCESSES)})
    errors = multiprocessing.Queue()
    running = [
        multiprocessing.Process(target=work, args=(server.address, folder, shared, number, errors))
        for number in range(PROCESSES)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert all(process.exitcode == 0 for process in running), errors.get(timeout=1)
    with database.transaction() as connection:
        count = check_all(connection)
    database.close()
    return count


def store_for_ever(address, folder):
    """A process that stores a blob that does not end soon."""
    database = connect(type("Server", (), {"address": address}), folder, False, "killed")
    with database.transaction() as connection:
        blob = connection.root()["never"] = Blob()
        with blob.open("w") as file:
            file.truncate(2 << 30)


def killed(server, folder):
    """A client that is killed while it sends a blob leaves nothing."""
    seen = 0
    for _ in range(3):
        process = multiprocessing.Process(target=store_for_ever, args=(server.address, folder))
        process.start()
        until = time.monotonic() + WAIT
        while not (sizes := [os.stat(path).st_size for path in files(folder)[1]]) or max(sizes) < 1 << 20:
            assert time.monotonic() < until and process.is_alive(), "nothing comes of it"
            time.sleep(0.01)
        process.kill()
        process.join()
        seen += 1
        while files(folder)[1]:
            assert time.monotonic() < until, files(folder)[1]
            time.sleep(0.01)
        shutil.rmtree(os.path.join(folder, "cache-killed"))
    database = connect(server, folder, False, "after")
    with database.transaction() as connection:
        assert "never" not in connection.root()
    database.close()
    return seen


def outside(server, folder):
    """A name that leads out of the shared folder is refused, and nothing there is touched."""
    evil = os.path.join(folder, "evil.tmp")
    with open(evil, "w") as file:
        file.write("mine")
    database = connect(server, folder, True, "ann")
    storage = database.storage
    of_root = storage.fshelper.getPathForOID(p64(0), create=True)
    os.symlink(evil, os.path.join(of_root, "link.tmp"))
    tried = ["../../../../../../../../../evil.tmp", evil, "link.tmp", "none.tmp", "..", "", "a\0.tmp", ".layout", 7, None]
    for name in tried:
        metadata = TransactionMetaData()
        serial = storage.lastTransaction()
        try:
            storage.tpc_begin(metadata)
            record = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N."
            storage._async("storeBlobShared", p64(99), z64, record, name, id(metadata))
            storage.tpc_vote(metadata)
            raise AssertionError("%r is taken" % name)
        except AssertionError:
            raise
        except Exception:
            try:
                storage.tpc_abort(metadata)
            except Exception:
                pass
        until = time.monotonic() + WAIT
        while not storage.is_connected():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert storage.lastTransaction() == serial
    with open(evil) as file:
        assert file.read() == "mine"
    os.remove(os.path.join(of_root, "link.tmp"))
    database.close()
    return len(tried)


def check_all(connection):
    """Every blob has the bytes that were written."""
    count = 0
    for theirs in connection.root()["all"].values():
        for blob in theirs.values():
            data = read(blob)
            assert hashlib.sha256(data[32:]).digest() == data[:32]
            count += 1
    assert count == PROCESSES * BLOBS, count
    return count


def by_zodb(folder):
    """ZODB opens what the server left, and goes on with it."""
    database = DB(FileStorage(os.path.join(folder, "Data.fs"), blob_dir=os.path.join(folder, "blobs")))
    with database.transaction() as connection:
        check_all(connection)
        blob = connection.root()["by ZODB"] = Blob()
        write(blob, b"by ZODB")
        write(connection.root()["blob"], b"changed by ZODB")
    with database.transaction() as connection:
        changed = connection.root()["blob"]._p_serial
    database.pack()
    database.close()
    return changed


def made_by_zodb(vellum, folder, codec, layout):
    """The server opens what ZODB made."""
    os.makedirs(folder)
    blobs = os.path.join(folder, "blobs")
    os.mkdir(blobs)
    with open(os.path.join(blobs, ".layout"), "w") as marker:
        marker.write(layout)
    path = os.path.join(folder, "Data.fs")
    open(path, "w").close()
    database = DB(FileStorage(path, blob_dir=blobs))
    for n in range(5):
        with database.transaction() as connection:
            blob = connection.root().setdefault("blob", Blob())
            write(blob, b"%d" % n * 1000)
    database.close()
    for shared in [False, True]:
        with Server(vellum, path, codec, "127.0.0.1:0", "--blobs", blobs) as server:
            database = connect(server, folder, shared, "ann")
            with database.transaction() as connection:
                blob = connection.root()["blob"]
                assert read(blob) == b"4" * 1000 or shared
                write(blob, b"by a client")
            for line in database.history(blob._p_oid, 10)[1:3]:
                with open(database.storage.loadBlob(blob._p_oid, line["tid"]), "rb") as file:
                    assert file.read() in [b"4" * 1000, b"3" * 1000, b"by a client"]
            database.close()
            assert server.end() == 0
    with DB(FileStorage(path, blob_dir=blobs)).transaction() as connection:
        assert read(connection.root()["blob"]) == b"by a client"


def main(vellum, folder, codec, version):
    assert metadata.version("ZEO") == version, metadata.version("ZEO")
    for shared in [False, True]:
        place = os.path.join(folder, "shared" if shared else "transfers")
        os.makedirs(place)
        more = ["--blobs", os.path.join(place, "blobs")]
        with Server(vellum, os.path.join(place, "Data.fs"), codec, "127.0.0.1:0", *more) as server:
            life(server, place, shared)
            count = together(server, place, shared)
            refused = outside(server, place) if shared else killed(server, place)
            left = files(place)[1]
            assert not left, "on its way for ever: %s" % left
            assert server.end() == 0
        by_zodb(place)
        with Server(vellum, os.path.join(place, "Data.fs"), codec, "127.0.0.1:0", *more) as server:
            database = connect(server, place, shared, "again")
            with database.transaction() as connection:
                check_all(connection)
                assert read(connection.root()["by ZODB"]) == b"by ZODB"
                assert read(connection.root()["blob"]) == b"changed by ZODB"
            database.close()
            assert server.end() == 0
        print("%s: a blob's life, %d blobs by %d processes, %d %s, ZODB and back" % (
            "shared folder" if shared else "transfers", count, PROCESSES,
            refused, "names that lead out" if shared else "clients killed"))
    for layout in ["bushy", "lawn"]:
        made_by_zodb(vellum, os.path.join(folder, layout), codec, layout)
    print("folders that ZODB made, bushy and lawn")


if __name__ == "__main__":
    main(*sys.argv[1:])
