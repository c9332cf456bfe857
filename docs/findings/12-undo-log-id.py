"""What an application notes about a transaction replaces its id in the undo log.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile

import transaction
from ZODB import DB
from ZODB.FileStorage import FileStorage


def main(folder):
    db = DB(FileStorage(folder + "/Data.fs"))
    with db.transaction() as connection:
        connection.root()["total"] = 1
    connection = db.open()
    connection.root()["total"] = 2
    transaction.get().setExtendedInfo("id", "order-17")
    transaction.commit()
    connection.close()

    print("expected: the id in the undo log is one with which the transaction can be undone")
    id = db.undoLog(0, 1)[0]["id"]
    try:
        db.undo(id)
        transaction.commit()
        print(f"found:    the id is {id!r}, and the undo succeeds")
        return 0
    except Exception as error:
        transaction.abort()
        print(f"found:    the id is {id!r}; undo: {type(error).__name__}: {error}")
        return 1
    finally:
        db.close()


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
