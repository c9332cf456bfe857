"""The Python side of objects that Python and Rust change in turns.

    object_turns.py         reads a request a line, and answers each with a line; all are JSON
    object_turns.py --same  reads two records a line, in hex; says of each pair whether both load to the same; one record
                            alone is refused by the other side

| request                                      | answer                                             |
|----------------------------------------------|----------------------------------------------------|
| {do: turn, path, histories: {name: ops}, end} | {name: things}, as they were before the steps      |
| {do: connect, host, port}                    | {}; the database of a server, until the end        |
| {do: begin, history}                         | its things, at the beginning of a new transaction  |
| {do: steps, history, ops}                    | {}                                                 |
| {do: finish}                                 | {conflict}: the transaction was committed, or not  |
| {do: abort}                                  | {}                                                 |

A history is a mapping in the root, from labels to its things: mappings, lists, notes and counters. A value is a list of its kind
and its contents, as `Plain` in xtask/src/peers/objects/plain.rs writes it.
"""

import json
import logging
import struct
import sys

import transaction
import ZODB
from BTrees.Length import Length
from persistent import Persistent
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

import state_json


class Note(Persistent):
    def __init__(self):
        self.title = ""
        self.size = 0
        self.tags = []
        self.about = None


Note.__module__ = "notes"
sys.modules["notes"] = sys.modules[__name__]
KINDS = {"mapping": PersistentMapping, "list": PersistentList, "note": Note, "counter": Length}
FIELDS = ("title", "size", "tags", "about")


# Values.

def shortest(number):
    """A whole number in two's complement, little-endian, as short as can be."""
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    if len(data) > 1 and data[-1] in (0, 255) and (data[-2] >= 128) == (data[-1] == 255):
        data = data[:-1]
    return data.hex()


def show(value, labels):
    """A value in JSON."""
    def all_of(items):
        return [show(item, labels) for item in items]
    if value is None:
        return ["none"]
    if isinstance(value, Persistent):
        return ["ref", labels[id(value)]]
    kind = type(value)
    if kind is bool:
        return ["bool", value]
    if kind is int:
        return ["int", str(value)] if -(2 ** 63) <= value < 2 ** 63 else ["big", shortest(value)]
    if kind is float:
        return ["float", struct.pack(">d", value).hex()]
    if kind is str:
        return ["text", value]
    if kind is bytes:
        return ["bytes", value.hex()]
    if kind is dict:
        return ["dict", [[show(key, labels), show(item, labels)] for key, item in value.items()]]
    if kind is set:
        return ["set", sorted(all_of(value), key=json.dumps)]
    assert kind in (tuple, list), kind
    return [kind.__name__, all_of(value)]


def read(shown, things):
    """A value from JSON."""
    kind, contents = shown[0], shown[1] if len(shown) > 1 else None
    if kind == "none":
        return None
    if kind == "ref":
        return things[contents]
    if kind in ("bool", "text"):
        return contents
    if kind == "int":
        return int(contents)
    if kind == "big":
        return int.from_bytes(bytes.fromhex(contents), "little", signed=True)
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(contents))[0]
    if kind == "bytes":
        return bytes.fromhex(contents)
    if kind == "dict":
        return {read(key, things): read(item, things) for key, item in contents}
    return {"tuple": tuple, "list": list, "set": set}[kind](read(item, things) for item in contents)


# Things.

def show_thing(thing, labels):
    if isinstance(thing, PersistentMapping):
        return {"mapping": [[show(key, labels), show(item, labels)] for key, item in thing.items()]}
    if isinstance(thing, PersistentList):
        return {"list": [show(item, labels) for item in thing]}
    if isinstance(thing, Length):
        return {"counter": thing()}
    thing._p_activate()
    more = {name: show(item, labels) for name, item in thing.__dict__.items() if name not in FIELDS}
    shown = {name: show(getattr(thing, name), labels) for name in FIELDS}
    return {"note": {**shown, "more": more}}


def show_all(root, history):
    things = root.get(history, {})
    labels = {id(thing): label for label, thing in things.items()}
    return {label: show_thing(thing, labels) for label, thing in things.items()}


