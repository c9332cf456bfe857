"""zc.beforestorage 1.0: a view of a storage as of a moment, which is a FileStorage here.

    python before.py [--raw]

Transactions go to the FileStorage, and each time the view is of the moment after the last one. So it must say what the
FileStorage says, and does not see what is under way.
"""

from adapter import Adapter, Refused, main
from zc.beforestorage import Before
from ZODB import POSException, utils
from zodb import Peer


class BeforeNow(Peer):
    """A FileStorage, and a view of it."""

    name = "zc.beforestorage 1.0"
    cannot = ("transactions", "last_invalidations", "current_records", "undo_log")

    def prepare(self):
        super().prepare()
        self.can = [word for word in self.can if word not in ("restore", "pack", "collect")]

    def reader(self):
        return Before(self.storage, utils.p64(utils.u64(self.storage.lastTransaction()) + 1))

    def ask_load_before(self, oid, before):
        told = super().ask_load_before(oid, before)
        if not self.raw and told["is"] == "not_yet":
            # It says that an object was not there yet where it never was.
            self.storage.loadBefore(bytes.fromhex(oid), bytes.fromhex(before))
        return told


if __name__ == "__main__":
    main(BeforeNow)
