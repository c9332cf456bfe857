"""Conversations of clients with `runzeo` and with `vellum serve`: see recorded.py.

Each function `talk_...` is a script for clients of one server. `t.client` connects and registers one; what it calls, and all
that comes back until the answer, is a step. The database is that of `recorded.make`. Oids: 0 the root, 1 a length, 2 to 4
mappings.
"""

import pickle
import struct
import time

import msgpack
from ZEO.asyncio.marshal import encoder
from ZODB.utils import maxtid, p64, u64, z64

FILES = "<filestorage 1>\n path Data.fs\n</filestorage>\n<filestorage 2>\n path Other.fs\n</filestorage>\n"


def mapping(n):
    """A record of a mapping."""
    return (
        b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.\x80\x03}q\x00X\x04\x00\x00\x00dataq\x01}q\x02"
        b"X\x01\x00\x00\x00nq\x03K" + bytes([n]) + b"ss."
    )


def length(n):
    """A record of a `Length`."""
    return b"\x80\x03cBTrees.Length\nLength\nq\x00.\x80\x03K" + bytes([n]) + b"."


def talk_greetings(t):
    for answer in [b"Z5", b"M5"]:
        a = t.bare("answers %s," % answer.decode())
        a.greet(answer)
        a.speak("msgpack" if answer == b"M5" else "pickle")
        a.call("register", "1", False)
        a.call("ping")
    for answer in [b"Z4", b"Z309", b"Z310", b"Z3101", b"Z6", b"5", b"Z"]:
        a = t.bare("answers %s," % answer.decode())
        a.greet(answer)
        a.end()
    a = t.bare("is not ready,")
    a.frame(b"ruok")
    a.end("status")


def talk_registering(t):
    a = t.bare("a")
    a.greet()
    for name in ["nope", b"1", 1, None]:
        a.call("register", name, False, label="register %r" % name)
    a.call("register", "2", False)
    a.call("get_info")
    a.call("lastTransaction")
    a.call("register", "2", False)
    b = t.bare("b")
    b.greet()
    b.call("get_info")
    c = t.bare("c")
    c.greet()
    c.tell("register", "1", 0)
    c.sync()
    d = t.bare("d")
    d.greet()
    d.tell("register", "nope", 0)
    d.end()


def talk_reading(t):
    a = t.client("a")
    a.call("get_info")
    last = a.call("lastTransaction")
    tids = sorted(t.known)
    for oid in range(5):
        a.call("getTid", p64(oid))
        a.call("loadBefore", p64(oid), maxtid)
        for tid in [tids[0], tids[1], tids[3], p64(1), z64]:
            a.call("loadBefore", p64(oid), tid)
            a.call("loadSerial", p64(oid), tid)
        for size in [0, 1, 100, -1]:
            a.call("history", p64(oid), size)
        a.call("history", p64(oid))
    for name, more in [("getTid", ()), ("loadBefore", (maxtid,)), ("loadSerial", (last,)), ("history", (1,))]:
        a.call(name, p64(99), *more, label="%s of nothing" % name)
    for start in [None, z64, p64(1), p64(3), p64(4), p64(5), maxtid]:
        a.call("record_iternext", start)
    a.call("record_iternext")
    for tid in [last, maxtid, tids[0], tids[-2], z64, p64(u64(tids[-2]) + 1)]:
        a.call("getInvalidations", tid)
    a.call("server_status")
    a.call("ping")
    a.call("set_client_label", "label")


def talk_oids(t):
    a = t.client("a")
    for count in [(), (1,), (3,), (0,), (-5,), (100,), (101,)]:
        a.call("new_oids", *count)
    a.call("new_oid")


