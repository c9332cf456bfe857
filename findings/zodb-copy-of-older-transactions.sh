#!/usr/bin/env bash
# ZODB 6.4. `copyTransactionsFrom` accepts transactions that are older than the last one of the target. A new `DB` has a root
# already, so a copy of a database into a new `DB` is such a case. The last transaction goes back, and no pack succeeds after that.
#
# Expected: the older transactions are refused; or the database can still be packed.
# Seen: accepted; the last transaction went back; pack: CorruptedError
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import time
import ZODB

source = ZODB.DB("Source.fs")
with source.transaction() as connection:
    connection.root()["answer"] = 42
time.sleep(0.01)
copy = ZODB.DB("Copy.fs")
last = copy.storage.lastTransaction()
try:
    copy.storage.copyTransactionsFrom(source.storage)
    print("accepted; ", end="")
except Exception as error:
    print(f"refused: {type(error).__name__}; ", end="")
print("the last transaction", "went back; " if copy.storage.lastTransaction() < last else "did not go back; ", end="")
try:
    copy.pack()
    print("pack: done")
except Exception as error:
    print("pack:", type(error).__name__)
PYTHON
)
saw "a copy takes in older transactions, and ends all packs" "$output" "^accepted; the last transaction went back; pack: CorruptedError"
