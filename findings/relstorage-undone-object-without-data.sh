#!/usr/bin/env bash
# RelStorage 4.3, history-preserving. An object whose creation was undone is still listed: `loadBefore` answers with None for its data,
# where other storages raise POSKeyError, and `record_iternext` gives a record of None. A tool that reads each record fails there.
#
# Seen: load POSKeyError / loadBefore data None / record_iternext data None
. "$(dirname "$0")/common.inc"
install ZODB==6.4 RelStorage==4.3.0
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, u64

options = Options(keep_history=True)
db = ZODB.DB(RelStorage(Sqlite3Adapter("data", {}, options=options), options=options))
with db.transaction() as connection:
    connection.root()["page"] = page = PersistentMapping()
oid = page._p_oid
db.undo(db.undoInfo()[0]["id"])
transaction.commit()

storage = db.storage.new_instance()
storage.poll_invalidations()
try:
    storage.load(oid)
except POSKeyError as error:
    print("load", type(error).__name__)
print("loadBefore data", storage.loadBefore(oid, p64(u64(storage.lastTransaction()) + 1))[0])
following = None
while True:
    found, tid, data, following = storage.record_iternext(following)
    if found == oid:
        print("record_iternext data", data)
    if following is None:
        break
PYTHON
)
saw "an undone object comes without data" "$(tr '\n' ' ' <<<"$output")" "load POSKeyError loadBefore data None record_iternext data None"
