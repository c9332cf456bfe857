"""A pack gives an object another state than it had, where several of its changes were undone at once.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile
import time

import transaction
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage


def set_price(db, price):
    with db.transaction() as connection:
        connection.root()["item"]["price"] = price


def undo_last(db, count):
    """Takes back the last transactions, all in one, as the undo form of Zope does."""
    db.undoMultiple([entry["id"] for entry in db.undoLog(0, count)])
    transaction.commit()


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["item"] = PersistentMapping(price=100)
        connection.root()["draft"] = PersistentMapping(text="x" * 1000)
    with db.transaction() as connection:
        del connection.root()["draft"]  # So that the pack has something to free.
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)

    set_price(db, 0)
    set_price(db, 1)
    undo_last(db, 2)  # The price is 100 again,
    set_price(db, 2)
    undo_last(db, 1)  # and again.
    with db.transaction() as connection:
        before = connection.root()["item"]["price"]

    db.pack(pack_time)  # Every change of the price is later than this.
    db.close()
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        after = connection.root()["item"]["price"]
    db.close()
    print(f"expected: the price was {before} before the pack, and is {before} after it")
    print(f"found:    the price was {before} before the pack, and is {after} after it")
    return int(before != after)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
