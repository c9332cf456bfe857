"""After a pack, an undo of a change leaves nothing of an object that was there before the change.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import logging
import shutil
import sys
import tempfile
import time

import transaction
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError

logging.disable()  # ZODB logs the error that is caught below.


def undone(path, undo):
    """The page after that transaction was undone."""
    db = DB(FileStorage(path))
    try:
        db.undo(undo)
        transaction.commit()
        with db.transaction() as connection:
            return connection.root()["page"]["text"]
    except POSKeyError:
        return "nothing"
    finally:
        db.close()


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    connection = db.open()
    page = connection.root()["page"] = PersistentMapping(text="hello")
    transaction.commit()
    del connection.root()["page"]  # It is cut,
    transaction.commit()
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)
    page["text"] = "hello, world"  # changed,
    transaction.commit()
    change = db.undoLog(0, 1)[0]["id"]
    connection.root()["page"] = page  # and pasted.
    transaction.commit()
    connection.close()
    shutil.copy(folder + "/Data.fs", folder + "/unpacked.fs")

    db.pack(pack_time)
    db.close()
    before, after = undone(folder + "/unpacked.fs", change), undone(folder + "/Data.fs", change)
    print(f"expected: the change is undone, and the page says {before!r}; or the undo is refused")
    print(f"found:    after the pack it is undone, and the page is {after!r}")
    return int(before != after)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