def talk_commits(t):
    a = t.client("a")
    tid = a.commit(11, (2, a.serial(2), mapping(7)), user=b"ada", description=b"words")
    a.call("loadBefore", p64(2), maxtid)
    a.call("loadBefore", p64(2), tid)
    a.call("lastTransaction")
    a.commit(12)
    a.commit(13, (9, z64, mapping(1)), (10, z64, mapping(2)))
    a.commit(14, (9, a.serial(9), mapping(3)), (10, a.serial(10), mapping(4)))
    a.call("history", p64(9), 10)
    a.call("undoLog", 0, -3)
    a.call("get_info")
    a.call("server_status")
    # An object twice.
    serial = a.serial(3)
    a.commit(16, (3, serial, mapping(1)), (3, serial, mapping(2)))
    a.call("loadBefore", p64(3), maxtid)
    # A serial of None, as for a new object.
    a.begin(17)
    a.store(17, 11, None, mapping(1))
    a.store(17, 12, "\0" * 8, mapping(1))
    a.call("vote", 17)
    a.call("tpc_finish", 17)
    # A record of some size.
    a.commit(18, (2, a.serial(2), mapping(7) + b"x" * 300000))
    a.call("loadBefore", p64(2), maxtid)


def talk_extensions(t):
    a = t.client("a")
    a.commit(1, (2, a.serial(2), mapping(7)), extension={"x": 1, "description": "not this one"})
    a.call("undoLog", 0, -1)
    a.call("history", p64(2), 1)
    a.call("iterator_start", a.serial(2), None)
    a.call("iterator_next", 0)


def talk_all_at_once(t):
    a = t.client("a")
    a.batch([
        (0, True, "tpc_begin", (15, b"", b"", {}, None, " ")),
        (0, True, "storea", (p64(2), a.serial(2), mapping(8), 15)),
        (91, False, "vote", (15,)),
        (92, False, "tpc_finish", (15,)),
    ])
    a.answer("all of a commit", 92)
    a.batch([
        (0, True, "tpc_begin", (16, b"", b"", {}, None, " ")),
        (0, True, "storea", (p64(2), a.serial(2), mapping(9), 16)),
        (93, False, "vote", (16,)),
        (94, False, "tpc_finish", (16,)),
        (95, False, "ping", ()),
    ])
    a.answers("a call behind a finish", [93, 94, 95])


def talk_text_for_bytes(t):
    a = t.client("a")
    a.begin(11, "ada", "words", None)
    a.store(11, 2, a.serial(2), mapping(7))
    a.call("vote", 11)
    a.call("tpc_finish", 11)
    a.call("undoLog", 0, -1)
    a.begin(12, b"", b"", b"")
    a.call("vote", 12)
    a.call("tpc_finish", 12)
    a.call("iterator_start", None, None)
    for _ in range(11):
        a.call("iterator_next", 0)


def talk_aborts(t):
    a = t.client("a")
    a.call("tpc_abort", 11)
    a.call("tpc_finish", 11)
    a.call("vote", 11)
    a.begin(11)
    a.store(11, 2, a.serial(2), mapping(7))
    a.call("tpc_abort", 12)
    a.call("tpc_finish", 12)
    a.call("tpc_finish", 11)
    a.call("vote", 12)
    a.call("tpc_abort", 11)
    a.begin(13)
    a.store(13, 2, a.serial(2), mapping(7))
    a.call("vote", 13)
    a.call("tpc_abort", 13)
    a.call("loadBefore", p64(2), maxtid)
    a.begin(14)
    a.begin(14)
    a.call("tpc_begin", 14, b"", b"", {})
    a.call("tpc_begin", 15, b"", b"", {})
    a.call("vote", 14)
    a.call("vote", 14)
    a.call("tpc_finish", 14)
    a.call("tpc_finish", 14)
    a.call("storea", p64(2), z64, mapping(1), 14)
    a.call("server_status")


