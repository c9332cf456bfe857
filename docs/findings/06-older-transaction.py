"""A copy of older transactions is taken into a database that has newer ones, and no pack is possible after it.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import logging
import sys
import tempfile
import time

from ZODB import DB
from ZODB.FileStorage import FileStorage

logging.disable()  # ZODB logs the error that is caught below.


def main(folder):
    source = DB(FileStorage(folder + "/Source.fs"))
    with source.transaction() as connection:
        connection.root()["answer"] = 42
    time.sleep(0.01)

    # To open a DB on a new storage makes a root in it.  So this copy is not into an empty database.
    copy = DB(FileStorage(folder + "/Copy.fs"))
    last = copy.storage.lastTransaction()
    print("expected: older transactions are refused; or else the database stays one that can be packed")
    try:
        copy.storage.copyTransactionsFrom(source.storage)
    except Exception as error:
        print(f"found:    refused: {type(error).__name__}: {error}")
        return 0
    went_back = copy.storage.lastTransaction() < last
    try:
        copy.pack()
        failed = None
    except Exception as error:
        failed = type(error).__name__
    copy.close()
    source.close()
    last = "went back" if went_back else "is later"
    print(f"found:    accepted; the last transaction {last}; pack: {failed or 'done'}")
    return int(went_back or failed is not None)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
