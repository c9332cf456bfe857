"""Measure ZODB's objects and B-trees: the mail benchmark, insertions, lookups and ranges.

    python object_writes_bench.py mail FILE MESSAGES         makes the messages in a new FILE, a commit every ten
    python object_writes_bench.py insert FILE KEYS EVERY     puts keys into an LOBTree in a new FILE, a commit every so
                                                             many, or none if EVERY is 0
    python object_writes_bench.py lookup FILE KEYS           looks keys up in the LOBTree of FILE, which is in memory
    python object_writes_bench.py range FILE ENDS            lists ranges of it

MESSAGES is JSON: for each message its fields in order, the parent as the number of an earlier message. KEYS and ENDS
are numbers of 8 bytes, little-endian. One line of JSON is printed, with `seconds` of the processor, `wall` seconds of
the clock, and `count`. ZODB syncs once a commit, which is what it does by itself.
"""

import gc
import json
import os
import sys
import time
from array import array

import transaction
import ZODB
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileStorage

import mail

# More than there are, so that nothing is evicted while it is timed.
ALL = 10_000_000
BATCH = 10
VALUE = b"v" * 32


def timed(action):
    gc.collect()
    began, started = time.perf_counter(), time.thread_time()
    count = action()
    return {"seconds": time.thread_time() - started, "wall": time.perf_counter() - began, "count": count}


def created(path):
    for suffix in ("", ".index", ".tmp", ".lock"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    return ZODB.DB(FileStorage(path), cache_size=ALL).open()


def numbers(path):
    found = array("q")
    with open(path, "rb") as file:
        found.frombytes(file.read())
    return found.tolist()


def write_mail(path, messages):
    with open(messages) as file:
        plans = json.load(file)
    connection = created(path)
    root = connection.root()
    root["mail"] = mailbox = PersistentMapping()
    by_id, by_date, by_sender = OOBTree(), LOBTree(), OOBTree()
    mailbox.update(by_id=by_id, by_date=by_date, by_sender=by_sender)
    transaction.commit()

    def deliver():
        made = []
        for id, sender, date, subject, body, flags, parent in plans:
            message = mail.Message(id, sender, date, subject, body, flags, None if parent is None else made[parent])
            by_id[id] = message
            by_date[date] = message
            sent = by_sender.get(sender)
            if sent is None:
                by_sender[sender] = sent = OOTreeSet()
            sent.add(id)
            made.append(message)
            if len(made) % BATCH == 0:
                transaction.commit()
        transaction.commit()
        return len(made)

    return timed(deliver)


def insert(path, keys, every):
    keys, every = numbers(keys), int(every)
    connection = created(path)
    connection.root()["tree"] = tree = LOBTree()
    transaction.commit()

    def fill():
        size = every or len(keys)
        for first in range(0, len(keys), size):
            for key in keys[first:first + size]:
                tree[key] = VALUE
            if every:
                transaction.commit()
        return len(keys)

    found = timed(fill)
    transaction.abort()
    return found


def loaded(path):
    connection = ZODB.DB(FileStorage(path, read_only=True), cache_size=ALL).open()
    tree = connection.root()["tree"]
    len(tree)
    return tree


def lookup(path, keys):
    tree, keys = loaded(path), numbers(keys)

    def look():
        for key in keys:
            tree.get(key)
        return len(keys)

    return timed(look)


def list_ranges(path, ends):
    tree, ends = loaded(path), numbers(ends)

    def walk():
        count = 0
        for low, high in zip(ends[::2], ends[1::2]):
            for key, value in tree.items(low, high):
                count += 1
        return count

    return timed(walk)


MEASUREMENTS = {"mail": write_mail, "insert": insert, "lookup": lookup, "range": list_ranges}


def main():
    what, *arguments = sys.argv[1:]
    print(json.dumps(MEASUREMENTS[what](*arguments)))


if __name__ == "__main__":
    main()
