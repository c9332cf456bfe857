#!/usr/bin/env bash
# RelStorage 4.3 on SQLite. A transaction that fails at its vote because of `readCurrent` (BTrees call it as well) leaves its changes in
# the temporary table of its database connection. The next transaction of the process gets that connection, and commits them with its own.
#
# `SharedTPCState.store_connection` rolls back at an abort, and the rollback is to empty the table. It is passed over if SQLite has no
# transaction (`connection_may_need_rollback`), and there is none before the first row is locked.
#
# Seen: the transfer: VoteReadConflictError / before the next commit: paid out 0 / after it: paid out 100
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
from ZODB.POSException import ConflictError


def process():
    options = Options()
    return ZODB.DB(RelStorage(Sqlite3Adapter("data", {}, options=options), options=options))


def connection(db):
    manager = transaction.TransactionManager()
    return manager, db.open(manager).root()


one, other = process(), process()
manager, root = connection(one)
root["account"], root["limit"], root["page"] = PersistentMapping(paid_out=0), PersistentMapping(to=100), PersistentMapping()
manager.commit()

# A transfer looks at the limit, and another process changes the limit before it commits.
transfer, mine = connection(one)
mine["account"]["paid_out"] = mine["limit"]["to"]
mine._p_jar.readCurrent(mine["limit"])
manager, root = connection(other)
root["limit"]["to"] = 0
manager.commit()
try:
    transfer.commit()
except ConflictError as error:
    print("the transfer:", type(error).__name__)
transfer.abort()
print("before the next commit: paid out", connection(process())[1]["account"]["paid_out"])

# A commit that has nothing to do with it.
manager, root = connection(one)
root["page"]["title"] = "news"
manager.commit()
print("after it: paid out", connection(process())[1]["account"]["paid_out"])
PYTHON
)
saw "an aborted change is committed" "$(tr '\n' ' ' <<<"$output")" \
    "the transfer: VoteReadConflictError before the next commit: paid out 0 after it: paid out 100"
