"""How long ZEO's client cache takes for hits, or to open a full file.

    cache_bench.py hits FILE ENTRIES BYTES COUNT
    cache_bench.py fill FILE ENTRIES BYTES MEGABYTES
    cache_bench.py open FILE ENTRIES BYTES MEGABYTES

prints seconds. The keys of hits are drawn by chance from ENTRIES objects with records of BYTES.
"""

import logging
import random
import sys
import time

from ZEO.cache import ClientCache
from ZODB.utils import p64

logging.disable(logging.CRITICAL)
what, path, entries, size, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
tid = p64(1)


def fill(cache):
    record = b"x" * size
    for oid in range(entries):
        cache.store(p64(oid), tid, None, record)
    cache.setLastTid(tid)


if what == "hits":
    cache = ClientCache(path, entries * (size + 100))
    fill(cache)
    oids = [p64(random.randrange(entries)) for _ in range(count)]
    started = time.perf_counter()
    for oid in oids:
        assert cache.load(oid) is not None
    print(time.perf_counter() - started)
elif what == "fill":
    cache = ClientCache(path, count << 20)
    fill(cache)
else:
    started = time.perf_counter()
    cache = ClientCache(path, count << 20)
    took = time.perf_counter() - started
    assert len(cache) == entries, len(cache)
    print(took)
cache.close()
