#!/usr/bin/env bash
# ZODB 6.4. The creation of an object is undone, and later that undo is undone. A pack to a time between the two keeps the
# revision that the second undo points to, and forgets the first undo. A connection to that time then shows an object that was not
# there.
#
# Expected: at the time of the pack there was no page, before the pack and after it.
# Seen: before the pack: no page; after it: {'text': 'hello'}
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import time
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.POSException import POSKeyError

def undo_last(db):
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()

def page(db, oid, at):
    connection = db.open(transaction.TransactionManager(), at=at)
    try:
        return dict(connection.get(oid))
    except POSKeyError:
        return "no page"
    finally:
        connection.close()

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["page"] = PersistentMapping(text="hello")
with db.transaction() as connection:
    oid = connection.root()["page"]._p_oid
undo_last(db)
at = db.storage.lastTransaction()
time.sleep(0.01)
pack_time = time.time()
time.sleep(0.01)
undo_last(db)
before = page(db, oid, at)
db.pack(pack_time)
db.close()
print(f"before the pack: {before}; after it: {page(ZODB.DB('Data.fs'), oid, at)}")
PYTHON
)
saw "a pack makes an object appear in the past" "$output" "before the pack: no page; after it: \{'text': 'hello'\}"
