#!/usr/bin/env bash
# ZEO 6.2. Where FileStorage raises UndoError, because a transaction is not there or later changes block its undo, a client gets
# ServerException, which is no UndoError and no POSError. A program that catches UndoError, as it works with a FileStorage, fails.
#
# Seen: FileStorage UndoError / ClientStorage ServerException, an UndoError: False
. "$(dirname "$0")/common.inc"
install ZODB==6.4 ZEO==6.2
output=$(cd "$folder" && "$python" - <<'PYTHON'
import base64
import logging
logging.disable(logging.CRITICAL)
import transaction
import ZEO
import ZODB
from ZODB.POSException import UndoError

def undo(name, db):
    db.undo(base64.b64encode(b"\1" * 8))
    try:
        transaction.commit()
    except Exception as error:
        print(name, type(error).__name__ + f", an UndoError: {isinstance(error, UndoError)}")
    transaction.abort()

db = ZODB.DB("Data.fs")
undo("FileStorage", db)
db.close()
address, stop = ZEO.server("Data.fs")
db = ZEO.DB(address)
undo("ClientStorage", db)
db.close()
stop()
PYTHON
)
saw "an UndoError is another error over ZEO" "$(tr '\n' ' ' <<<"$output")" "FileStorage [A-Za-z]*UndoError[A-Za-z]*, an UndoError: True ClientStorage ServerException, an UndoError: False"
