"""How long ZEO's client takes to load cold objects one at a time, or to stream stores.

    client_bench.py HOST:PORT load OIDS COUNT
    client_bench.py HOST:PORT store SIZE COUNT

prints seconds. OIDS is a file with an oid in each line; SIZE is that of a record in bytes. Stores are timed from
tpc_begin until tpc_finish has returned.
"""

import logging
import sys
import time

from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.utils import p64, u64, z64

address, what, which, count = sys.argv[1:]
host, port = address.rsplit(":", 1)
logging.disable(logging.CRITICAL)
storage = ClientStorage((host, int(port)), wait_timeout=30, cache_size=200 << 20)
if what == "load":
    with open(which) as lines:
        wanted = list(dict.fromkeys(p64(int(line, 16)) for line in lines))[: int(count)]
    before = p64(u64(storage.lastTransaction()) + 1)
    started = time.perf_counter()
    for oid in wanted:
        storage.loadBefore(oid, before)
    print(time.perf_counter() - started)
else:
    oids = [storage.new_oid() for _ in range(int(count))]
    record = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.\x80\x03N." + b"x" * int(which)
    transaction = TransactionMetaData("bench", "stores", {})
    started = time.perf_counter()
    storage.tpc_begin(transaction)
    for oid in oids:
        storage.store(oid, z64, record, "", transaction)
    storage.tpc_vote(transaction)
    storage.tpc_finish(transaction)
    print(time.perf_counter() - started)
storage.close()
