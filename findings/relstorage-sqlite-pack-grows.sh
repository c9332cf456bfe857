#!/usr/bin/env bash
# RelStorage 4.3 on SQLite. A pack never makes the database file smaller. It removes the rows of nine old revisions of ten, and the file
# is longer after it: the pack writes tables of its own, and the freed pages stay in the file. `VACUUM`, by hand and with the site
# stopped, gives them back.
#
# Seen: pack: 43.1 to 44.5 MB, 89 % of it free. A second pack changes nothing. After VACUUM: 4.7 MB
. "$(dirname "$0")/common.inc"
install ZODB==6.4 RelStorage==4.3.0
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import os
import sqlite3
import time
import ZODB
from persistent.mapping import PersistentMapping
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage

options = Options(keep_history=True)
FILE = os.path.join("data", "main.sqlite3")


def opened():
    return ZODB.DB(RelStorage(Sqlite3Adapter("data", {}, options=options), options=options))


def packed():
    time.sleep(1.1)
    db = opened()
    db.pack()
    db.close()
    return os.path.getsize(FILE)


db = opened()
for change in range(10):
    with db.transaction() as connection:
        root = connection.root()
        for number in range(3000):
            root.setdefault(str(number), PersistentMapping())["text"] = os.urandom(500).hex()
db.close()
before = os.path.getsize(FILE)
first, second = packed(), packed()
with sqlite3.connect(FILE) as connection:
    free, pages = (connection.execute(f"pragma {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    connection.execute("vacuum")
connection.close()
print("longer", first > before, "again the same", first == second, "mostly free", free > 0.8 * pages)
print("vacuum", os.path.getsize(FILE) < before / 5)
PYTHON
)
saw "a pack makes the file longer" "$(tr '\n' ' ' <<<"$output")" "longer True again the same True mostly free True vacuum True"
