#!/usr/bin/env bash
# RelStorage 4.3. After a CacheConsistencyError, a process shows older states of objects as the present ones. Such an error is an answer to
# a store whose serial is not that of the revision in the connection's view, as zero where another client has made the object since.
#
# `StorageCache._reset` forgets which revision of an object is the newest, and keeps the cache of states. Those that were marked there as
# unchanged for long are taken for the present from then on. A change of such an object ends with ConflictError, and so does each retry.
#
# Seen: CacheConsistencyError / this process shows: first / ConflictError, three times / another one shows: second
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
from ZODB.Connection import TransactionMetaData


def process():
    options = Options()
    return ZODB.DB(RelStorage(Sqlite3Adapter("data", {}, options=options), options=options))


db = process()
with db.transaction() as connection:
    connection.root()["page"], connection.root()["visits"] = PersistentMapping(text="first"), PersistentMapping(count=0)
for count in range(3):
    with db.transaction() as connection:
        connection.root()["visits"]["count"] = count
with db.transaction() as connection:
    connection.root()["page"]["text"] = "second"

# A client that found no root, and makes it.
late, meta = db.storage.new_instance(), TransactionMetaData()
late.poll_invalidations()
late.tpc_begin(meta)
late.store(bytes(8), bytes(8), late.load(bytes(8))[0], "", meta)
try:
    late.tpc_vote(meta)
except Exception as error:
    print(type(error).__name__)
late.tpc_abort(meta)


def shown(db):
    connection = db.open(transaction.TransactionManager())
    connection.cacheMinimize()
    return connection.root()["page"]["text"]


print("this process shows:", shown(db))
manager = transaction.TransactionManager()
for _ in range(3):
    db.open(manager).root()["page"]["more"] = "text"
    try:
        manager.commit()
        print("changed")
    except Exception as error:
        print(type(error).__name__)
        manager.abort()
print("another one shows:", shown(process()))
PYTHON
)
saw "an older state is shown" "$(tr '\n' ' ' <<<"$output")" \
    "CacheConsistencyError this process shows: first ConflictError ConflictError ConflictError another one shows: second"
