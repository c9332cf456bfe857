"""Measure ZODB's persistent objects on a mail database that mail.py made.

    python objects_bench.py WHAT FILE [COUNT] [OIDS]

WHAT is one of:

    ghosts      make COUNT ghosts
    activate    load the objects of OIDS, which are ghosts at first; FILE is read through FileStorage
    in-memory   the same, with the records in a MappingStorage
    walk        load every object that can be reached from the root, and find those that it refers to
    memory      bytes for each of COUNT ghosts, and for each loaded message of OIDS, as tracemalloc counts them

OIDS is a file with one oid a line, in 16 hex digits. One line of JSON is printed, with `seconds` of the processor
and `count`.
"""

import gc
import json
import sys
import time
import tracemalloc

import ZODB
from persistent import Persistent
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.utils import p64, z64

import mail

# More than there are, so that nothing is evicted while it is timed.
ALL = 10_000_000
CACHED_OBJECTS = 5_000


def opened(path, cache_size):
    database = ZODB.DB(FileStorage(path, read_only=True), cache_size=cache_size)
    return database, database.open()


def timed(action):
    gc.collect()
    started = time.thread_time()
    count = action()
    return {"seconds": time.thread_time() - started, "count": count}


def ghost(connection, number):
    made = mail.Message.__new__(mail.Message)
    connection._cache.new_ghost(p64(number), made)
    return made


def ghosts(path, count, _):
    database, connection = opened(path, ALL)
    room = [None] * count

    def make():
        for number in range(count):
            room[number] = ghost(connection, number + (1 << 40))
        return count

    return timed(make)


def read_oids(path):
    with open(path) as lines:
        return [bytes.fromhex(line.strip()) for line in lines if line.strip()]


def ghosts_of(connection, oids):
    """The objects as ghosts. (To get them loads them.)"""
    objects = [connection.get(oid) for oid in oids]
    connection.cacheMinimize()
    assert all(found._p_changed is None for found in objects)
    return objects


def load_all(objects):
    for found in objects:
        found._p_activate()
    return len(objects)


def activate(path, _, oids):
    database, connection = opened(path, ALL)
    objects = ghosts_of(connection, read_oids(oids))
    return timed(lambda: load_all(objects))


def in_memory(path, _, oids):
    storage = MappingStorage()
    source = FileStorage(path, read_only=True)
    serials = {}
    for copied in source.iterator():
        storage.tpc_begin(copied, copied.tid)
        for record in copied:
            storage.store(record.oid, serials.get(record.oid, z64), record.data, "", copied)
            serials[record.oid] = copied.tid
        storage.tpc_vote(copied)
        storage.tpc_finish(copied)
    source.close()
    connection = ZODB.DB(storage, cache_size=ALL).open()
    objects = ghosts_of(connection, read_oids(oids))
    return timed(lambda: load_all(objects))


def children(value):
    """The persistent objects in a state, found without looking at them."""
    if isinstance(value, Persistent):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from children(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from children(item)


def walk(path, _, __):
    database, connection = opened(path, CACHED_OBJECTS)

    def walk_all():
        root = connection.get(z64)
        seen, stack, count = {root._p_oid}, [root], 0
        while stack:
            here = stack.pop()
            count += 1
            for child in children(here.__getstate__()):
                if child._p_oid not in seen:
                    seen.add(child._p_oid)
                    stack.append(child)
            if count % 1_000 == 0:
                connection.cacheGC()
        return count

    return timed(walk_all)


def memory(path, count, oids):
    database, connection = opened(path, ALL)
    oids = read_oids(oids)
    objects = ghosts_of(connection, oids)
    records = sum(len(connection._storage.load(oid)[0]) for oid in oids)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    load_all(objects)
    gc.collect()
    loaded = tracemalloc.get_traced_memory()[0] - before
    room = [None] * count
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        room[number] = ghost(connection, number + (1 << 40))
    gc.collect()
    ghosts = tracemalloc.get_traced_memory()[0] - before
    return {"ghost": ghosts / count, "message": loaded / len(oids), "record": records / len(oids)}


MEASUREMENTS = {"ghosts": ghosts, "activate": activate, "in-memory": in_memory, "walk": walk, "memory": memory}


def main():
    what, path, *more = sys.argv[1:]
    count = int(more[0]) if more else 0
    oids = more[1] if len(more) > 1 else None
    print(json.dumps(MEASUREMENTS[what](path, count, oids)))


if __name__ == "__main__":
    main()
