"""After a pack, lastTransaction names a transaction that the pack removed.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile
import time

from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["kept"] = PersistentMapping()
    with db.transaction() as connection:
        connection.add(PersistentMapping(text="nothing refers to this"))
    time.sleep(0.01)
    db.pack(time.time())

    said = db.storage.lastTransaction()
    there = [record.tid for record in db.storage.iterator()]
    db.close()
    db = DB(FileStorage(folder + "/Data.fs"))
    reopened = db.storage.lastTransaction()
    db.close()
    print("expected: the last transaction is one that is there, and the same after the storage was opened again")
    print(f"found:    {said.hex()}, which is {'there' if said in there else 'gone'}; opened again, {reopened.hex()}")
    return int(said != reopened)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
