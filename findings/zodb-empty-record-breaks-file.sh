#!/usr/bin/env bash
# ZODB 6.4. FileStorage accepts a record of no bytes, and writes the length 0 for it. A reader takes the length 0 for a backpointer
# of eight bytes, and looks for the next record eight bytes too late. Without the index, which can be lost without harm, the file
# cannot be opened.
#
# Expected: the empty record is refused, or the file can still be opened.
# Seen: accepted; opening the file: ValueError: Non-zero version length. Versions aren't supported.
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import os
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

def commit(storage, *records):
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    for oid, data in records:
        storage.store(oid, z64, data, "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)

storage = FileStorage("Data.fs")
commit(storage, (z64, b"before"))
try:
    commit(storage, (p64(1), b""), (p64(2), b"after"))
    print("accepted; ", end="")
except Exception as error:
    print("refused; ", end="")
storage.close()
os.remove("Data.fs.index")
try:
    FileStorage("Data.fs").close()
    print("the file can be opened")
except Exception as error:
    print(f"opening the file: {type(error).__name__}: {error}")
PYTHON
)
saw "an empty record is accepted and breaks the file" "$output" "^accepted; opening the file: [A-Za-z]*Error"
