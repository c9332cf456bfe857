"""After a crash, lastTransaction names the transaction that was lost in it.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import logging
import shutil
import sys
import tempfile

from ZODB import DB
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

logging.disable()  # ZODB logs that it cuts off the end of the file.


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["kept"] = 1

    # The machine stops between the two phases of a commit: this is what the disk has then.
    meta = TransactionMetaData()
    db.storage.tpc_begin(meta)
    db.storage.store(p64(1), z64, b"lost", "", meta)
    db.storage.tpc_vote(meta)
    shutil.copy(folder + "/Data.fs", folder + "/Crash.fs")
    db.storage.tpc_abort(meta)
    db.close()

    storage = FileStorage(folder + "/Crash.fs")
    said = storage.lastTransaction()
    there = [record.tid for record in storage.iterator()]
    storage.close()
    storage = FileStorage(folder + "/Crash.fs")
    reopened = storage.lastTransaction()
    storage.close()
    print("expected: the last transaction is one that is there, and the same after the storage was opened again")
    print(f"found:    {said.hex()}, which is {'there' if said in there else 'gone'}; opened again, {reopened.hex()}")
    return int(said != reopened)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
