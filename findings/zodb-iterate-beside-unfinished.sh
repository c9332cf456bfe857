#!/usr/bin/env bash
# ZODB 6.4. A reader opens the file while the end of it is an unfinished transaction: a writer is at work, or a crash was. A walk
# over all transactions raises an error if less than a header is there. A walk from a given tid raises one in any case: it calls a
# method by a wrong name.
#
# Expected: 4 transactions and 1 transactions; the unfinished one does not count.
# Seen: 10 bytes: CorruptedDataError, AttributeError
#       1000 bytes: 4 transactions, AttributeError
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import os
import ZODB
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

def walk(**range):
    storage = FileStorage("Data.fs", read_only=True)
    try:
        return f"{len(list(storage.iterator(**range)))} transactions"
    except Exception as error:
        return type(error).__name__
    finally:
        storage.close()

db = ZODB.DB("Data.fs")
for number in range(3):
    with db.transaction() as connection:
        connection.root()["number"] = number
last, size = db.storage.lastTransaction(), db.storage.getSize()
meta = TransactionMetaData()
db.storage.tpc_begin(meta)
db.storage.store(p64(1), z64, b"y" * 100_000, "", meta)
db.storage.tpc_vote(meta)
with open("Data.fs", "rb") as file:
    unfinished = file.read()[size:]
db.storage.tpc_abort(meta)
db.close()
for length in (10, 1000):  # Within the header of the transaction, and in its first record.
    os.truncate("Data.fs", size)
    with open("Data.fs", "ab") as file:
        file.write(unfinished[:length])
    print(f"{length} bytes: {walk()}, {walk(start=last)}")
PYTHON
)
saw "a walk fails at an unfinished transaction" "$output" \
    "^10 bytes: CorruptedDataError, AttributeError" "^1000 bytes: 4 transactions, AttributeError"
