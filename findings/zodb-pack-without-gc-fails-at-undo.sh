#!/usr/bin/env bash
# ZODB 6.4. `pack_gc=False` is the setting for databases that refer to each other. With it, a pack to a time between a change and
# its undo removes the revision that the undo points to, and fails when it copies the undo. It leaves a `Data.fs.pack`.
#
# Expected: the database is packed.
# Seen: PackError: Invalid backpointer transaction id; left behind: ['Data.fs.pack']
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import glob
import time
import transaction
import ZODB
from ZODB.FileStorage import FileStorage

db = ZODB.DB(FileStorage("Data.fs", pack_gc=False))
for number in range(3):
    with db.transaction() as connection:
        connection.root()["number"] = number
time.sleep(0.01)
pack_time = time.time()
time.sleep(0.01)
db.undo(db.undoLog(0, 1)[0]["id"])
transaction.commit()
try:
    db.pack(pack_time)
    print("packed")
except Exception as error:
    print(f"{type(error).__name__}: {error}; left behind: {glob.glob('*.pack')}")
PYTHON
)
saw "a pack without collection fails at an undo" "$output" "^PackError: .*left behind: \['Data.fs.pack'\]"