def talk_conflicts(t):
    a = t.client("a")
    old = a.serial(2)
    a.commit(11, (2, old, mapping(7)))
    a.begin(12)
    a.store(12, 2, old, mapping(8))
    a.call("vote", 12)
    a.call("tpc_abort", 12)
    a.call("tpc_finish", 12)
    for what, oid, serial, data in [
        ("created twice", 2, z64, mapping(8)),
        ("of a serial that never was", 2, p64(77), mapping(8)),
        ("of a record without a class", 2, old, b"rubbish"),
        ("of a record without a state", 2, old, mapping(1)[:50]),
        ("of another class", 1, old, mapping(1)),
    ]:
        b = t.client(what)
        b.begin(13)
        b.store(13, oid, serial, data)
        b.call("vote", 13)
        b.call("tpc_abort", 13)
        b.stream.close()
    # Merged.
    old = a.serial(1)
    a.commit(17, (1, old, length(5)))
    a.commit(18, (1, old, length(10)))
    a.call("loadBefore", p64(1), maxtid)
    a.call("server_status")


def talk_not_there(t):
    a = t.client("a")
    a.begin(1)
    a.store(1, 55, a.serial(2), mapping(8))
    a.call("vote", 1)


def talk_what_was_read(t):
    a = t.client("a")
    old = a.serial(3)
    a.commit(19, (3, old, mapping(1)))
    a.begin(20)
    a.tell("checkCurrentSerialInTransaction", p64(3), old, 20)
    a.call("vote", 20)
    a.begin(21)
    a.tell("checkCurrentSerialInTransaction", p64(3), a.serial(3), 21)
    a.call("vote", 21)
    a.call("tpc_finish", 21)
    a.begin(22)
    a.tell("checkCurrentSerialInTransaction", p64(66), old, 22)
    a.call("vote", 22)
    a.call("server_status")


def talk_deleting(t):
    a, b = t.client("a"), t.client("b")
    old = a.serial(4)
    a.begin(11)
    a.tell("deleteObject", p64(4), old, 11)
    a.call("vote", 11)
    deleted = a.call("tpc_finish", 11)
    a.call("loadBefore", p64(4), maxtid)
    a.call("loadBefore", p64(4), deleted)
    b.sync()
    a.call("getTid", p64(4))
    a.call("loadSerial", p64(4), deleted)
    a.call("history", p64(4), 10)
    a.call("getInvalidations", old)
    a.begin(12)
    a.tell("deleteObject", p64(2), z64, 12)
    a.call("vote", 12)
    a.begin(13)
    a.tell("deleteObject", p64(55), z64, 13)
    a.call("vote", 13)
    a.call("record_iternext", p64(4))
    a.call("server_status")


def talk_restoring(t):
    a = t.client("a")
    tid = p64(u64(a.call("lastTransaction")) + 16)
    t.known.add(tid)
    a.begin(11, b"copy", b"", {}, tid, "p")
    a.tell("restorea", p64(20), tid, mapping(1), None, 11)
    a.tell("restorea", p64(2), tid, mapping(2), None, 11)
    a.call("vote", 11)
    a.call("tpc_finish", 11)
    for oid in [2, 20]:
        a.call("loadBefore", p64(oid), maxtid)
    a.call("getInvalidations", max(t.known - {tid}))
    a.call("iterator_start", tid, None)
    a.call("iterator_next", 0)
    a.call("iterator_record_start", 0, tid)
    for _ in range(3):
        a.call("iterator_record_next", 1)
    # A tid of the past.
    a.begin(12, b"", b"", {}, min(t.known), " ")
    a.tell("restorea", p64(21), min(t.known), mapping(1), None, 12)
    a.call("vote", 12)


