"""A pack removes every revision of a blob, also those written after its time.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import logging
import sys
import tempfile
import time

import transaction
from ZODB import DB
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError

logging.disable()  # ZODB logs the error that is caught below.


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs", blob_dir=folder + "/blobs"))
    with db.transaction() as connection:
        connection.root()["photo"] = Blob(b"first")

    # The photo is taken out, and put back with new contents.  In between lies the time of the pack.
    connection = db.open()
    photo = connection.root().pop("photo")
    transaction.commit()
    time.sleep(0.01)
    pack_time = time.time()
    time.sleep(0.01)
    connection.root()["photo"] = photo
    with photo.open("w") as file:
        file.write(b"second")
    transaction.commit()
    connection.close()

    db.pack(pack_time)
    db.close()
    db = DB(FileStorage(folder + "/Data.fs", blob_dir=folder + "/blobs"))
    print("expected: the photo is b'second', which was committed after the time of the pack")
    try:
        with db.transaction() as connection, connection.root()["photo"].open() as file:
            print(f"found:    the photo is {file.read()!r}")
        return 0
    except POSKeyError:
        print("found:    POSKeyError; the object is there, and its file is gone")
        return 1
    finally:
        db.close()


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
