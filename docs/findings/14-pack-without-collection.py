"""A pack without collection fails as long as an undo lies after its time.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import logging
import os
import sys
import tempfile
import time

import transaction
from ZODB import DB
from ZODB.FileStorage import FileStorage

logging.disable()  # ZODB logs the error that is caught below.


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs", pack_gc=False))  # As where several databases refer to each other.
    for number in range(3):
        with db.transaction() as connection:
            connection.root()["number"] = number
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()

    print("expected: the database is packed")
    try:
        db.pack(pack_time)
        print("found:    the database is packed")
        return 0
    except Exception as error:
        left = [name for name in os.listdir(folder) if name.endswith(".pack")]
        print(f"found:    {type(error).__name__}: {error}; left behind: {left}")
        return 1
    finally:
        db.close()


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
