#!/usr/bin/env bash
# ZEO 6.2. A database is restored from a backup, and somebody commits before a client with a kept cache comes back. That client knows
# a transaction that the database does not have. The server is not behind it any more, so it is let in. The server answers with
# what was changed since that time, and the client shows an object from its cache that the database never had. Its own change
# of the object is a conflict, each time.
#
# Expected: the client drops its cache, or refuses the server, as it does if nobody commits in between.
# Seen: the database says: 'before the backup'; the client says: 'after the backup'
#       a change of it by this client: ConflictError
. "$(dirname "$0")/common.inc"
install ZODB==6.4 ZEO==6.2
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging, os, shutil, socket, subprocess, sys, time
logging.disable(logging.CRITICAL)
import transaction
from ZEO.ClientStorage import ClientStorage
from ZODB.DB import DB
from ZODB.POSException import ConflictError
from persistent.mapping import PersistentMapping

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = "127.0.0.1", free.getsockname()[1]

def start():
    command = [sys.executable, "-m", "ZEO.runzeo", "-a", "127.0.0.1:%d" % address[1], "-f", "Data.fs"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(address, 1).close()
            return server
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not listen")

def stop(server):
    server.kill()
    server.wait()

def opened(**options):
    return DB(ClientStorage(address, wait_timeout=20, **options))

def change(connection, name, text):
    connection.root()[name]["text"] = text
    transaction.commit()

kept = dict(client="kept", var=os.getcwd())
server = start()
try:
    db = opened(**kept)
    connection = db.open()
    for name in "page", "other":
        connection.root()[name] = PersistentMapping()
    change(connection, "page", "before the backup")
    shutil.copy("Data.fs", "backup.fs")
    change(connection, "page", "after the backup")
    db.close()
    stop(server)

    shutil.copy("backup.fs", "Data.fs")
    for name in "Data.fs.index", "Data.fs.lock":
        if os.path.exists(name):
            os.remove(name)
    server = start()
    db = opened()
    connection = db.open()
    change(connection, "other", "by somebody else")
    truth = connection.root()["page"]["text"]
    db.close()

    db = opened(**kept)
    connection = db.open()
    print("the database says: %r; the client says: %r" % (truth, connection.root()["page"]["text"]))
    try:
        change(connection, "page", "of this client")
        print("a change of it by this client: accepted")
    except ConflictError as error:
        transaction.abort()
        print("a change of it by this client:", type(error).__name__)
    db.close()
finally:
    stop(server)
PYTHON
)
saw "a client shows what a restored database never had" "$output" \
    "database says: 'before the backup'; the client says: 'after the backup'" "by this client: ConflictError"
