"""A pack fails where, at its time, something referred to an object whose creation was undone.

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

logging.disable()  # ZODB logs the error that is caught below.


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    connection = db.open()
    page = PersistentMapping()
    connection.add(page)
    transaction.commit()
    made = db.undoLog(0, 1)[0]["id"]
    connection.root()["page"] = page
    transaction.commit()
    db.undo(made)
    transaction.commit()
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)

    # The link leads nowhere, which somebody sees, and mends.
    connection.sync()
    del connection.root()["page"]
    transaction.commit()
    connection.close()

    print("expected: the database is packed; the object is known, and known to be nothing")
    try:
        db.pack(pack_time)
        print("found:    the database is packed")
        return 0
    except KeyError as error:
        print(f"found:    KeyError: {error}")
        return 1
    finally:
        db.close()


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
