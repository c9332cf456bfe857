#!/usr/bin/env bash
# ZODB 6.4. `copyTransactionsFrom(source.iterator(start))` copies a database from some moment on. It fails at the first undo of
# an earlier transaction: the undo's record names that transaction as a hint, and `restore` raises if it is not in the target. A
# comment there says that such a hint is ignored.
#
# Expected: two transactions are copied.
# Seen: UndoError: Undo error None: Invalid transaction id
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import UndoError

source = ZODB.DB("Source.fs")
for number in range(3):
    with source.transaction() as connection:
        connection.root()["number"] = number
start = source.storage.lastTransaction()
source.undo(source.undoLog(0, 1)[0]["id"])
transaction.commit()
copy = FileStorage("Copy.fs")
try:
    copy.copyTransactionsFrom(source.storage.iterator(start))
    print(len(list(copy.iterator())), "transactions are copied")
except UndoError as error:
    print("UndoError:", error)
PYTHON
)
saw "a copy of recent transactions fails at an undo" "$output" "^UndoError: .*Invalid transaction id"
