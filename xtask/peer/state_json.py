"""Compare states as JSON with what Python loads.

    python state_json.py --random N [--seed S]      print N records, one JSON line each: {data, protocol, pickler}
    python state_json.py --compare FILE             judge the lines of FILE: {data, json, btrees}

`data` is a record in hex: two pickles, of which the second is the state.  `json` and `btrees` are texts: the state
as JSON, by docs/state-json.md, plainly and with what BTrees hold.  Both are read back into Python values and compared
with what the unpickler of CPython makes of `data`: types, values, the order of dicts, and which values are one object.

The unpickler calls nothing of an application's: each class and function is a stand-in that writes down how it was
called and what it was given.  Only what Python itself has for plain values is called (see REAL).

--compare prints one JSON line: {compared, skipped}, or {differs, data, json} for the first difference.  Skipped are
records that Python does not load.
"""

import argparse
import collections
import datetime
import io
import json
import logging
import pickle
import random
import struct
import sys

import zodbpickle.pickle

import pickles
from pickles import Maker, Person

sys.setrecursionlimit(20_000)


# What Python loads.


class Log:
    """How a stand-in was made, and what it was given."""

    def __init__(self):
        self.how = "object"
        self.args = ()
        self.keywords = {}
        self.items = []
        self.pairs = []
        self.states = []


def log_of(made):
    return made.__dict__.setdefault("_log", Log())


class Meta(type):
    def __call__(cls, *args, **keywords):
        made = cls.__new__(cls, *args, **keywords)
        log_of(made).how = "call"
        return made

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(cls.module, f"{cls.name}.{name}")


class StandIn(metaclass=Meta):
    def __new__(cls, *args, **keywords):
        made = object.__new__(cls)
        log_of(made).args, log_of(made).keywords = args, keywords
        return made

    def __setstate__(self, state):
        log_of(self).states.append(state)

    def append(self, item):
        log_of(self).items.append(item)

    add = append

    def extend(self, items):
        log_of(self).items.extend(items)

    def __setitem__(self, key, value):
        log_of(self).pairs.append((key, value))

    def __call__(self, *args):
        return stand_in("", "called")(self, *args)


STAND_INS = {}


def stand_in(module, name):
    if (module, name) not in STAND_INS:
        STAND_INS[module, name] = Meta(name, (StandIn,), {"module": module, "name": name})
    return STAND_INS[module, name]


def reconstructor(module):
    def reconstruct(cls, base, state):
        if base is object and state is None:
            return cls.__new__(cls)
        return stand_in(module, "_reconstructor")(cls, base, state)

    return reconstruct


REAL = {("_codecs", "encode"): __import__("_codecs").encode}
for module in ("builtins", "__builtin__"):
    for cls in (set, frozenset, bytes, bytearray, complex, object, getattr):
        REAL[module, cls.__name__] = cls
for module in ("copyreg", "copy_reg"):
    REAL[module, "_reconstructor"] = reconstructor(module)
    REAL[module, "__newobj__"] = __import__("copyreg").__newobj__
    REAL[module, "__newobj_ex__"] = __import__("copyreg").__newobj_ex__
for name in ("date", "time", "datetime", "timedelta", "timezone"):
    REAL["datetime", name] = getattr(datetime, name)


def find_class(module, name):
    outer, *inner = name.split(".")
    found = REAL.get((module, outer)) or stand_in(module, outer)
    for name in inner:
        found = getattr(found, name)
    return found


class Reference:
    """A persistent id, as the record has it; or what it means, if the JSON says that."""

    def __init__(self, id=None, meaning=None):
        self.id = id
        self.meaning = meaning


class Unpickler(pickle.Unpickler):
    def __init__(self, data):
        super().__init__(io.BytesIO(data), encoding="ascii", errors="surrogateescape")

    def find_class(self, module, name):
        return find_class(module, name)

    def persistent_load(self, id):
        return Reference(id)


