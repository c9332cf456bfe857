#!/usr/bin/env bash
# ZODB 6.4. One transaction undoes several changes of an object, as Zope's undo form does with all that are marked. Another change
# follows, and an undo of that one. A pack to an earlier time then gives the object the state of a revision in between: where a
# transaction has several records of an object the packer takes the first, and the last one counts.
#
# Expected: the price is 100 before the pack and after it.
# Seen: the price was 100 before the pack, and is 0 after it
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import time
import transaction
import ZODB
from persistent.mapping import PersistentMapping

def price(db):
    with db.transaction() as connection:
        return connection.root()["item"]["price"]

def set_price(db, price):
    with db.transaction() as connection:
        connection.root()["item"]["price"] = price

def undo_last(db, count):
    db.undoMultiple([entry["id"] for entry in db.undoLog(0, count)])
    transaction.commit()

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["item"] = PersistentMapping(price=100)
    connection.root()["draft"] = PersistentMapping(text="x" * 1000)
with db.transaction() as connection:
    del connection.root()["draft"]  # Gives the pack something to free.
time.sleep(0.01)
pack_time = time.time()
time.sleep(0.01)
set_price(db, 0)
set_price(db, 1)
undo_last(db, 2)
set_price(db, 2)
undo_last(db, 1)
before = price(db)
db.pack(pack_time)
db.close()
print(f"the price was {before} before the pack, and is {price(ZODB.DB('Data.fs'))} after it")
PYTHON
)
saw "a pack changes what several undos gave back" "$output" "was 100 before the pack, and is 0 after it"