def talk_undo(t):
    a = t.client("a")
    log = a.call("undoLog", 0, 100)
    for first, last in [(0, -2), (1, 3), (2, -1), (5, 5), (3, 1), (0, 0), (100, 200), (-3, 5)]:
        a.call("undoLog", first, last)
    a.call("undoInfo", 0, -20, None)
    a.call("undoInfo", 0, -20, {})
    a.call("undoInfo", 0, -20, {"user_name": b"user3"})
    a.call("undoInfo", 0, -20, {"user_name": "user3"})
    a.call("undoInfo", 0, -20, {"number": 2})
    a.begin(11, description=b"undo")
    a.tell("undoa", log[1]["id"], 11)
    a.call("vote", 11)
    a.call("tpc_finish", 11)
    a.call("undoLog", 0, 3)
    for oid in range(5):
        a.call("history", p64(oid), 3)
        a.call("loadBefore", p64(oid), maxtid)
    # Undos of transactions that cannot be undone, and of some that never were.
    for n, id in enumerate([log[4]["id"], log[-1]["id"], b"AAAAAAAAAAA=", b"rubbish", b"AAAA", b"", "text"]):
        a.begin(20 + n)
        a.tell("undoa", id, 20 + n)
        a.call("vote", 20 + n, label="undo of %r" % (id if len(id) < 12 else n))
        a.call("tpc_abort", 20 + n)
    # The undo of the undo, and two at once.
    log = a.call("undoLog", 0, 100)
    a.begin(31)
    a.tell("undoa", log[0]["id"], 31)
    a.call("vote", 31)
    a.call("tpc_finish", 31)
    a.begin(32)
    a.tell("undoa", log[1]["id"], 32)
    a.tell("undoa", log[2]["id"], 32)
    a.call("vote", 32)
    a.call("tpc_finish", 32)
    a.call("getInvalidations", max(t.known))


def talk_iterating(t):
    a = t.client("a")
    tids = sorted(t.known)
    a.call("iterator_start", None, None)
    for n in range(len(tids) + 2):
        found = a.call("iterator_next", 0)
        if n < 2 and found:
            a.call("iterator_record_start", 0, found[0])
            for _ in range(7):
                a.call("iterator_record_next", n + 1)
    a.call("iterator_start", tids[2], tids[4])
    for _ in range(4):
        a.call("iterator_next", 3)
    a.call("iterator_next", 77)
    a.call("iterator_record_next", 77)
    a.call("iterator_record_start", 77, tids[0])
    a.call("iterator_start", tids[4], tids[2])
    a.call("iterator_next", 4)
    a.call("iterator_start", maxtid, None)
    a.call("iterator_next", 5)
    a.call("iterator_start", None, None)
    a.call("iterator_record_start", 6, tids[0], label="before the first")
    a.call("iterator_next", 6)
    a.call("iterator_record_start", 6, tids[3], label="of another")
    a.call("iterator_gc", [6, 99])
    a.call("iterator_next", 6)
    a.tell("iterator_gc", (1, 2))
    b = t.client("b")
    b.call("iterator_next", 6)
    b.call("iterator_start", None, z64)
    b.call("iterator_next", 0)


def talk_packing(t):
    a, b = t.client("a"), t.client("b")
    for n in range(3):
        a.commit(11 + n, (2, a.serial(2), mapping(n)))
    b.sync()
    a.call("pack", 0.0, True, label="pack to 1970")
    b.sync()
    a.call("pack", time.time() + 100, True)
    b.sync()
    a.call("pack", time.time() + 100)
    a.call("pack", int(time.time()) + 100, 1)
    b.sync()
    a.call("history", p64(2), 10)
    a.call("undoLog", 0, 10)
    a.call("iterator_start", None, None)
    for _ in range(8):
        a.call("iterator_next", 0)
    a.call("get_info")
    a.call("getInvalidations", min(t.known))
    a.call("loadBefore", p64(2), a.serial(2))


