#!/usr/bin/env bash
# ZODB 6.4. MappingStorage collects what cannot be reached now, whenever it was written. So a pack to a time in the past takes an object
# that was committed after that time and is linked by a later transaction; the link then leads nowhere.
#
# Seen: before 1 / POSKeyError
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import time

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import POSKeyError

db = ZODB.DB(MappingStorage())
manager = transaction.TransactionManager()
connection = db.open(manager)
# One transaction adds an object, a later one links it, as an import in two steps does.
time.sleep(0.1)
pack_time = time.time()
time.sleep(0.1)
new = PersistentMapping(n=1)
connection.add(new)
manager.commit()
print("before", new["n"])
db.pack(pack_time)
connection.root()["new"] = new
manager.commit()
try:
    print("after", ZODB.DB(db.storage).open(transaction.TransactionManager()).root()["new"]["n"])
except POSKeyError as error:
    print(type(error).__name__)
PYTHON
)
saw "a pack of a MappingStorage removes what is newer than its time" "$(tr '\n' ' ' <<<"$output")" "before 1 POSKeyError"
