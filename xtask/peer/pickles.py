"""Print what ZODB finds in pickles, to hold another reader of pickles against.

    python pickles.py FILE
    python pickles.py --random N [--seed S]

One JSON line a record.  With FILE, every record of every transaction, in the file's order: {oid, tid}, and

    references  the oids of ZODB's referencesf: in hex, sorted, one for each time they occur
    class       module and name as ZODB's get_pickle_metadata reports them, joined by a dot

both null where the record has no data.  When referencesf fails, `references` is null and `error` says why;
the same for get_pickle_metadata with `class` and `class_error`.

With --random, N records of made-up data instead: {data, protocol, pickler}, `references` and `class` as
above, and `planted`: the oids that were put in as ordinary references, in the form of `references`.  They
hold persistent references of every shape ZODB knows (protocol 0 has only the first).  ZODB's own answer is
an error for protocols 4 and 5, for oids that protocols 1 and 2 spell as a call, and for Python 2 strings
that are not ASCII; `planted` still tells what is there.  `pickler` is pickle, zodbpickle, or python2: the
strings and the instances of Python 2, where an oid was a `str`.
"""

import argparse
import collections
import datetime
import decimal
import io
import json
import logging
import math
import pickle
import random
import sys
import types

import zodbpickle.pickle
from ZODB.FileStorage import FileIterator
from ZODB.serialize import referencesf
from ZODB.utils import get_pickle_metadata

PROTOCOLS = {"pickle": range(6), "zodbpickle": range(4), "python2": range(3)}


def hexed(oids):
    return sorted(oid.hex() for oid in oids)


def answer(data):
    """What ZODB says about a record."""
    said = {"references": None, "class": None}
    if data is None:
        return said
    try:
        said["references"] = hexed(referencesf(data))
    except Exception as error:
        said["error"] = f"{type(error).__name__}: {error}"
    try:
        said["class"] = ".".join(get_pickle_metadata(data))
    except Exception as error:
        said["class_error"] = f"{type(error).__name__}: {error}"
    return said


def records_of(path):
    for transaction in FileIterator(path):
        for record in transaction:
            yield {"oid": record.oid.hex(), "tid": record.tid.hex(), **answer(record.data)}


def classes():
    """Classes in modules of their own, for the pickles to name."""

    class Person:
        class Badge:
            pass

    class Point(tuple):
        def __new__(cls, *coordinates):
            return tuple.__new__(cls, coordinates)

        def __getnewargs__(self):
            return tuple(self)

    class Money:
        def __init__(self, *args):
            self.args = args

        def __reduce__(self):
            return Money, self.args

    made = []
    for module, cls in (("people", Person), ("app.geometry", Point), ("app.bank", Money)):
        cls.__module__, cls.__qualname__ = module, cls.__name__
        for name in (module.split(".")[0], module):
            sys.modules.setdefault(name, types.ModuleType(name))
        setattr(sys.modules[module], cls.__name__, cls)
        made.append(cls)
    Person.Badge.__module__, Person.Badge.__qualname__ = "people", "Person.Badge"
    return made


Person, Point, Money = classes()


class Reference:
    """Stands for an object of its own: pickled as a persistent reference, `id`.

    `oid` is what referencesf should report, or None where the shape is none that it reports.
    """

    def __init__(self, id, oid):
        self.id = id
        self.oid = oid


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, and Person as it wrote instances of old-style classes."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_str(self, data):
        if not self.bin:
            self.write(pickle.STRING + repr(data)[1:].encode("ascii") + b"\n")
        elif len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(data)

    def save_instance(self, person):
        self.write(pickle.MARK)
        if self.bin:
            self.save(Person)
            self.write(pickle.OBJ)
        else:
            self.write(pickle.INST + f"{Person.__module__}\n{Person.__name__}\n".encode("ascii"))
        self.memoize(person)
        self.save(person.__dict__)
        self.write(pickle.BUILD)

    dispatch[bytes] = save_str
    dispatch[Person] = save_instance


