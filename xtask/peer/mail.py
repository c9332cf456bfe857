"""Write a mail database with the real ZODB, to measure and to compare on.

    python mail.py OUT.fs --messages N [--seed S]

Ten messages a transaction; B-tree indexes by id, by date and by sender.  The clock is ours and nothing
else is left to chance, so one seed gives one file, byte for byte.  An existing OUT.fs is replaced.

Progress goes to stderr; stdout gets one JSON line: {size, objects, transactions, messages}.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import deque

import transaction
import ZODB
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileStorage

PER_TRANSACTION = 10
CACHED_OBJECTS = 5_000
EPOCH = 1_704_067_200  # 2024-01-01T00:00:00Z
MEDIAN_BODY, SPREAD, SHORTEST, LONGEST = 2_350, 0.9, 512, 30 * 1024


class Message(Persistent):
    def __init__(self, id, sender, date, subject, body, flags, parent):
        self.id = id
        self.sender = sender
        self.date = date
        self.subject = subject
        self.body = body
        self.flags = flags
        self.parent = parent


# The records say `mail.Message`, whether this file runs as a script or is imported.
Message.__module__ = "mail"
sys.modules["mail"] = sys.modules[__name__]


class Clock:
    """Stands in for time.time, from which ZODB makes its transaction ids."""

    def __init__(self):
        self.now = float(EPOCH)

    def __call__(self):
        return self.now


class Writer:
    """Makes up messages."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        syllables = [c + v for c in "bcdfghjklmnprstvz" for v in ("a", "e", "i", "o", "u", "é", "an", "er")]
        words = ["".join(self.random.choices(syllables, k=self.random.randint(1, 4))) for _ in range(4_000)]
        self.words = words
        self.spaced = [word + (".\n" if i % 12 == 0 else " ") for i, word in enumerate(words)]
        self.per_word = sum(len(word.encode()) for word in self.spaced) / len(self.spaced)
        self.senders = [f"{word}.{i}@example.org" for i, word in enumerate(words[:1_500])]
        self.recent = deque(maxlen=500)

    def subject(self):
        return " ".join(self.random.choices(self.words, k=self.random.randint(2, 8)))

    def body(self):
        """Random words; the length in bytes is log-normal, within bounds."""
        length = self.random.lognormvariate(0, SPREAD) * MEDIAN_BODY
        length = min(max(length, SHORTEST), LONGEST)
        return "".join(self.random.choices(self.spaced, k=round(length / self.per_word)))

    def message(self, number, date):
        rng = self.random
        parent = rng.choice(self.recent) if self.recent and rng.random() < 0.6 else None
        # A few senders write most of the mail.
        sender = self.senders[int(len(self.senders) * rng.random() ** 3)]
        message = Message(
            id=f"{rng.getrandbits(48):012x}.{number}@example.org",
            sender=sender,
            date=date,
            subject=("Re: " if parent is not None else "") + self.subject(),
            body=self.body(),
            flags={
                "seen": rng.random() < 0.8,
                "answered": rng.random() < 0.3,
                "flagged": rng.random() < 0.05,
            },
            parent=parent,
        )
        self.recent.append(message)
        return message


def write(path, messages, seed, clock):
    """Writes the database and returns its summary."""
    for leftover in (path, path + ".index", path + ".tmp", path + ".lock"):
        if os.path.exists(leftover):
            os.remove(leftover)
    storage = FileStorage(path)
    db = ZODB.DB(storage, cache_size=CACHED_OBJECTS)
    connection = db.open()
    root = connection.root()
    root["mail"] = mailbox = PersistentMapping()
    by_id, by_date, by_sender = OOBTree(), LOBTree(), OOBTree()
    mailbox.update(by_id=by_id, by_date=by_date, by_sender=by_sender)
    commit(clock, "admin", "make the mailbox")

    writer = Writer(seed)
    started = time.perf_counter()
    for first in range(0, messages, PER_TRANSACTION):
        last = min(first + PER_TRANSACTION, messages)
        for number in range(first, last):
            # In milliseconds, and so that no two messages share a date.
            date = EPOCH * 1_000 + number * 60_000 + writer.random.randrange(60_000)
            message = writer.message(number, date)
            by_id[message.id] = message
            by_date[date] = message
            sent = by_sender.get(message.sender)
            if sent is None:
                by_sender[message.sender] = sent = OOTreeSet()
            sent.add(message.id)
        commit(clock, f"deliver-{first // PER_TRANSACTION % 7}", f"messages {first} to {last - 1}")
        if last % 10_000 == 0:
            print(f"{last} messages, {time.perf_counter() - started:.1f} s", file=sys.stderr)

    transactions = sum(1 for _ in storage.iterator())
    summary = {
        "size": storage.getSize(),
        "objects": len(storage),
        "transactions": transactions,
        "messages": messages,
    }
    connection.close()
    db.close()
    return summary


def commit(clock, user, description):
    clock.now += 1.0
    current = transaction.get()
    current.setUser(user)
    current.note(description)
    transaction.commit()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    # A crash may cost us the file, not more: flush to disk once, at the end, instead of at every commit.
    sys.modules["ZODB.FileStorage.FileStorage"].fsync = None
    real, clock = time.time, Clock()
    time.time = clock
    try:
        summary = write(args.out, args.messages, args.seed, clock)
    finally:
        time.time = real
    with open(args.out, "rb") as file:
        os.fsync(file.fileno())
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
