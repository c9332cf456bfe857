"""An undo brings back an object and its parts; a pack to a time before the undo takes the parts.

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
from ZODB.POSException import POSKeyError

logging.disable()  # ZODB logs the error that is caught below.


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["folder"] = PersistentMapping()
        connection.root()["folder"]["letter"] = PersistentMapping(text="dear all")

    # A folder is emptied and removed: an ordinary way to delete one.
    with db.transaction() as connection:
        connection.root().pop("folder").clear()
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)

    # That was a mistake, and is undone.  All is well again, until the next pack.
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with db.transaction() as connection:
        assert connection.root()["folder"]["letter"]["text"] == "dear all"
    db.pack(pack_time)
    db.close()

    db = DB(FileStorage(folder + "/Data.fs"))
    print("expected: the letter says 'dear all'")
    try:
        with db.transaction() as connection:
            print(f"found:    the letter says {connection.root()['folder']['letter']['text']!r}")
        return 0
    except POSKeyError as error:
        print(f"found:    POSKeyError: {error}; the folder is back, and the letter in it is gone")
        return 1
    finally:
        db.close()


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
