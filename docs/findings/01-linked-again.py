"""An object that is linked again after the time of a pack is collected by that pack.

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
        connection.root()["inbox"] = PersistentMapping()
        connection.root()["archive"] = PersistentMapping()
        connection.root()["inbox"]["report"] = PersistentMapping(text="the only copy")

    # Cut in one request, pasted in the next.  In between lies the time of the pack.
    connection = db.open()
    clipboard = connection.root()["inbox"].pop("report")
    transaction.commit()
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)
    connection.root()["archive"]["report"] = clipboard
    transaction.commit()
    connection.close()

    db.pack(pack_time)  # As db.pack(days=7) does, a week later.
    db.close()

    db = DB(FileStorage(folder + "/Data.fs"))
    print("expected: the report says 'the only copy'")
    try:
        with db.transaction() as connection:
            print(f"found:    the report says {connection.root()['archive']['report']['text']!r}")
        return 0
    except POSKeyError as error:
        print(f"found:    POSKeyError: {error}; the archive refers to an object that is gone")
        return 1
    finally:
        db.close()


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
