"""A pack with collection does nothing after one without.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile
import time

from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["big"] = PersistentMapping(text="x" * 100_000)
    with db.transaction() as connection:
        del connection.root()["big"]
    time.sleep(0.01)

    sizes = [db.storage.getSize()]
    for collect in (False, True):
        db.storage.pack(time.time(), referencesf, gc=collect)
        sizes.append(db.storage.getSize())
    db.close()
    print("expected: the second pack, which collects garbage, frees 100,000 bytes")
    print(f"found:    {sizes[0]:,} bytes; packed, {sizes[1]:,}; packed with collection, {sizes[2]:,}")
    return int(sizes[2] > 100_000)


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
