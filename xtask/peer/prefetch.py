"""How long ZEO's client takes to prefetch cold objects.

    prefetch.py HOST:PORT OIDS COUNT

prints seconds: the best of several clients with an empty cache each, and how long the client itself had the processor in
that time. OIDS is a file with an oid in each line.
"""

import logging
import sys
import time

from ZEO.ClientStorage import ClientStorage
from ZODB.utils import p64, u64

CLIENTS = 5

address, oids, count = sys.argv[1:]
host, port = address.rsplit(":", 1)
with open(oids) as lines:
    wanted = list(dict.fromkeys(p64(int(line, 16)) for line in lines))[: int(count)]
assert len(wanted) == int(count), len(wanted)
logging.disable(logging.CRITICAL)
best = None
for _ in range(CLIENTS):
    storage = ClientStorage((host, int(port)), wait_timeout=30, cache_size=200 << 20)
    before = p64(u64(storage.lastTransaction()) + 1)
    started, busy = time.perf_counter(), time.process_time()
    # As `storage.prefetch`, which returns at once; this waits for the last record.
    storage._server.prefetch(wanted, before).result(60)
    took = time.perf_counter() - started, time.process_time() - busy
    for oid in wanted:
        assert storage._cache.loadBefore(oid, before) is not None
    best = took if best is None else min(best, took)
    storage.close()
print(*best)
