"""A recorder around the cache of ZEO's client.

ZEO 6.2's own tracing fails under Python 3 at the first miss of `loadBefore`.  This one wraps the cache's public methods
and writes ZEO's trace format: a record of 26 bytes and the oid for each load, store and invalidation.  A `loadBefore`
that asks for the present is a load of the current revision, as it was in the traces of older clients.
"""

import struct
import threading
import time

import ZEO.cache
import ZEO.ClientStorage
from ZODB.utils import z64

RECORD = struct.Struct(">IIH8s8s")
OPENED, FORGOTTEN, INVALIDATED, NOT_HERE = 0x00, 0x1E, 0x1C, 0x10
MISS, HIT, MISS_OLD, HIT_OLD = 0x20, 0x22, 0x24, 0x26
STORED, STORED_OLD = 0x52, 0x54


class Recorder(ZEO.cache.ClientCache):
    """ZEO's cache, whose calls are written to a file."""

    def __init__(self, path, size, trace):
        self._recorded = trace
        self._recording = threading.RLock()
        self._depth = 0
        super().__init__(path, size)
        self._record(OPENED)

    def _record(self, code, oid=b"", tid=z64, end=z64, size=0):
        assert size < 1 << 23, "the format cannot say more"
        self._recorded.write(RECORD.pack(int(time.time()), size << 8 | code, len(oid), tid or z64, end or z64) + oid)

    def loadBefore(self, oid, before_tid):
        with self._recording:
            is_present = before_tid > self.getLastTid()
            found = super().loadBefore(oid, before_tid)
            if found is None:
                self._record(MISS if is_present else MISS_OLD, oid, z64, z64 if is_present else before_tid)
            elif found[2] is None:
                self._record(HIT, oid, found[1], z64, len(found[0]))
            else:
                self._record(HIT_OLD, oid, found[1], found[2], len(found[0]))
            return found

    def store(self, oid, start_tid, end_tid, data):
        with self._recording:
            super().store(oid, start_tid, end_tid, data)
            self._record(STORED_OLD if end_tid else STORED, oid, start_tid, end_tid, len(data))

    def invalidate(self, oid, tid):
        with self._recording:
            was_here = oid in self.current
            super().invalidate(oid, tid)
            self._record((INVALIDATED if tid else FORGOTTEN) if was_here else NOT_HERE, oid, tid)

    def close(self):
        super().close()
        self._recorded.flush()


def install(path, size, trace):
    """Makes the next storages that are opened use such a cache."""
    ZEO.ClientStorage.open_cache = lambda *_: Recorder(path, size, trace)
