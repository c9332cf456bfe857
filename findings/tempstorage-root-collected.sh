#!/usr/bin/env bash
# tempstorage 6.0. It counts references, and frees an object when its count goes to zero. The root is to be left out of that, but it is
# compared with text, which no oid is. So when the last object that refers to the root stops to, the root is freed: the database has no
# root, and nothing in it can be reached.
#
# Seen: before ['child'] / after KeyError
. "$(dirname "$0")/common.inc"
install ZODB==6.4 tempstorage==6.0
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from tempstorage.TemporaryStorage import TemporaryStorage

storage = TemporaryStorage()
db = ZODB.DB(storage)
with db.transaction() as connection:
    root = connection.root()
    root["child"] = PersistentMapping(parent=root)
print("before", sorted(db.open(transaction.TransactionManager()).root()))
with db.transaction() as connection:
    del connection.root()["child"]["parent"]
try:
    storage.load(bytes(8))
    print("after, it is there")
except Exception as error:
    print("after", "KeyError" if "KeyError" in type(error).__name__ else type(error).__name__)
PYTHON
)
saw "the root of a temporary storage is freed" "$(tr '\n' ' ' <<<"$output")" "before \['child'\] after (KeyError|ConflictError)"
