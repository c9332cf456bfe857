"""ZODB's FileStorage with a folder of blobs.

    python blobs.py [--raw]

The adapter steps over the known differences of FileStorage without blobs, as zodb.py does. It does not declare
`resolve`, since a blob's class in ZODB merges nothing, and the harness's does.
"""

from adapter import Counter, main
from ZODB.FileStorage import FileStorage
from zodb import Peer


class WithBlobs(Peer):
    """One FileStorage, and its folder of blobs."""

    name = "ZODB 6.4 FileStorage with blobs"

    def prepare(self):
        del Counter._p_resolveConflict
        super().prepare()
        self.can = [word for word in self.can if word not in ("resolve", "restore")] + ["blobs"]

    def aborted(self):
        if not self.raw:
            # An abort before the vote leaves the files of the blobs.
            self.file._blob_tpc_abort()
        super().aborted()

    def connect(self, read_only):
        return [FileStorage(str(self.path), read_only=read_only, blob_dir=str(self.folder / "blobs"))]


if __name__ == "__main__":
    main(WithBlobs)