def talk_two_clients(t):
    a, b = t.client("a"), t.client("b")
    c = t.client("reader", read_only=True)
    other = t.bare("other")
    other.greet()
    other.call("register", "2", False)
    a.commit(11, (2, a.serial(2), mapping(1)), (9, z64, mapping(1)))
    for client in [b, c, other]:
        client.sync()
    a.commit(12)
    b.sync()
    b.call("lastTransaction")
    b.call("getInvalidations", max(t.known))
    # Both change one object: the second has to wait.
    serial = a.serial(3)
    a.begin(13)
    a.store(13, 3, serial, mapping(1))
    a.call("vote", 13)
    b.begin(14)
    b.store(14, 3, serial, mapping(2))
    b.send(51, False, "vote", (14,))
    b.sync()
    b.call("loadBefore", p64(3), maxtid)
    b.call("vote", 14, label="vote again")
    a.call("tpc_finish", 13)
    b.answer("the vote that waited", 51)
    b.call("tpc_abort", 14)
    # The one that waits gives up; the one that is waited for goes away.
    serial = a.serial(3)
    a.begin(15)
    a.store(15, 3, serial, mapping(3))
    a.call("vote", 15)
    b.begin(16)
    b.store(16, 3, serial, mapping(4))
    b.send(52, False, "vote", (16,))
    b.call("tpc_abort", 16)
    b.begin(17)
    b.store(17, 3, serial, mapping(5))
    b.send(53, False, "vote", (17,))
    b.sync()
    a.stream.close()
    b.answer("the vote after a client that is gone", 53)
    b.call("tpc_finish", 17)
    c.sync()
    other.sync()
    c.call("server_status")


def talk_reading_only(t):
    a = t.client("a", read_only=True)
    a.call("loadBefore", z64, maxtid)
    for name, args in [
        ("new_oids", ()), ("tpc_begin", (1, b"", b"", {})), ("storea", (z64, z64, b"", 1)), ("vote", (1,)), ("tpc_finish", (1,)),
        ("tpc_abort", (1,)), ("undoa", (b"", 1)), ("deleteObject", (z64, z64, 1)), ("restorea", (z64, z64, b"", None, 1)),
        ("checkCurrentSerialInTransaction", (z64, z64, 1)),
    ]:
        a.call(name, *args)
    a.call("pack", 0.0, True)
    a.tell("tpc_begin", 1, b"", b"", {})
    a.end()


def talk_read_only_server(t):
    a = t.bare("a")
    a.greet()
    a.call("register", "1", False)
    a.call("register", "1", True)
    a.call("get_info")
    a.call("new_oids")
    a.call("pack", 0.0, True)


def talk_read_only_storage(t):
    a = t.bare("a")
    a.greet()
    a.call("register", "1", False)
    a.call("register", "1", True)
    a.call("get_info")
    a.call("pack", 0.0, True)
    a.call("undoLog", 0, 2)


def talk_methods(t):
    for name in [
        "nonsense", "_x", "close", "ruok", "load", "store", "undo", "tpc_vote", "lastTransactionX", "__class__", "", ".reply",
        b"ping", 5, None,
    ]:
        a = t.client("calls %r," % (name,))
        a.call(name, label="it")
        a.end()


def talk_arguments(t):
    a = t.client("a")
    for name, args in [
        ("ping", (1,)), ("lastTransaction", (1,)), ("get_info", (1,)), ("loadBefore", ()), ("loadBefore", (z64,)),
        ("loadBefore", (z64, z64, z64)), ("loadBefore", (b"short", maxtid)), ("loadBefore", ("text....", maxtid)),
        ("loadBefore", (None, maxtid)), ("loadBefore", (z64, None)), ("loadBefore", (z64, b"")), ("getTid", ()),
        ("getTid", (b"",)), ("history", ()), ("history", (z64, None)), ("history", (z64, "1")), ("history", (z64, 1, 2)),
        ("history", (None, 1)), ("new_oids", ("1",)), ("new_oids", (1, 2)), ("getInvalidations", ()), ("getInvalidations", (5,)),
        ("undoLog", ()), ("undoLog", (0,)), ("undoInfo", (0, 1)), ("pack", ()), ("iterator_start", ()), ("iterator_next", ()),
        ("iterator_gc", (5,)), ("iterator_gc", ()), ("tpc_begin", ()), ("tpc_begin", (1, 2)), ("storea", ()), ("storea", (z64, z64)),
        ("vote", ()), ("tpc_finish", ()), ("tpc_abort", ()), ("server_status", (1,)), ("set_client_label", ()),
        ("set_client_label", (5,)), ("undoa", ()), ("record_iternext", (5,)), ("sendBlob", ()), ("storeBlobEnd", ()),
        ("restorea", ()), ("deleteObject", ()), ("checkCurrentSerialInTransaction", ()),
    ]:
        a.call(name, *args, label="%s%r" % (name, args), patience=2)


