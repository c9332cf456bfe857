"""After a pack an object is shown at a time at which it did not exist.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile
import time

import transaction
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError


def undo_last(db):
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()


def seen(db, oid, at):
    """What a connection to the past says of the object."""
    connection = db.open(transaction.TransactionManager(), at=at)
    try:
        return dict(connection.get(oid))
    except POSKeyError:
        return "nothing"
    finally:
        connection.close()


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["page"] = PersistentMapping(text="hello")
    with db.transaction() as connection:
        oid = connection.root()["page"]._p_oid
    undo_last(db)  # The page was never made,
    at = db.storage.lastTransaction()
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)
    undo_last(db)  # or was it.

    before = seen(db, oid, at)
    db.pack(pack_time)
    db.close()
    db = DB(FileStorage(folder + "/Data.fs"))
    after = seen(db, oid, at)
    db.close()
    print(f"expected: at the time of the pack the page was {before}, before the pack and after it")
    print(f"found:    before the pack it was {before}, and after it {after}")
    return int(before != after)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
