#!/usr/bin/env bash
# ZEO 6.2. The server does not tell its clients which objects a transaction deleted. A client that has such an object in its cache goes on
# to show it, while one that has not gets POSKeyError; a persistent cache keeps it over a restart.
#
# Seen: other client after the deletion: loaded / a new client: POSKeyError
. "$(dirname "$0")/common.inc"
install ZODB==6.4 ZEO==6.2
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import ZEO
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSKeyError

address, stop = ZEO.server("Data.fs")

class DB:
    """What a client tells of invalidations."""
    def invalidate(self, *_): pass
    def invalidateCache(self): pass
    transform_record_data = untransform_record_data = staticmethod(lambda data: data)

def client():
    storage = ClientStorage(address)
    storage.registerDB(DB())
    return storage

def commit(storage, *calls):
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    for call in calls:
        call(meta)
    storage.tpc_vote(meta)
    return storage.tpc_finish(meta)

one, other = client(), client()
oid = one.new_oid()
tid = commit(one, lambda meta: one.store(oid, bytes(8), b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}.", "", meta))
other.ping()
other.load(oid)
commit(one, lambda meta: one.deleteObject(oid, tid, meta))

def load(storage):
    storage.ping()
    try:
        storage.load(oid)
        return "loaded"
    except POSKeyError as error:
        return type(error).__name__

print("other client after the deletion:", load(other))
print("a new client:", load(client()))
stop()
PYTHON
)
saw "a deletion is not told to other clients" "$(tr '\n' ' ' <<<"$output")" "other client after the deletion: loaded a new client: POSKeyError"
