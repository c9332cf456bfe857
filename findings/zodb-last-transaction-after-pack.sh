#!/usr/bin/env bash
# ZODB 6.4. A pack removes the last transaction if all that it wrote is garbage. `lastTransaction` names it until the storage is
# opened again, and names an older one after that. A ZEO client that has seen the newer tid is ahead of the server then.
#
# Expected: `lastTransaction` is in the file, and the same after the storage was opened again.
# Seen: the last transaction is in the file: False; the same when opened again: False
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import time
import ZODB
from persistent.mapping import PersistentMapping

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["kept"] = PersistentMapping()
with db.transaction() as connection:
    connection.add(PersistentMapping(text="no object refers to this"))
time.sleep(0.01)
db.pack(time.time())
last = db.storage.lastTransaction()
there = last in [transaction.tid for transaction in db.storage.iterator()]
db.close()
again = ZODB.DB("Data.fs").storage.lastTransaction()
print(f"the last transaction is in the file: {there}; the same when opened again: {last == again}")
PYTHON
)
saw "lastTransaction names a transaction that a pack removed" "$output" "file: False; the same when opened again: False"