def load(data):
    unpickler = Unpickler(data)
    return unpickler.load(), unpickler.load()


# What a persistent id means.


def oid_of(value):
    if isinstance(value, str):
        value = value.encode("ascii", "surrogateescape")
    if not isinstance(value, bytes) or len(value) != 8:
        raise ValueError
    return value.hex()


def class_of(value):
    if isinstance(value, tuple):
        module, name = value
        return find_class(module, name)
    if value is not None and not callable(value):
        raise ValueError
    return value


def meaning_of(id):
    """(weak or not, oid, database, class), or None if the id means nothing."""
    try:
        if isinstance(id, tuple):
            oid, cls = id
            return False, oid_of(oid), None, class_of(cls)
        if not isinstance(id, list):
            return False, oid_of(id), None, None
        if len(id) == 1:
            return True, oid_of(id[0]), None, None
        letter, arguments = id
        if letter == "w":
            oid, *database = arguments
            return True, oid_of(oid), *(database or [None]), None
        if letter == "n":
            database, oid = arguments
            return False, oid_of(oid), database, None
        database, oid, cls = arguments
        return False, oid_of(oid), database, class_of(cls)
    except (ValueError, TypeError, UnicodeError):
        return None


# What the JSON says.


class Hole:
    """The place of a value that is inside itself, until it is made."""

    def __init__(self, label):
        self.label = label


class Skip(Exception):
    pass


