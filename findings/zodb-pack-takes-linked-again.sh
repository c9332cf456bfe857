#!/usr/bin/env bash
# ZODB 6.4. A pack with collection asks which objects the root reached at its time. It does not ask which objects the records after
# that time refer to. A document is cut before the time of the pack and pasted after it: the pack keeps the folder that refers to
# it, and removes the document. If the document was also changed in between, the pack keeps the change and removes the state before
# it; an undo of the change then succeeds and leaves no object.
#
# Expected: the document is still there, and the undo gives back its text.
# Seen: cut and pasted: POSKeyError: 0x01
#       cut, changed and pasted: 'hello, world', and after an undo of the change POSKeyError: 0x01
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

def text(db):
    connection = db.open(transaction.TransactionManager())
    try:
        return repr(connection.root()["document"]["text"])
    except POSKeyError as error:
        return f"POSKeyError: {error}"

def cut_and_pasted(name, change):
    db = ZODB.DB(name)
    connection = db.open()
    root = connection.root()
    root["document"] = PersistentMapping(text="hello")
    transaction.commit()
    document = root.pop("document")
    transaction.commit()
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)
    undo = None
    if change:
        document["text"] = "hello, world"
        transaction.commit()
        undo = db.undoLog(0, 1)[0]["id"]
    root["document"] = document
    transaction.commit()
    connection.close()
    db.pack(pack_time)
    db.close()
    return ZODB.DB(name), undo

db, _ = cut_and_pasted("Cut.fs", change=False)
print("cut and pasted:", text(db))
db, change = cut_and_pasted("Changed.fs", change=True)
before = text(db)
db.undo(change)
transaction.commit()
print(f"cut, changed and pasted: {before}, and after an undo of the change {text(db)}")
PYTHON
)
saw "a pack removes what was linked again" "$output" \
    "^cut and pasted: POSKeyError" "pasted: 'hello, world', and after an undo of the change POSKeyError"
