#!/usr/bin/env bash
# ZODB 6.4. The creation of an object is undone while the root refers to it; later that reference is removed. A pack to a time
# between the two fails, although the file has the record that says that the object is gone.
#
# Expected: the database is packed.
# Seen: KeyError: b'\x00\x00\x00\x00\x00\x00\x00\x01'
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import time
import transaction
import ZODB
from persistent.mapping import PersistentMapping

db = ZODB.DB("Data.fs")
connection = db.open()
page = PersistentMapping()
connection.add(page)
transaction.commit()
made = db.undoLog(0, 1)[0]["id"]
connection.root()["page"] = page
transaction.commit()
db.undo(made)
transaction.commit()
time.sleep(0.01)
pack_time = time.time()
time.sleep(0.01)
connection.sync()
del connection.root()["page"]
transaction.commit()
try:
    db.pack(pack_time)
    print("packed")
except KeyError as error:
    print("KeyError:", error)
PYTHON
)
saw "a pack fails at a reference that led to no object at its time" "$output" "^KeyError: "
