#!/usr/bin/env bash
# ZODB 6.4. `restore` takes a record's data and a hint: a transaction that may have the same data. If the record of that transaction
# is an undo's, which points to older data, ZODB drops the data that it was given and points there, too, without comparing.
#
# Expected: b'three' is restored and read.
# Seen: restored b'three', read b'one'
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import base64
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, u64, z64

def commit(storage, change):
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    change(meta)
    storage.tpc_vote(meta)
    return storage.tpc_finish(meta)

storage = FileStorage("Data.fs")
first = commit(storage, lambda meta: storage.store(z64, z64, b"one", "", meta))
second = commit(storage, lambda meta: storage.store(z64, first, b"two", "", meta))
undone = commit(storage, lambda meta: storage.undo(base64.b64encode(second), meta))
tid = p64(u64(undone) + 1)
meta = TransactionMetaData()
storage.tpc_begin(meta, tid)
storage.restore(z64, tid, b"three", "", undone, meta)
storage.tpc_vote(meta)
storage.tpc_finish(meta)
print("restored b'three', read", storage.load(z64)[0])
PYTHON
)
saw "other data is read than was restored" "$output" "restored b'three', read b'one'"
