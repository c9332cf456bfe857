#!/usr/bin/env bash
# ZODB 6.4. A transaction removes a folder and empties it. Its undo brings back the folder and the letter in it. A pack to a time
# between the two keeps the folder, because the undo points to it, and removes the letter: it does not follow the references of a
# revision that only an undo needs.
#
# Expected: the letter says 'dear all' after the pack, too.
# Seen: before the pack 'dear all', after it POSKeyError: 0x02
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import time
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.POSException import POSKeyError

def letter(db):
    connection = db.open(transaction.TransactionManager())
    try:
        return repr(connection.root()["folder"]["letter"]["text"])
    except POSKeyError as error:
        return f"POSKeyError: {error}"

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["folder"] = PersistentMapping(letter=PersistentMapping(text="dear all"))
with db.transaction() as connection:
    connection.root().pop("folder").clear()
time.sleep(0.01)
pack_time = time.time()
time.sleep(0.01)
db.undo(db.undoLog(0, 1)[0]["id"])
transaction.commit()
before = letter(db)
db.pack(pack_time)
db.close()
print(f"before the pack {before}, after it {letter(ZODB.DB('Data.fs'))}")
PYTHON
)
saw "a pack removes a part of an object that an undo brought back" "$output" "before the pack 'dear all', after it POSKeyError"
