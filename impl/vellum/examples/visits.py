"""Python's side of visits.rs: counts on the same counter, at the same time.

    python visits.py HOST PORT VISITS
"""

import sys

import transaction
import ZODB
from BTrees.Length import Length
from persistent.list import PersistentList
from ZEO.ClientStorage import ClientStorage


def attempt(work):
    """Does some work in a transaction, again after each conflict."""
    for attempt in transaction.manager.attempts(10):
        with attempt:
            work()


def main(host, port, visits):
    database = ZODB.DB(ClientStorage((host, int(port)), wait_timeout=30))
    root = database.open().root()

    def make():
        if "visits" not in root:
            root["visits"] = Length()

    def note():
        if "log" not in root:
            root["log"] = PersistentList()
        root["log"].append(f"Python counted {visits} visits")

    attempt(make)
    for _ in range(int(visits)):
        attempt(lambda: root["visits"].change(1))
    attempt(note)
    transaction.begin()
    print(f"{root['visits']()} visits; {visits} of Python")
    database.close()


main(*sys.argv[1:])
