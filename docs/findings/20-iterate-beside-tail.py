"""Reading beside a transaction that is being written, or after a crash, fails.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import os
import sys
import tempfile

from ZODB import DB
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64


def walk(path, **range):
    storage = FileStorage(path, read_only=True)
    try:
        return f"{len(list(storage.iterator(**range)))} transactions"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        storage.close()


def main(path):
    db = DB(FileStorage(path))
    for number in range(3):
        with db.transaction() as connection:
            connection.root()["number"] = number
    last, size = db.storage.lastTransaction(), db.storage.getSize()
    meta = TransactionMetaData()
    db.storage.tpc_begin(meta)
    db.storage.store(p64(1), z64, b"y" * 100_000, "", meta)
    db.storage.tpc_vote(meta)
    with open(path, "rb") as file:
        image = file.read()
    db.storage.tpc_abort(meta)
    db.close()

    found = []
    print("expected: 4 transactions, 1 transactions; the unfinished one does not count, however much of it is there")
    for cut in (10, 1000):  # Within the header of the transaction, and in its first record.
        os.truncate(path, size)
        with open(path, "ab") as file:
            file.write(image[size:size + cut])
        found += [walk(path), walk(path, start=last)]
        print(f"found:    with {cut} bytes of it, {found[-2]}, {found[-1]}")
    return int(found != ["4 transactions", "1 transactions"] * 2)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder + "/Data.fs"))
