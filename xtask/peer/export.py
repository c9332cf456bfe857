"""Export and import objects with the real ZODB, to hold another exporter against.

    python export.py export FILE.fs OUT OID...
    python export.py import IN FILE.fs

The first writes an export of each object, its oid in hex, to OUT.OID, and prints nothing.  The second makes FILE.fs
anew, imports IN, puts what was imported into the root as `imported`, and prints its oid in hex.
"""

import logging
import os
import sys

import transaction
import ZODB
from ZODB.FileStorage import FileStorage

import mail  # noqa: F401  (the classes of the records)

logging.disable(logging.CRITICAL)


def export(path, out, *oids):
    db = ZODB.DB(FileStorage(path, read_only=True))
    with db.transaction() as connection:
        for oid in oids:
            connection.exportFile(bytes.fromhex(oid), f"{out}.{oid}").close()
    db.close()


def import_(source, path):
    for old in (path, path + ".index", path + ".lock", path + ".tmp"):
        if os.path.exists(old):
            os.remove(old)
    db = ZODB.DB(FileStorage(path))
    connection = db.open()
    imported = connection.importFile(source)
    connection.root()["imported"] = imported
    transaction.commit()
    print(imported._p_oid.hex())
    connection.close()
    db.close()


if __name__ == "__main__":
    {"export": export, "import": import_}[sys.argv[1]](*sys.argv[2:])
