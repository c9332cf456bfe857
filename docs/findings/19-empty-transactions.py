"""A storage in which all transactions are empty can not be opened again.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage


def main(path):
    storage = FileStorage(path)
    meta = TransactionMetaData("ann", "The beginning of a log that has each step, also if nothing changed")
    storage.tpc_begin(meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    storage.close()

    print("expected: the storage is opened")
    try:
        FileStorage(path).close()
        print("found:    the storage is opened")
        return 0
    except OSError as error:
        print(f"found:    OSError: {error}; without the .index file it could be opened")
        return 1


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder + "/Data.fs"))
