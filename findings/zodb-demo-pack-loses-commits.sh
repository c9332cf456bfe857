#!/usr/bin/env bash
# ZODB 6.4. A demo storage with changes of its own packs those by themselves: it follows references from the root, and takes each
# object out of the changes as it meets it. An object that is only in the base ends that with `KeyError`. The objects that were out
# by then are not put back. So `DB.pack()` fails, and a commit that was there before it is gone after it.
#
# Seen: before ['a', 'new'] / KeyError / after ['a']
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["a"] = PersistentMapping()
db.close()

demo = DemoStorage(base=FileStorage("Data.fs", read_only=True))
db = ZODB.DB(demo)
with db.transaction() as connection:
    connection.root()["new"] = 1

def names():
    connection = ZODB.DB(demo).open(transaction.TransactionManager())
    return sorted(connection.root())

print("before", names())
try:
    db.pack()
except KeyError as error:
    print(type(error).__name__)
print("after", names())
PYTHON
)
saw "the pack of a demo storage drops a commit" "$(tr '\n' ' ' <<<"$output")" "before \['a', 'new'\] KeyError after \['a'\]"
