#!/usr/bin/env bash
# ZODB 6.4. After a crash between the two phases of a commit, ZODB cuts off the unfinished transaction when it opens the file, and
# `lastTransaction` names that one all the same. The next opening gets it right.
#
# Expected: `lastTransaction` is in the file, and the same after the storage was opened again.
# Seen: the last transaction is in the file: False; the same when opened again: False
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import shutil
import ZODB
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["kept"] = 1
meta = TransactionMetaData()
db.storage.tpc_begin(meta)
db.storage.store(p64(1), z64, b"lost", "", meta)
db.storage.tpc_vote(meta)
shutil.copy("Data.fs", "Crash.fs")  # The disk has this if the machine stops now.
db.storage.tpc_abort(meta)
db.close()

storage = FileStorage("Crash.fs")
last = storage.lastTransaction()
there = last in [transaction.tid for transaction in storage.iterator()]
storage.close()
again = FileStorage("Crash.fs").lastTransaction()
print(f"the last transaction is in the file: {there}; the same when opened again: {last == again}")
PYTHON
)
saw "lastTransaction names a transaction that was lost in a crash" "$output" "file: False; the same when opened again: False"
