#!/usr/bin/env bash
# ZODB 6.4. A file in which all transactions are empty, and have 96 bytes or more together, cannot be opened again while its index
# is there: the check of the index walks back past the beginning of the file. Without the index it can be opened.
#
# Expected: the file can be opened with its index.
# Seen: with the index: OSError: [Errno 22] Invalid argument
#       without the index: opened
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import os
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage

def opened():
    try:
        FileStorage("Data.fs").close()
        return "opened"
    except OSError as error:
        return f"OSError: {error}"

storage = FileStorage("Data.fs")
meta = TransactionMetaData("ann", "The first entry of a log that has each step, also if no object changed")
storage.tpc_begin(meta)
storage.tpc_vote(meta)
storage.tpc_finish(meta)
storage.close()
print("with the index:", opened())
os.remove("Data.fs.index")
print("without the index:", opened())
PYTHON
)
saw "a file of empty transactions cannot be opened with its index" "$output" "^with the index: OSError" "^without the index: opened"