def talk_one_way(t):
    a = t.client("a")
    # A call of what is usually one-way is answered.
    a.call("tpc_begin", 1, b"", b"", {}, None, " ")
    a.call("storea", p64(2), a.serial(2), mapping(1), 1)
    a.call("checkCurrentSerialInTransaction", p64(3), a.serial(3), 1)
    a.call("iterator_gc", ())
    a.call("vote", 1)
    a.call("tpc_finish", 1)
    for n, (name, args) in enumerate([
        ("nonsense", ()), ("storea", (z64, z64, b"", 5)), ("loadBefore", ()), ("getTid", (p64(77),)), ("register", ("1", False)),
        ("storeBlobStart", ()), ("undoa", (b"", 1)),
    ]):
        a = t.client("tells %s %d," % (name, n))
        a.tell(name, *args)
        a.end()
    a = t.client("tells what is a call,")
    a.tell("ping")
    a.tell("loadBefore", z64, maxtid)
    a.tell("new_oids")
    a.tell("get_info")
    a.call("new_oids", 1)
    a.tell("vote", 5)
    a.end()


def talk_ids(t):
    a = t.client("a")
    for id in [None, 1.5, b"bytes", "text", (1, (2, b"x")), 2**63 - 1, -(2**63), 0, True, False, (), -2, ""]:
        a.ask(id, False, "ping", (), label="ping %r" % (id,))
    a.frame(a.encode(-1, 0, ".reply", None))
    for flag in [0, None, 0.0, "", (), b""]:
        a.frame(a.encode(5, flag, "ping", ()))
        a.answer("flag %r" % (flag,), 5)
    for flag in [1, 2, "x", (0,), -1, 1.0]:
        a.frame(a.encode(6, flag, "ping", ()))
        a.call("ping", label="after flag %r" % (flag,))
    # Transactions are named by anything.
    for id in [2**47, "name", b"name", (1, 2), None, 1.5]:
        a.begin(id)
        a.call("vote", id, label="vote %r" % (id,))
        a.call("tpc_finish", id, label="finish %r" % (id,))


