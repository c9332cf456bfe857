#!/usr/bin/env bash
# ZODB 6.4. A demo storage takes its tids from the storage of its changes, which begins at the clock and knows nothing of the base. If
# the base's last transaction is later than the clock (the copy of a machine that is ahead, or a clock that was set back), commits are
# older than it. The storage then names the first commit as its last transaction, and a connection shows the base as of then: an object
# of the base that was changed later goes back to its older state, without a word.
#
# Seen: page 1 / after a commit of something else, page 0
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import time

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from persistent.TimeStamp import TimeStamp
from ZODB.Connection import TransactionMetaData
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.serialize import ObjectWriter

# A base of which the last transaction is an hour ahead of this clock.
db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["page"] = PersistentMapping(n=0)
    connection.root()["other"] = PersistentMapping(n=0)
connection = db.open()
page = connection.root()["page"]
page["n"] = 1
ahead = TimeStamp(*time.gmtime(time.time() + 3600)[:5] + (0,)).raw()
meta = TransactionMetaData()
db.storage.tpc_begin(meta, ahead)
db.storage.store(page._p_oid, page._p_serial, ObjectWriter(page).serialize(page), "", meta)
db.storage.tpc_vote(meta)
db.storage.tpc_finish(meta)
transaction.abort()
db.close()

base = FileStorage("Data.fs", read_only=True)
demo = DemoStorage(base=base)
db = ZODB.DB(demo)
print("page", db.open(transaction.TransactionManager()).root()["page"]["n"])
with db.transaction() as connection:
    connection.root()["other"]["n"] = 1
connection = ZODB.DB(demo).open(transaction.TransactionManager())
print("after a commit of something else, page", connection.root()["page"]["n"])
PYTHON
)
saw "a commit to a demo storage is older than its base" "$(tr '\n' ' ' <<<"$output")" "page 1 after a commit of something else, page 0"
