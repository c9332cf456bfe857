#!/usr/bin/env bash
# ZODB 6.4. A pack without collection is followed by one with collection. The second one does nothing: all is marked as packed, and
# the mark does not say whether garbage was collected. Only the log says so, at the level INFO.
#
# Expected: the second pack frees 100,000 bytes of garbage.
# Seen: 100,594 bytes; packed without collection 100,297; then with collection 100,297
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import time
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.serialize import referencesf

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["big"] = PersistentMapping(text="x" * 100_000)
with db.transaction() as connection:
    del connection.root()["big"]
time.sleep(0.01)
sizes = [db.storage.getSize()]
for collect in (False, True):
    db.storage.pack(time.time(), referencesf, gc=collect)
    sizes.append(db.storage.getSize())
print("{:,} bytes; packed without collection {:,}; then with collection {:,}".format(*sizes))
PYTHON
)
saw "a pack with collection does nothing after one without" "$output" "; then with collection 100,[0-9]{3}$"
