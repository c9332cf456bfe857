"""A real ZEO client among others, which writes down what it did.

    side_by_side.py setup HOST PORT OBJECTS          makes the objects, prints their oids
    side_by_side.py play HOST PORT NUMBER TRANSACTIONS SEED OID...

Each transaction reads some objects and changes some of those. It is one line of JSON: when it began, what it read, what it
wrote, when its commit began and ended, and how. Times are those of the system's monotonic clock, in nanoseconds.
"""

import json
import random
import sys
import time

import transaction
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZODB.DB import DB
from ZODB.POSException import ConflictError
from ZODB.utils import p64, u64


def setup(database, objects):
    with database.transaction() as connection:
        made = [PersistentMapping(label="c0000t000000") for _ in range(objects)]
        connection.root()["objects"] = made
        for one in made:
            connection.add(one)
        print(*[u64(one._p_oid) for one in made])


def play(database, number, transactions, seed, oids):
    dice = random.Random(seed)
    manager = transaction.TransactionManager(explicit=True)
    connection = database.open(manager)
    for turn in range(1, transactions + 1):
        line = {"client": f"python {number}", "begin": time.monotonic_ns(), "tid": None}
        manager.begin()
        chosen = dice.sample(oids, min(len(oids), dice.randint(1, 3)))
        objects = [(oid, connection.get(p64(oid))) for oid in chosen]
        line["reads"] = [(oid, one["label"]) for oid, one in objects]
        changed = objects[: dice.randint(0, 2)]
        label = f"c{number:04}t{turn:06}"
        for _, one in changed:
            one["label"] = label
        line["writes"] = [(oid, label) for oid, _ in changed]
        line["commit"] = time.monotonic_ns()
        try:
            manager.commit()
            line["refused"] = False
            if changed:
                line["tid"] = u64(changed[0][1]._p_serial)
        except ConflictError:
            manager.abort()
            line["refused"] = True
        line["end"] = time.monotonic_ns()
        print(json.dumps(line))
    connection.close()


def main(what, host, port, *rest):
    # The client asks the server at each new transaction, so that it sees what others have committed.
    database = DB(ClientStorage((host, int(port)), wait_timeout=30, server_sync=True))
    numbers = [int(number) for number in rest]
    if what == "setup":
        setup(database, *numbers)
    else:
        number, transactions, seed, *oids = numbers
        play(database, number, transactions, seed, oids)
    database.close()


main(*sys.argv[1:])
