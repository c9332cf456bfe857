"""A walk over all records stops at the first object whose creation was undone.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile

import transaction
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import u64


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["one"] = PersistentMapping()
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with db.transaction() as connection:
        connection.root()["two"] = PersistentMapping()

    seen, following = [], None
    print("expected: the walk shows the objects 0 and 2")
    try:
        while True:  # As ZODB.interfaces says that it should be used.
            oid, _, _, following = db.storage.record_iternext(following)
            seen.append(u64(oid))
            if following is None:
                break
        print(f"found:    the walk shows the objects {seen}")
        return 0
    except POSKeyError as error:
        print(f"found:    the walk shows the objects {seen}, and ends with POSKeyError: {error}")
        return 1
    finally:
        db.close()


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
