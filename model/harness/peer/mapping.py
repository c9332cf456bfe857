"""ZODB's MappingStorage: a storage in memory, and the changes of every demo storage that has no others.

    python mapping.py [--raw]

A pack with collection takes what was committed after its time, if nothing leads to it now: so `collect` is declared
with --raw only. A pack to an earlier time than the last one is an error, which is stepped over.
"""

import sys

from adapter import NO_OID_OR_TID, Adapter, main
from ZODB import MappingStorage, utils


class Mapping(Adapter):
    """One MappingStorage. It goes when it is closed, so it is never opened again."""

    name = "ZODB 6.4 MappingStorage"
    cannot = ("last_invalidations", "current_records")
    steps_over = ("too_long", "empty", "stale", "packed")

    def prepare(self):
        # The module has no other use for the time than the packs'.
        sys.modules["ZODB.MappingStorage"].time = utils.time = self.clock
        self.can = ("check_current", "pack") + (("collect", "edges", "dangling") if self.raw else ())

    def connect(self, read_only):
        return [MappingStorage.MappingStorage()]

    def do_reset(self):
        self.packed_to = NO_OID_OR_TID
        return super().do_reset()

    def pack(self, to, collect):
        if not self.raw:
            if to < self.packed_to:
                return  # A pack to an earlier time is an error, and one to the same time does nothing.
            self.packed_to = min(to, self.storage.lastTransaction())
            self.storage._last_pack = None
        super().pack(to, collect)


if __name__ == "__main__":
    main(Mapping)
