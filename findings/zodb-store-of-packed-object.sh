#!/usr/bin/env bash
# ZODB 6.4. A request has loaded an object; another one unlinks it, and a pack removes it and its parts. The first request changes
# the object, and its commit succeeds: FileStorage compares serials only for objects that it knows. The object is in the file again,
# and refers to parts that are gone.
#
# Expected: a ConflictError, as for an object that was changed meanwhile.
# Seen: committed; the items of the cart: POSKeyError: 0x02
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import time
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.POSException import ConflictError, POSKeyError

db = ZODB.DB("Data.fs")
with db.transaction() as connection:
    connection.root()["cart"] = PersistentMapping(items=PersistentMapping(apples=3))
manager = transaction.TransactionManager()
slow = db.open(manager)
cart = slow.root()["cart"]
cart["items"]
with db.transaction() as connection:
    del connection.root()["cart"]
time.sleep(0.01)
db.pack(time.time())
cart["paid"] = True
try:
    manager.commit()
    slow.cacheMinimize()
    print("committed; the items of the cart: ", end="")
    print(dict(cart["items"]))
except ConflictError as error:
    print(f"{type(error).__name__}: {error}")
except POSKeyError as error:
    print("POSKeyError:", error)
PYTHON
)
saw "a store of an object that was packed away is accepted" "$output" "^committed; the items of the cart: POSKeyError"