def step(root, history, op, savepoints):
    if history not in root:
        root[history] = PersistentMapping()
    things = root[history]
    what, thing = op["op"], things.get(op.get("on"))
    value = read(op["value"], things) if "value" in op else None
    if what == "make":
        things[op["on"]] = KINDS[op["kind"]]()
    elif what == "savepoint":
        savepoints.append(transaction.savepoint())
    elif what == "rollback":
        savepoints[-1].rollback()
    elif what == "set":
        thing[read(op["key"], things)] = value
    elif what == "del":
        del thing[read(op["key"], things)]
    elif what == "clear":
        thing.clear()
    elif what == "insert":
        thing.insert(op["at"], value)
    elif what == "put":
        thing[op["at"]] = value
    elif what == "cut":
        del thing[op["at"]]
    elif what == "reverse":
        thing.reverse()
    elif what == "attribute":
        setattr(thing, op["name"], value)
    elif what == "forget":
        delattr(thing, op["name"])
    else:
        assert what == "count", what
        thing.change(op["by"])


def turn(request):
    # A crash of the machine may cost the file, which is made for this check.
    sys.modules["ZODB.FileStorage.FileStorage"].fsync = None
    database = ZODB.DB(FileStorage(request["path"]))
    connection = database.open()
    root, shown = connection.root(), {}
    for history, ops in request["histories"].items():
        shown[history] = show_all(root, history)
        savepoints = []
        for op in ops:
            step(root, history, op, savepoints)
        if request["end"] == "commit":
            transaction.commit()
        else:
            transaction.abort()
    connection.close()
    database.close()
    return shown


class Client:
    """A client of a server, with one connection."""

    def __init__(self, host, port):
        from ZEO.ClientStorage import ClientStorage
        self.database = ZODB.DB(ClientStorage((host, port), wait_timeout=30, server_sync=True))
        self.connection = self.database.open()

    def answer(self, request):
        what, root = request["do"], self.connection.root()
        if what == "begin":
            transaction.begin()
            return show_all(root, request["history"])
        if what == "steps":
            savepoints = []
            for op in request["ops"]:
                step(root, request["history"], op, savepoints)
            return {}
        if what == "abort":
            transaction.abort()
            return {}
        assert what == "finish", what
        try:
            transaction.commit()
            return {"conflict": False}
        except ConflictError:
            transaction.abort()
            return {"conflict": True}


def converse():
    client = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "turn":
            answer = turn(request)
        elif request["do"] == "connect":
            client, answer = Client(request["host"], request["port"]), {}
        else:
            answer = client.answer(request)
        print(json.dumps(answer), flush=True)


# Records, with stand-ins for classes, so that every record that the unpickler can read is read.

def shape(value):
    """A value as something that can be compared. Which values are shared does not count."""
    def all_of(values):
        return [shape(item) for item in values]
    if isinstance(value, state_json.Reference):
        # The meaning: an oid may be bytes or text of Python 2. A class that is none is no part of it.
        meaning = state_json.meaning_of(value.id)
        if meaning is None and isinstance(value.id, tuple):
            meaning = state_json.meaning_of(value.id[0])
        return "reference", all_of(meaning or [value.id])
    if isinstance(value, state_json.Meta):
        return "class", value.module, value.name
    if isinstance(value, state_json.StandIn):
        log = state_json.log_of(value)
        return "object", shape(type(value)), all_of([log.args, log.keywords, log.states, log.items, log.pairs])
    name = type(value).__name__
    if isinstance(value, dict):
        return name, all_of(value.items())
    if isinstance(value, (set, frozenset)):
        return name, sorted(map(repr, all_of(value)))
    if isinstance(value, (tuple, list)):
        return name, all_of(value)
    return name, repr(value)


def verdict(one, other=None):
    if one == other:
        return "bytes"
    try:
        before = state_json.load(one)
    except Exception:
        return "unreadable"
    if other is None:
        return "refused"
    return "loads" if shape(before) == shape(state_json.load(other)) else "differs"


def main():
    logging.disable(logging.CRITICAL)
    if "--same" in sys.argv:
        for line in sys.stdin:
            print(verdict(*(bytes.fromhex(part) for part in line.split())))
        return
    converse()


main()