class Decoder:
    def __init__(self):
        self.labels = {}
        self.containers = []

    def decode(self, text):
        value = self.value(json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs)))
        self.fixed = {}
        for container in self.containers:
            self.fill(container)
        return self.fix(value)

    def value(self, said, label=None):
        """The value; one that can hold itself is known by its label before what it holds is read."""
        if isinstance(said, list):
            made = self.keep(label, [])
            made.extend(self.value(item) for item in said)
            return made
        if not isinstance(said, tuple):
            return said
        pairs = said[1]
        if pairs and pairs[0][0].startswith("@") and not pairs[0][0].startswith("@@"):
            return self.marked(pairs[0][0][1:], pairs[0][1], dict(pairs[1:]), label)
        made = self.keep(label, {})
        for key, value in pairs:
            key = key[1:] if key.startswith("@@") else key
            assert key not in made, f"{key} is there twice"
            made[key] = self.value(value)
        return made

    def keep(self, label, made):
        if label is not None:
            self.labels[label] = made
        if not isinstance(made, (set, bytearray)):
            self.containers.append(made)
        return made

    def marked(self, marker, what, more, label):
        if marker == "label":
            made = self.value(more.pop("value"), what)
            self.labels.setdefault(what, made)
        elif marker == "again":
            made = self.labels[what] if what in self.labels else Hole(what)
        elif marker == "tuple":
            made = tuple(self.value(item) for item in what)
        elif marker == "set":
            made = self.keep(label, set())
            made.update(self.value(item) for item in what)
        elif marker == "frozenset":
            made = frozenset(self.value(item) for item in what)
        elif marker == "dict":
            made = self.keep(label, {})
            for key, value in what:
                key = self.value(key)
                made[key] = self.value(value)
        elif marker in ("object", "call"):
            return self.object(marker, what, more, label)
        else:
            made = self.plain(marker, what, more)
        assert not more, more
        return made

    def plain(self, marker, what, more):
        if marker == "bytes":
            return bytes.fromhex(what)
        if marker == "bytearray":
            return bytearray.fromhex(what)
        if marker == "native":
            return bytes.fromhex(what).decode("ascii", "surrogateescape")
        if marker == "text":
            return "".join(chr(piece) if isinstance(piece, int) else piece for piece in what)
        if marker == "int":
            return int(what, 0) if "x" in what else int(what)
        if marker == "float":
            bits = more.pop("bits", None)
            return struct.unpack(">d", bytes.fromhex(bits))[0] if bits else float(what)
        if marker in ("date", "time", "datetime"):
            made = getattr(datetime, marker).fromisoformat(what)
            if marker != "date":
                made = made.replace(fold=more.pop("fold", 0))
            if "zone" in more:
                made = made.replace(tzinfo=self.value(more.pop("zone")))
            return made
        if marker == "class":
            return self.named(what)
        if marker in ("ref", "weak"):
            cls = more.pop("class", None)
            cls = None if cls is None else self.named(cls)
            return Reference(meaning=(marker == "weak", what, more.pop("database", None), cls))
        if marker == "persistent":
            made = Reference(self.value(what))
            self.containers.append(made)
            return made
        raise AssertionError(f"@{marker} is no marker")

    def named(self, what):
        module, name = (self.value(part) for part in what)
        return find_class(module, name)

    def object(self, how, what, more, label):
        if isinstance(what, list):
            cls = self.named(what)
        else:
            (((marker, inner),),) = (what[1],)
            assert marker == "@value", marker
            cls = self.value(inner)
        args = self.value(more.pop("arguments")) if "arguments" in more else None
        if args is None:
            args = tuple(self.value(item) for item in more.pop("args", ()))
        keywords = self.value(more.pop("keywords")) if "keywords" in more else {}
        if isinstance(cls, Hole) or isinstance(args, Hole) or not isinstance(args, tuple):
            raise Skip
        real = not (isinstance(cls, Meta) or how == "object")
        if real and any(isinstance(argument, Hole) for argument in args):
            raise Skip
        made = cls.__new__(cls, *args, **keywords) if how == "object" else cls(*args, **keywords)
        if label is not None:
            self.labels[label] = made
        if isinstance(made, StandIn):
            log = log_of(made)
            self.containers.append(made)
            log.items.extend(self.value(item) for item in more.pop("items", ()))
            log.pairs.extend((self.value(key), self.value(value)) for key, value in more.pop("pairs", ()))
            if "state" in more:
                log.states.append(self.value(more.pop("state")))
            log.states.extend(self.value(state) for state in more.pop("states", ()))
        assert not more, more
        return made

    # Holes.

    def fix(self, value):
        if isinstance(value, Hole):
            return self.fix(self.labels[value.label])
        if not isinstance(value, tuple) or not value:
            return value
        if id(value) not in self.fixed:
            items = [self.fix(item) for item in value]
            same = all(one is other for one, other in zip(items, value))
            # The old tuple is kept, so that no other one gets its place in memory.
            self.fixed[id(value)] = value if same else tuple(items), value
        return self.fixed[id(value)][0]

    def fill(self, container):
        if isinstance(container, list):
            container[:] = [self.fix(item) for item in container]
        elif isinstance(container, dict):
            for key in container:
                container[key] = self.fix(container[key])
        elif isinstance(container, Reference):
            container.id = self.fix(container.id)
        else:
            log = log_of(container)
            log.args = self.fix(log.args)
            log.items = [self.fix(item) for item in log.items]
            log.pairs = [(self.fix(key), self.fix(value)) for key, value in log.pairs]
            log.states = [self.fix(state) for state in log.states]


def btree_state(cls, said):
    """The JSON of the state that a BTree's class has, where `said` tells what it holds; None if it says nothing."""
    marker = said[1][0][0] if isinstance(said, tuple) and said[1] else None
    as_tuple = lambda items: ("object", [("@tuple", items)])
    members = dict(said[1]) if marker else {}
    if marker in ("@items", "@keys"):
        items = members[marker]
        flat = [part for pair in items for part in pair] if marker == "@items" else items
        bucket = as_tuple([as_tuple(flat)] + ([members["next"]] if "next" in members else []))
        is_tree = cls.name.endswith(("BTree", "TreeSet"))
        return as_tuple([as_tuple([bucket])]) if is_tree else bucket
    if marker == "@children":
        first, *rest = members[marker]
        return as_tuple([as_tuple([first] + [part for pair in rest for part in pair]), members["first"]])
    return None


