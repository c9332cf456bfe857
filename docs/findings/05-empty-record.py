"""A record of no bytes is accepted, and breaks the file it is written to.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import logging
import os
import sys
import tempfile

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

logging.disable()  # ZODB logs what it finds wrong with the file.


def commit(storage, *records):
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    for oid, data in records:
        storage.store(oid, z64, data, "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)


def main(path):
    storage = FileStorage(path)
    commit(storage, (z64, b"what was there before"))
    print("expected: an empty record is refused, or can be read; in any case the file stays whole")
    try:
        commit(storage, (p64(1), b""), (p64(2), b"what came after"))
    except Exception as error:
        print(f"found:    refused: {type(error).__name__}: {error}")
        return 0
    finally:
        storage.close()
    os.remove(path + ".index")  # The documentation says that it can be lost without harm.
    try:
        storage = FileStorage(path)
        storage.load(z64), storage.load(p64(2))
        storage.close()
    except Exception as error:
        print(f"found:    accepted; and then the file can not be opened: {type(error).__name__}: {error}")
        return 1
    print("found:    accepted, and the file can be opened")
    return 0


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder + "/Data.fs"))
