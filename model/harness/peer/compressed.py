"""zc.zlibstorage 1.2: a layer that compresses records, over a FileStorage.

    python compressed.py [--raw]
"""

from adapter import Records, main
from zc.zlibstorage import ZlibStorage
from ZODB.FileStorage import FileStorage
from zodb import Peer


class Compressed(Peer):
    """A FileStorage that holds compressed records. The sizes of a history are those of the records on disk."""

    name = "zc.zlibstorage 1.2"
    cannot = ("history",)

    def connect(self, read_only):
        storage = ZlibStorage(FileStorage(str(self.path), read_only=read_only))
        storage.registerDB(Records)
        return [storage]

    @property
    def file(self):
        return self.storage.base


if __name__ == "__main__":
    main(Compressed)
