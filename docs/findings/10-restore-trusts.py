"""A record is restored with its data and a hint where a copy may be; other data is shown after it.

See docs/findings.md.  Exits with 1 where ZODB does so, with 0 where it does not.
"""

import base64
import sys
import tempfile

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, u64, z64


def commit(storage, change):
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    change(meta)
    storage.tpc_vote(meta)
    return storage.tpc_finish(meta)


def main(path):
    storage = FileStorage(path)
    first = commit(storage, lambda meta: storage.store(z64, z64, b"one", "", meta))
    second = commit(storage, lambda meta: storage.store(z64, first, b"two", "", meta))
    undone = commit(storage, lambda meta: storage.undo(base64.b64encode(second), meta))

    # "The target storage can sometimes use this as a hint to save space", says IStorageRestoreable of the source.
    tid = p64(u64(undone) + 1)
    meta = TransactionMetaData()
    storage.tpc_begin(meta, tid)
    storage.restore(z64, tid, b"three", "", undone, meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    data, _ = storage.load(z64)
    storage.close()
    print("expected: b'three' was restored, and is read")
    print(f"found:    b'three' was restored, and {data!r} is read")
    return int(data != b"three")


with tempfile.TemporaryDirectory() as folder:
    sys.exit(main(folder + "/Data.fs"))
