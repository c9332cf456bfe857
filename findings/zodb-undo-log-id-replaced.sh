#!/usr/bin/env bash
# ZODB 6.4. An application may note something about a transaction with `setExtendedInfo`. In the undo log a note with the name `id`
# replaces the id of the transaction, which is what `undo` needs. `time`, `user_name`, `description` and `size` are replaced likewise.
#
# Expected: the transaction can be undone with the id of the undo log.
# Seen: the id is 'order-17'; undo: TypeError
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import transaction
import ZODB

db = ZODB.DB("Data.fs")
connection = db.open()
connection.root()["total"] = 1
transaction.commit()
connection.root()["total"] = 2
transaction.get().setExtendedInfo("id", "order-17")
transaction.commit()
id = db.undoLog(0, 1)[0]["id"]
try:
    db.undo(id)
    transaction.commit()
    print(f"the id is {id!r}; undo: done")
except Exception as error:
    print(f"the id is {id!r}; undo: {type(error).__name__}")
PYTHON
)
saw "a note replaces the id in the undo log" "$output" "the id is 'order-17'; undo: TypeError"
