"""A storage that is opened as of the past shows the present, if there is an index.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile

from ZODB import DB
from ZODB.FileStorage import FileStorage


def main(path):
    db = DB(FileStorage(path))
    for balance in (100, 200, 300):
        with db.transaction() as connection:
            connection.root()["balance"] = balance
        if balance == 200:
            stop = db.storage.lastTransaction()
    db.close()  # Which saves the index.

    # "When the file is opened, data will be read up to the given transaction id": whether that one counts or not.
    past = DB(FileStorage(path, read_only=True, stop=stop))
    connection = past.open()
    balance = connection.root()["balance"]
    connection.close()
    past.close()
    print("expected: as of the second of three transactions the balance is 200, or 100 if that one does not count")
    print(f"found:    it is {balance}")
    return int(balance == 300)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder + "/Data.fs"))
