#!/usr/bin/env bash
# ZODB 6.4. A blob is written three times, and the second change is undone. The undo takes the third change back as well: all
# records of blobs are the same bytes, and an undo of an older change is accepted where the newest record has the bytes that
# are undone. The contents of the two files are not compared.
#
# Expected: UndoError, as for any object that was changed since and cannot be merged; or b'third'.
# Seen: the undo is accepted, and the photo is b'first'.
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import transaction
import ZODB
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import UndoError

db = ZODB.DB(FileStorage("Data.fs", blob_dir="blobs"))
with db.transaction() as connection:
    connection.root()["photo"] = Blob(b"first")
for contents in b"second", b"third":
    with db.transaction() as connection, connection.root()["photo"].open("w") as file:
        file.write(contents)
second = db.undoLog(1, 2)[0]["id"]
try:
    db.undo(second)
    transaction.commit()
except UndoError as error:
    transaction.abort()
    print("UndoError:", error)
with db.transaction() as connection, connection.root()["photo"].open() as file:
    print("the photo is", file.read())
PYTHON
)
saw "an undo takes the later contents of a blob back" "$output" "^the photo is b'first'"
