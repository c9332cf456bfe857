"""A trace of RelStorage's own cache, on a mail database that it has in SQLite.

    rel_trace.py FOLDER [--seed S]

reads FOLDER/mail.fs, which traces.py makes, and writes FOLDER/relstorage.trace.  RelStorage writes it itself, as it does for
operators that set ZEO_CACHE_TRACE.  The client searches, reads the newest pages, and changes messages of these.

The last line on stdout is JSON: the loads and hits that the trace has.
"""

import argparse
import json
import os
import shutil
import struct

import traces
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from ZODB.FileStorage import FileStorage

RECORD = struct.Struct(">iiH8s8s")
MISS, HIT = 0x20, 0x22


def storage(folder, cache):
    options = Options(keep_history=True, cache_local_mb=traces.CACHE_BYTES >> 20, cache_local_dir=cache)
    return RelStorage(Sqlite3Adapter(os.path.join(folder, "relstorage"), {}, options=options), options=options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    mail = os.path.join(args.folder, "mail.fs")
    source, target = FileStorage(mail, read_only=True), storage(args.folder, None)
    target.copyTransactionsFrom(source)
    source.close()
    target.close()
    os.environ["ZEO_CACHE_TRACE"] = "single"
    cache = os.path.join(args.folder, "relstorage-cache")
    client = traces.Connected(storage(args.folder, cache))
    reader = traces.Reader(client, args.seed * 100 + 20, traces.facts(mail))
    traces.several([client], [reader])
    client.close()
    [name] = [name for name in os.listdir(cache) if name.endswith(".trace")]
    out = os.path.join(args.folder, "relstorage.trace")
    shutil.move(os.path.join(cache, name), out)
    loads = hits = 0
    with open(out, "rb") as file:
        while head := file.read(RECORD.size):
            _, field, length, _, _ = RECORD.unpack(head)
            file.read(length)
            loads += field & 0xFF in (MISS, HIT)
            hits += field & 0xFF == HIT
    print(json.dumps({"loads": loads, "hits": hits}))


if __name__ == "__main__":
    main()
