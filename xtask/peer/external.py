"""Find garbage in databases that refer to each other with zc.zodbdgc, to hold another collector against.

    python external.py make FOLDER CASES SEED
    python external.py again FOLDER CASES

The first makes, for each case, three databases that refer to each other at random, FOLDER/CASE/NAME.fs, has zc.zodbdgc
look at copies of them, and prints a line: `growing` or `changing`, the tid (in hex) from which on all is recent, and the
garbage as NAME:OID (in hex).  In a growing case no reference is ever taken away.  The second has zc.zodbdgc look at the
databases as they are now, with nothing that is recent, and prints the garbage of each case.
"""

import logging
import os
import random
import shutil
import sys
import time

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from ZODB.FileStorage import FileStorage
from zc.zodbdgc import gc

logging.disable(logging.CRITICAL)
# It rests after each deletion.
time.sleep = lambda seconds: None

NAMES = ("archive", "main", "users")


def make(folder, dice, growing):
    """Gives the tids of all transactions."""
    os.makedirs(folder)
    databases = {}
    for name in NAMES:
        ZODB.DB(FileStorage(os.path.join(folder, name + ".fs")), databases=databases, database_name=name)
    connection = databases["main"].open()
    connections = {name: connection.get_connection(name) for name in NAMES}
    objects = [connections[name].root() for name in NAMES]
    tids = []
    for n in range(dice.randrange(5, 40)):
        for _ in range(dice.randrange(1, 6)):
            what = dice.random()
            some = dice.choice(objects)
            if what < 0.4:
                new = PersistentMapping()
                connections[dice.choice(NAMES)].add(new)
                objects.append(new)
                if dice.random() < 0.5:
                    some[str(len(objects))] = new
            elif what < 0.8:
                other = dice.choice(objects)
                some[f"{n} {dice.random()}"] = WeakRef(other) if dice.random() < 0.2 else other
            elif not growing and some.data:
                del some[dice.choice(sorted(some.keys()))]
        transaction.commit()
        tids.extend(databases[name].storage.lastTransaction() for name in NAMES)
    connection.close()
    for database in databases.values():
        database.close()
    return tids


def look(folder, ptid):
    """What is garbage; it is deleted from copies."""
    conf = []
    for name in NAMES:
        copy = os.path.join(folder, "copy-" + name + ".fs")
        for old in (copy, copy + ".index"):
            if os.path.exists(old):
                os.remove(old)
        shutil.copy(os.path.join(folder, name + ".fs"), copy)
        conf.append(f"<zodb {name}>\n  <filestorage>\n    path {copy}\n  </filestorage>\n</zodb>\n")
    path = os.path.join(folder, "zodb.conf")
    with open(path, "w") as file:
        file.writelines(conf)
    return " ".join(f"{name}:{oid:016x}" for name, oid in gc(path, ptid=ptid, return_bad=True))


def main(what, folder, cases, seed="0"):
    dice = random.Random(int(seed))
    for case in range(int(cases)):
        here = os.path.join(folder, str(case))
        if what == "make":
            growing = dice.random() < 0.5
            tids = make(here, dice, growing)
            ptid = dice.choice(tids) if dice.random() < 0.7 else b"\x7f" + b"\xff" * 7
            print("growing" if growing else "changing", ptid.hex(), look(here, ptid))
        else:
            print(look(here, b"\x7f" + b"\xff" * 7))


if __name__ == "__main__":
    main(*sys.argv[1:])