def talk_broken(t):
    good = encoder(t.bare("unused").protocol)(1, False, "ping", ())
    for name, data in [
        ("nothing", b""), ("a byte", b"\x00"), ("text", b"salty"), ("ruok", b"ruok"), ("half", good[:-3]),
        ("more", good + b"xyz"),
    ]:
        a = t.client("sends %s," % name)
        a.frame(data)
        a.end()
    for parts in [(1, False, "ping"), (1, False, "ping", (), ()), (), 5, "x", None, {"a": 1}]:
        a = t.client("sends %r," % (parts,))
        a.frame(packed(t, parts))
        a.end()
    for args in [None, 5, [], {}, "", b"", "xy"]:
        a = t.client("has arguments %r," % (args,))
        a.frame(packed(t, (1, False, "ping", args)))
        a.end()
    # Frames in pieces, and many in one.
    a = t.client("in pieces")
    for byte in struct.pack(">I", len(good)) + good:
        a.raw(bytes([byte]))
    a.answer("bytes", 1)
    a.batch([(n, False, "ping", ()) for n in range(20)])
    a.answer("many", 19)
    # A length without an end: others are served.
    b = t.client("long")
    b.raw(b"\x7f\xff\xff\xffx")
    a.call("ping")
    if t.codec == "pickle":
        for name, data in [
            ("a class", b"\x80\x03(K\x01K\x00X\x04\x00\x00\x00pingcdatetime\ndate\nt."),
            ("protocol 2", b"\x80\x02(K\x01K\x00X\x04\x00\x00\x00ping)t."),
            ("protocol 0", b"(I1\nI0\nVping\n(tt."),
            ("protocol 4", b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00(K\x01K\x00\x8c\x04ping)t."),
            ("a memo", b"\x80\x03(K\x01q\x00K\x00X\x04\x00\x00\x00pingq\x01)tq\x02."),
        ]:
            a = t.client("sends %s," % name)
            a.frame(data)
            a.end()


def packed(t, value):
    if t.codec == "msgpack":
        return msgpack.packb(value, use_bin_type=True)
    return pickle.dumps(value, 3)


def talk_blobs(t):
    a = t.client("a")
    a.call("sendBlob", p64(2), a.serial(2))
    a.begin(1)
    a.call("storeBlobStart")
    a.call("storeBlobChunk", b"x")
    a.call("storeBlobEnd", p64(2), z64, b"", 1)
    a.call("storeBlobShared", p64(2), z64, b"", "x.tmp", 1)


def talk_memory(t):
    a, b = t.client("a"), t.client("b")
    a.call("get_info")
    a.call("lastTransaction")
    a.call("getInvalidations", z64)
    a.call("loadBefore", z64, maxtid)
    a.call("new_oids", 2)
    tid = a.commit(1, (0, z64, mapping(1)))
    b.sync()
    a.call("getInvalidations", z64)
    a.call("get_info")
    for name, args in [
        ("undoLog", (0, 9)), ("undoInfo", (0, 9, None)), ("history", (z64, 9)), ("getTid", (z64,)), ("loadSerial", (z64, tid)),
        ("record_iternext", (None,)), ("iterator_start", (None, None)), ("iterator_next", (0,)), ("pack", (1.0, True)),
    ]:
        a.call(name, *args)
    a.begin(2)
    a.store(2, 0, p64(5), mapping(1))
    a.call("vote", 2)
    for name, args in [("deleteObject", (z64, tid, 3)), ("undoa", (b"AAAAAAAAAAA=", 3)), ("restorea", (p64(3), tid, b"x", None, 3))]:
        a.begin(3)
        a.tell(name, *args)
        a.call("vote", 3, label="vote of %s" % name)
        a.call("tpc_abort", 3)


def talk_demo(t):
    a = t.client("a")
    a.call("get_info")
    a.call("lastTransaction")
    a.call("getInvalidations", max(t.known))
    a.call("loadBefore", p64(2), maxtid)
    a.commit(1, (2, a.serial(2), mapping(9)))
    a.call("loadBefore", p64(2), maxtid)
    a.call("history", p64(2), 9)
    a.call("undoLog", 0, 9)
    a.call("loadBefore", p64(77), maxtid)
    a.call("get_info")


def talk_client_resolves(t):
    a = t.client("a")
    old = a.serial(2)
    new = a.commit(1, (2, old, mapping(5)))
    a.begin(2)
    a.store(2, 2, old, mapping(9))
    a.store(2, 3, a.serial(3), mapping(9))
    a.call("vote", 2)
    a.call("loadSerial", p64(2), new)
    a.call("tpc_finish", 2)
    a.store(2, 2, new, mapping(11))
    a.call("vote", 2)
    a.call("tpc_finish", 2)
    a.call("loadBefore", p64(2), maxtid)
    a.begin(3)
    a.tell("checkCurrentSerialInTransaction", p64(2), old, 3)
    a.call("vote", 3)
    a.call("server_status")
    b = t.client("b")
    old = b.serial(1)
    b.commit(4, (1, old, length(5)))
    b.begin(5)
    b.store(5, 1, old, length(9))
    b.call("vote", 5, label="vote on a length")


TALKS = {name.removeprefix("talk_"): function for name, function in list(globals().items()) if name.startswith("talk_")}
CONFS = {
    "read_only_server": ("read-only true", FILES),
    "read_only_storage": ("", FILES.replace("path", "read-only true\n path")),
    "client_resolves": ("client-conflict-resolution true", FILES),
    "memory": ("", "<mappingstorage 1>\n</mappingstorage>\n"),
    "demo": ("", "<demostorage 1>\n<filestorage>\npath Data.fs\n</filestorage>\n</demostorage>\n"),
}
