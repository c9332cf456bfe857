"""A change of an object that is gone is accepted, and brings it back without its parts.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import logging
import sys
import tempfile
import time

import transaction
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, POSKeyError

logging.disable()  # ZODB logs the error that is caught below.


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["cart"] = PersistentMapping(items=PersistentMapping(apples=3))

    # One request has the cart before it; another removes it, and a pack takes it away.
    manager = transaction.TransactionManager()
    slow = db.open(manager)
    cart = slow.root()["cart"]
    cart["items"]
    with db.transaction() as connection:
        del connection.root()["cart"]
    time.sleep(0.01)
    db.pack(time.time())

    print("expected: a conflict, as for every other object that was changed meanwhile")
    cart["paid"] = True
    try:
        manager.commit()
    except (ConflictError, POSKeyError) as error:
        print(f"found:    {type(error).__name__}: {error}")
        return 0
    slow.cacheMinimize()
    try:
        found = dict(cart["items"])
    except POSKeyError as error:
        found = f"POSKeyError: {error}"
    print(f"found:    committed; the cart is in the file again, its items are: {found}")
    return 1


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