BASES = {"pickle": pickle.Pickler, "zodbpickle": zodbpickle.pickle.Pickler, "python2": Python2Pickler}


def dump(pickler, protocol, class_description, state):
    """The record and the oids of the ordinary references in it; one memo serves both its pickles."""
    planted = []

    class Pickler(BASES[pickler]):
        def persistent_id(self, obj):
            if not isinstance(obj, Reference):
                return None
            if obj.oid is not None:
                planted.append(obj.oid)
            return obj.id

    file = io.BytesIO()
    writer = Pickler(file, protocol)
    writer.dump(class_description)
    writer.dump(state)
    return file.getvalue(), planted


class Maker:
    """Makes up the data of one record."""

    def __init__(self, rng, pickler, protocol):
        self.random = rng
        self.pickler = pickler
        self.protocol = protocol
        # Now and then the oids and strings of old pickles that ZODB cannot read today.
        self.any_bytes = pickler != "python2" or rng.random() < 0.1
        self.bytes_oids = pickler == "python2" or protocol >= 3 or rng.random() < 0.1
        # zodbpickle does not write a class in a class, and Python 2 could not.
        self.nested = (Person.Badge,) if pickler == "pickle" else ()
        self.made = []

    def oid(self):
        """Both as bytes and as it is to be pickled."""
        rng = self.random
        if self.bytes_oids and self.any_bytes and self.protocol > 0:
            oid = rng.choice((rng.randrange(1 << 16), rng.getrandbits(64))).to_bytes(8, "big")
        else:
            # Protocol 0 writes a reference as a line of ASCII.
            oid = bytes(5) + bytes(rng.choice([b for b in range(128) if b not in b"\r\n"]) for _ in range(3))
        return oid, oid if self.bytes_oids and self.protocol > 0 else oid.decode("ascii")

    def reference(self):
        rng = self.random
        oid, spelled = self.oid()
        if self.protocol == 0:
            return Reference(spelled, oid)
        cls = rng.choice((Person, Point, Money, collections.OrderedDict, *self.nested))
        database = rng.choice(("main", "archive", "", "dépôt"))
        id, ordinary = rng.choice(
            (
                (spelled, True),
                ((spelled, cls), True),
                ((spelled, cls), True),
                ((spelled, (cls.__module__, cls.__qualname__)), True),
                ((spelled, None), True),
                (["w", (spelled,)], False),
                (["w", (spelled, database)], False),
                (["m", (database, spelled, cls)], False),
                (["n", (database, spelled)], False),
                ([spelled], False),
            )
        )
        if isinstance(id, tuple) and rng.random() < 0.05:
            id = (spelled, self.reference())  # of a class that is an object in the database itself
        return Reference(id, oid if ordinary else None)

    def class_description(self):
        rng = self.random
        cls = rng.choice((Person, Point, Money, *self.nested))
        named = cls.__module__, cls.__qualname__
        makers = (
            lambda: cls,
            lambda: cls,
            lambda: cls,
            lambda: (cls, (self.value(1), self.value(1))),
            lambda: (cls, None),
            lambda: (named, None),
            lambda: (named, (self.value(1),)),
            lambda: (self.reference(), None),
        )
        return rng.choice(makers)()

    def text(self):
        rng = self.random
        length = rng.choice((0, 1, 5, 20, 20, 20, 255, 256, 300))
        if rng.random() < 0.01:
            length = 70_000
        if rng.random() < 0.02:
            return "\ud800" * 2
        alphabet = rng.choice(("abcdefgh .,'\"\\\n", "aéßøÿ", "a☃漢\U0001f600\0"))
        return "".join(rng.choices(alphabet, k=length))

    def data(self):
        rng = self.random
        length = rng.choice((0, 1, 8, 8, 20, 255, 256, 300))
        return rng.randbytes(length) if self.any_bytes else bytes(rng.choices(range(128), k=length))

    def integer(self):
        rng = self.random
        bits = rng.choice((1, 7, 8, 15, 16, 31, 32, 63, 64, 200, 2_040, 2_200))
        return rng.choice((-1, 1)) * rng.choice((rng.getrandbits(bits), 1 << bits, (1 << bits) - 1))

    def leaf(self):
        rng = self.random
        makers = (
            self.text,
            self.text,
            self.data,
            self.integer,
            lambda: None,
            lambda: rng.random() < 0.5,
            lambda: rng.choice((0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, rng.gauss(0, 1e9))),
            lambda: complex(rng.random(), -1),
            self.date,
            lambda: decimal.Decimal(rng.randrange(10**6)) / 100,
            lambda: bytearray(self.data()),
            lambda: rng.choice((Person, Point, len, dict)),
        )
        return rng.choice(makers)()

    def date(self):
        if not self.any_bytes:  # a year of our days takes a byte that is not ASCII
            return datetime.timedelta(self.random.randrange(1_000))
        return datetime.datetime(2024, 2, 29, 12, self.random.randrange(60), tzinfo=datetime.timezone.utc)

    def key(self):
        makers = (self.text, self.data, self.integer, lambda: (self.integer(), self.text()))
        return self.random.choice(makers)()

    def values(self, depth):
        return [self.value(depth - 1) for _ in range(self.random.choice((0, 1, 2, 2, 3, 3, 4, 6)))]

    def container(self, depth):
        makers = (
            lambda: self.values(depth),
            lambda: tuple(self.values(depth)),
            lambda: {self.key(): value for value in self.values(depth)},
            lambda: {self.key(): value for value in self.values(depth)},
            # Of strings one at most, for their order in a set differs from run to run.
            lambda: {self.integer() for _ in range(3)},
            lambda: frozenset([self.key()]),
            lambda: collections.OrderedDict((self.key(), value) for value in self.values(depth)),
            lambda: collections.deque(self.values(depth), 9),
            lambda: Money(*self.values(depth)),
            lambda: Point(*self.values(depth)),
            lambda: self.person(depth),
            lambda: self.cycle(depth),
            lambda: self.cycle_of_tuple(depth),
            lambda: self.many(),
        )
        return self.random.choice(makers)()

    def person(self, depth):
        person = Person()
        person.name = self.text()
        person.__dict__.update((f"field_{i}", value) for i, value in enumerate(self.values(depth)))
        return person

    def cycle(self, depth):
        cycle = self.values(depth)
        cycle.append({"self": cycle, "pair": (cycle, 1)})
        return cycle

    def cycle_of_tuple(self, depth):
        cycle = (self.values(depth), *self.values(depth))
        cycle[0].append(cycle)
        return cycle

    def many(self):
        """Enough for a memo of more than 256 entries, and for more than one batch of items."""
        if self.random.random() < 0.9:
            return []
        names = [f"name-{i}" for i in range(self.random.choice((300, 1_001)))]
        return names + names[::7]

    def value(self, depth):
        rng = self.random
        dice = rng.random()
        if dice < 0.2:
            value = self.reference()
        elif dice < 0.3 and self.made:
            return rng.choice(self.made)
        elif dice < 0.5 or depth <= 0:
            value = self.leaf()
        else:
            value = self.container(depth)
        self.made.append(value)
        return value

    def state(self):
        if self.random.random() < 0.1:
            return self.value(4)
        return {f"attribute_{i}": self.value(4) for i in range(self.random.randint(1, 6))}


def random_records(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        pickler = rng.choice(list(PROTOCOLS))
        protocol = rng.choice(PROTOCOLS[pickler])
        maker = Maker(rng, pickler, protocol)
        data, planted = dump(pickler, protocol, maker.class_description(), maker.state())
        yield {
            "data": data.hex(),
            "protocol": protocol,
            "pickler": pickler,
            "planted": hexed(planted),
            **answer(data),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", nargs="?")
    parser.add_argument("--random", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if (args.file is None) == (args.random is None):
        parser.error("give either a file or --random")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for record in records_of(args.file) if args.file else random_records(args.random, args.seed):
        print(json.dumps(record))


if __name__ == "__main__":
    main()