# Comparing.


def difference(ours, theirs):
    """Where and how what the JSON says differs from what Python loads; None if it does not."""
    one, other, kept = {}, {}, {}
    work = [("state", ours, theirs)]
    while work:
        where, a, b = work.pop()
        if isinstance(a, Reference) and isinstance(b, Reference):
            if a.meaning is None:
                work.append((where + ".id", a.id, b.id))
            elif a.meaning != meaning_of(b.id):
                return f"{where}: {a.meaning} is not {b.id!r}"
            continue
        if type(a) is not type(b):
            return f"{where}: {a!r:.100} is not {b!r:.100}"
        if isinstance(a, float):
            if struct.pack(">d", a) != struct.pack(">d", b):
                return f"{where}: {a!r} is not {b!r}"
            continue
        if not isinstance(a, (tuple, list, dict, StandIn, set, bytearray)) or a == ():
            fold = lambda value: getattr(value, "fold", None)
            if a is not b and (a != b or fold(a) != fold(b) or repr(a) != repr(b)) and not isinstance(a, frozenset):
                return f"{where}: {a!r:.100} is not {b!r:.100}"
            if isinstance(a, frozenset) and a != b:
                return f"{where}: {a!r:.100} is not {b!r:.100}"
            continue
        # What is one object here must be one there.
        if one.setdefault(id(a), id(b)) != id(b) or other.setdefault(id(b), id(a)) != id(a):
            return f"{where}: shared otherwise: {a!r:.100}"
        # Each pair once, and both are kept, so that no other value gets the place of one in memory.
        if id(a) in kept:
            continue
        kept[id(a)] = a, b
        if isinstance(a, (tuple, list)):
            if len(a) != len(b):
                return f"{where}: {len(a)} items and not {len(b)}"
            work.extend((f"{where}[{n}]", x, y) for n, (x, y) in enumerate(zip(a, b)))
        elif isinstance(a, dict):
            if len(a) != len(b):
                return f"{where}: {len(a)} keys and not {len(b)}"
            for n, (x, y) in enumerate(zip(a.items(), b.items())):
                work.append((f"{where}.key{n}", x[0], y[0]))
                work.append((f"{where}[{x[0]!r:.20}]", x[1], y[1]))
        elif isinstance(a, (set, bytearray)):
            if a != b:
                return f"{where}: {a!r:.100} is not {b!r:.100}"
        else:
            if type(a) is not type(b) or log_of(a).how != log_of(b).how:
                return f"{where}: {log_of(a).how} is not {log_of(b).how}"
            for name in ("args", "keywords", "items", "pairs", "states"):
                x, y = getattr(log_of(a), name), getattr(log_of(b), name)
                # These are lists of ours, and not the record's.
                if len(x) != len(y):
                    return f"{where}.{name}: {len(x)} and not {len(y)}"
                flat = [part for pair in zip(x, y) for part in zip(*pair)] if name == "pairs" else zip(x, y)
                flat = zip(x.values(), y.values()) if name == "keywords" else flat
                work.extend((f"{where}.{name}", p, q) for p, q in flat)
    return None


def judge(line):
    """None if the line's JSON says what Python loads."""
    data = bytes.fromhex(line["data"])
    try:
        cls, state = load(data)
    except Exception as error:
        raise Skip from error
    found = difference(Decoder().decode(line["json"]), state)
    if found:
        return found
    if "btrees" in line:
        said = json.loads(line["btrees"], object_pairs_hook=lambda pairs: ("object", pairs))
        rebuilt = btree_state(cls, said) if isinstance(cls, Meta) and cls.module.startswith("BTrees.") else None
        if rebuilt is None:
            return None if line["btrees"] == line["json"] else "with and without BTrees it is not the same"
        decoder = Decoder()
        made = decoder.value(rebuilt)
        found = difference(made, state)
        return found and f"BTrees: {found}"
    return None


