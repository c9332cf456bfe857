#!/usr/bin/env bash
# ZODB 6.4. FileStorage moves a blob's file to its place at the store, before the vote. If the transaction ends before its vote, as by
# a conflict on another object, the file stays: no revision has it, and no pack removes it. Each such upload takes its space for good.
#
# Seen: commit ConflictError / files before 1, after 2, after a pack 2
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import time
from pathlib import Path

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

db = ZODB.DB(FileStorage("Data.fs", blob_dir="blobs"))
with db.transaction() as connection:
    connection.root()["upload"] = Blob(b"first")
    connection.root()["page"] = PersistentMapping()

def files():
    return len(list(Path("blobs").rglob("*.blob")))

mine, other = transaction.TransactionManager(), transaction.TransactionManager()
root, others = db.open(mine).root(), db.open(other).root()
before = files()
with root["upload"].open("w") as file:
    file.write(b"second")
root["page"]["title"] = "mine"
others["page"]["title"] = "the other's"
other.commit()
try:
    mine.commit()
except ConflictError as error:
    print("commit", type(error).__name__)
mine.abort()
after = files()
time.sleep(0.1)
db.pack()
print(f"files before {before}, after {after}, after a pack {files()}")
db.close()
PYTHON
)
saw "an aborted upload leaves the blob's file" "$(tr '\n' ' ' <<<"$output")" "commit ConflictError files before 1, after 2, after a pack 2"
