#!/usr/bin/env bash
# ZODB 6.4. `record_iternext` walks over all objects. At an object whose creation was undone it raises `POSKeyError`, and the walk
# cannot go on, because the next oid was to come with the answer.
#
# Expected: the walk shows the objects 0 and 2.
# Seen: the walk shows [0], POSKeyError: 0x01
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.POSException import POSKeyError
from ZODB.utils import u64

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["one"] = PersistentMapping()
db.undo(db.undoLog(0, 1)[0]["id"])
transaction.commit()
with db.transaction() as connection:
    connection.root()["two"] = PersistentMapping()
seen, following, end = [], None, "the end"
while True:
    try:
        oid, _, _, following = db.storage.record_iternext(following)
    except POSKeyError as error:
        end = f"POSKeyError: {error}"
        break
    seen.append(u64(oid))
    if following is None:
        break
print(f"the walk shows {seen}, {end}")
PYTHON
)
saw "a walk over all records ends at an undone creation" "$output" "the walk shows \[0\], POSKeyError"
