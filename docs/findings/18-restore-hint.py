"""Transactions from some moment on can not be copied, if one of them undoes an earlier one.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import sys
import tempfile

import transaction
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import UndoError


def main(folder):
    source = DB(FileStorage(folder + "/Source.fs"))
    for number in range(3):
        with source.transaction() as connection:
            connection.root()["number"] = number
    start = source.storage.lastTransaction()
    source.undo(source.undoLog(0, 1)[0]["id"])
    transaction.commit()

    # "The prev_txn should be considered just a hint, and is ignored if the transaction doesn't exist", says a comment.
    copy = FileStorage(folder + "/Copy.fs")
    print("expected: two transactions are copied")
    try:
        copy.copyTransactionsFrom(source.storage.iterator(start))
        print(f"found:    {len(list(copy.iterator()))} transactions are copied")
        return 0
    except UndoError as error:
        print(f"found:    UndoError: {error}")
        return 1
    finally:
        copy.tpc_abort(copy.tpc_transaction())
        copy.close()
        source.close()


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder))