def compare(path):
    compared = skipped = 0
    with open(path) as lines:
        for line in lines:
            line = json.loads(line)
            try:
                found = judge(line)
            except Skip:
                skipped += 1
                continue
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            if found:
                print(json.dumps({"differs": found, **line}))
                return
            compared += 1
    print(json.dumps({"compared": compared, "skipped": skipped}))


# Making up records.


class Cart:
    class Item:
        pass


class Bag(list):
    """With items, attributes and keyword arguments."""

    def __new__(cls, *args, size=0):
        return list.__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"size": [1, 2]}


for cls, name in ((Cart, "Cart"), (Cart.Item, "Cart.Item"), (Bag, "Bag")):
    cls.__module__, cls.__qualname__ = "app.bank", name
    if "." not in name:
        setattr(sys.modules["app.bank"], name, cls)


class StateMaker(Maker):
    """Makes up states in which more is shared, looks like a marker, or is of a rare kind."""

    def leaf(self):
        rng = self.random
        if rng.random() < 0.6:
            return super().leaf()
        time = datetime.time(rng.randrange(24), 30, tzinfo=rng.choice((None, datetime.timezone.utc)), fold=rng.randrange(2))
        makers = (
            lambda: Cart.Item,
            lambda: rng.choice((0.1, 1e16, 1e22, 5e-324, -0.0, 1.0, 123456789.125)),
            lambda: rng.choice((2**53 - 1, 2**53, -(2**53), 2**63, -(2**63), 2**127, -(2**127), 10**60)),
            lambda: rng.choice(("@tuple", "@@", "@", "", "\x00\x1f\x7f\u2028\ud800", "\udc00\ud800", "\U0001f40d")),
            lambda: datetime.datetime(rng.randrange(1, 9999), 2, 3, 4, 5, 6, rng.choice((0, 7, 700_000)), fold=rng.randrange(2)),
            lambda: datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1, microseconds=3))),
            lambda: datetime.date(rng.randrange(1, 9999), 12, 31),
            lambda: time,
            lambda: collections.OrderedDict,
        )
        made = rng.choice(makers if self.any_bytes else makers[:4])()
        return made

    def key(self):
        rng = self.random
        if rng.random() < 0.5:
            return super().key()
        return rng.choice(("@tuple", "@@tuple", "@ref", "@", "a", "b", None, True, 1.5, -0.0, (), frozenset(), "\ud800"))

    def container(self, depth):
        rng = self.random
        if rng.random() < 0.6:
            return super().container(depth)
        makers = (
            list,
            dict,
            set,
            lambda: frozenset((1, "a", (2,))),
            lambda: self.bag(depth),
            lambda: Cart.Item(),
            lambda: {self.key(): value for value in self.values(depth) * 4},
            lambda: [self.made[-1]] * 3 if self.made else [],
        )
        return rng.choice(makers)()

    def bag(self, depth):
        bag = Bag()
        bag.extend(self.values(depth))
        bag.more = self.value(depth - 1)
        return bag


def made_up(count, seed):
    rng = random.Random(seed)
    while count:
        pickler = rng.choice(("pickle", "pickle", "pickle", "zodbpickle", "python2"))
        protocol = rng.choice(pickles.PROTOCOLS[pickler])
        maker = StateMaker(rng, pickler, protocol)
        try:
            data, _ = pickles.dump(pickler, protocol, Person, maker.state())
        except (pickle.PicklingError, zodbpickle.pickle.PicklingError):
            continue  # zodbpickle does not write a class in a class
        count -= 1
        yield {"data": data.hex(), "protocol": protocol, "pickler": pickler}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--random", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compare", metavar="FILE")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if args.compare is not None:
        compare(args.compare)
    elif args.random is not None:
        for record in made_up(args.random, args.seed):
            print(json.dumps(record))
    else:
        parser.error("give either --random or --compare")


if __name__ == "__main__":
    main()
