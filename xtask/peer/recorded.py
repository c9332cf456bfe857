"""Conversations with `runzeo` and with `vellum serve`, which must answer with the same frames.

    recorded.py VELLUM FOLDER CODEC [--only TEXT] [--show]

Each script of talks.py is what clients send, step by step. It is played to both servers, each with its own copy of
one database. The frames that come back are compared step by step, byte for byte; tids that are new, and times made of them, are
numbered in the order in which they appear. CODEC is pickle or msgpack.

The differences on purpose are in `DIFFERENT`, with their reasons; docs/serving.md has them for users. Any other difference
fails, and so does a line of that list which is not needed. `--show` prints all that was recorded.
"""

import argparse
import base64
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import transaction
import ZODB.DB
from BTrees.Length import Length
from persistent.mapping import PersistentMapping
from ZEO.asyncio.marshal import decoder, encoder
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64

from talks import CONFS, FILES, TALKS

PATIENCE = 8


# ---- Differences on purpose


class Different:
    """A difference: where (a pattern for `talk/step`), and what each side says (patterns for frames as they are shown).

    With `apart` the frames must be the same without what that pattern finds.
    """

    def __init__(self, where, reason, theirs=".*", ours=".*", apart=None, codec=""):
        self.where, self.reason, self.theirs, self.ours, self.apart, self.codec = where, reason, theirs, ours, apart, codec
        self.uses = 0

    def fits(self, where, theirs, ours):
        fits = (
            re.fullmatch(self.where, where)
            and re.fullmatch(self.theirs, theirs, re.DOTALL)
            and re.fullmatch(self.ours, ours, re.DOTALL)
            and (self.apart is None or self.without(theirs) == self.without(ours))
        )
        self.uses += bool(fits)
        return fits

    def without(self, shown):
        return re.sub(r" = [0-9a-f]+|%s" % self.apart, "", shown)


def raises(name, text=""):
    return r"\([^,]*, 2, '\.reply', \('%s', .*%s.*" % (re.escape(name), text)


def answers(text):
    return r"\([^,]*, 0, '\.reply', %s\).*" % text


TYPE_ERROR = raises("builtins.TypeError")
OIDS = r"(?:, )?b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x(?:02|04|14)'|[()\[\],]|in any order|'.reply'| "

EXTENSIONS = r", 'vellum': \('loadMany', 'prefetch', 'versions'\)"

DIFFERENT = [
    Different(".*get_info.*", "Vellum's own clients are offered more", apart=EXTENSIONS),
    Different("(arguments|broken)/.*", "Python has its own words for wrong arguments", TYPE_ERROR, TYPE_ERROR),
    Different(
        "arguments/a (loadBefore|history).*", "an oid that is none names no object; there, what no oid can be is not foreseen",
        raises("builtins.AssertionError"), raises("ZODB.POSException.POSKeyError"),
    ),
    Different("arguments/a loadBefore.*b''.*", "a tid of no bytes is no tid", answers("None"), TYPE_ERROR),
    Different("arguments/a iterator_start..", "the limits may be left out", TYPE_ERROR, answers("0")),
    Different("arguments/a set_client_label.5.*", "a label is text", answers("None"), TYPE_ERROR),
    Different("broken/has arguments .*", "arguments are a tuple or a list", answers("None"), TYPE_ERROR),
    Different(
        "blobs/a storeBlob(Chunk|End)", "says why", raises("builtins.TypeError", "NoneType"),
        raises("builtins.TypeError", "Blobs are not supported"),
    ),
    Different(
        "undo/a undo of .*", "what is no name of a transaction is always the same error",
        r"\([^,]*, 2, '\.reply', \('(binascii.Error|builtins.AssertionError|builtins.TypeError)', .*",
        raises("binascii.Error"),
    ),
    Different("extensions/.*", "the pickle of an extension has no memo, and so is shorter", apart=r"'size': \d+"),
    Different(
        "not_there/.*", "rule 3.1: nobody can have read an object that is not there (docs/findings/filestorage.md)", answers(r"(\[\]|\(\))"),
        raises("ZODB.POSException.ConflictError"),
    ),
    Different("conflicts/of a record without a class vote", "a record that is none has no class", apart=r"'class_name': (None|'.')"),
    Different("deleting/(b ping|a getInvalidations)", "deleted objects are named", apart=OIDS),
    Different("restoring/.*getInvalidations", "restored objects are named", apart=OIDS),
    Different(
        "deleting/a record_iternext", "objects that are nothing are passed over (docs/findings/filestorage.md)",
        raises("ZODB.POSException.POSKeyError"), raises("builtins.ValueError", "no key satisfies"),
    ),
    Different("(memory|demo)/.*", "sizes are those of the records; a demo storage counts its base, too", apart=(
        r"'(size|length)': \d+|\('ZODB.interfaces', 'IBlobStorage'\), |" + EXTENSIONS
    )),
    Different("(memory|demo)/a history", "an entry has the same words for every storage", ".*'serial': .*", ".*'description': .*"),
    Different(
        "memory/a getInvalidations.*", "nothing is remembered of before the first transaction", answers(r"\(b.*"), answers("None"),
    ),
    Different(
        "memory/a (record_iternext|vote of .*)", "storages in memory can do it", raises("builtins.AttributeError"),
        "(?!.*AttributeError).*",
    ),
    Different(
        "client_resolves/b vote on a length", "what the server can merge is merged there", r".*'data': b.*", r".*x00.x01'.*",
    ),
]


# ---- Servers


class Server:
    """One of both, in a folder of its own."""

    def __init__(self, kind, vellum, folder, base, conf):
        self.kind, self.folder = kind, os.path.join(folder, kind)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        for name in ["Data.fs", "Other.fs"]:
            shutil.copyfile(base, os.path.join(self.folder, name))
        with open(os.path.join(self.folder, "conf"), "w") as file:
            file.write(conf)
        program = [vellum, "serve", "--config", "conf"]
        if kind == "runzeo":
            program = [sys.executable, "-m", "ZEO.runzeo", "-C", "conf"]
        with open(os.path.join(self.folder, "said"), "w") as said:
            self.process = subprocess.Popen(
                program, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=dict(os.environ, TZ="UTC")
            )

    def connect(self):
        deadline = time.monotonic() + 20
        path = os.path.relpath(os.path.join(self.folder, "s"))
        while True:
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                stream.connect(path)
                return stream
            except OSError:
                stream.close()
                assert self.process.poll() is None and time.monotonic() < deadline, "%s: %s" % (self.kind, self.said())
                time.sleep(0.02)

    def said(self):
        with open(os.path.join(self.folder, "said")) as file:
            return file.read()[-2000:]

    def end(self):
        self.process.kill()
        self.process.wait()


# ---- The conversation


class Talk:
    """A conversation of some clients with one server."""

    def __init__(self, server, codec, known):
        self.server, self.codec, self.known = server, codec, known
        self.steps = []
        self.labels = {}
        self.names = {}
        self.clients = []

    def client(self, name, **more):
        """A client that has greeted and registered."""
        client = self.bare(name)
        client.greet()
        client.call("register", "1", more.get("read_only", False))
        return client

    def bare(self, name):
        client = Client(self, name)
        self.clients.append(client)
        return client

    def note(self, label, shown):
        self.labels[label] = number = self.labels.get(label, 0) + 1
        self.steps.append((label if number == 1 else "%s %d" % (label, number), shown))

    def end(self):
        for client in self.clients:
            client.stream.close()

    def name(self, kind, value):
        """Bytes of the same length that stand for something new."""
        number = self.names.setdefault((kind, value), len([1 for k, _ in self.names if k == kind]))
        return (b"%s%07d____" % (kind, number))[: len(value)]

    def normal(self, frame, message):
        """The frame without what is new each time."""
        if frame[:1] == b"{":
            shown = re.sub(rb'("start": )"[^"]*"', rb"\1...", frame)
            return re.sub(rb'"[0-9a-f]{16}"', lambda m: b"...", shown)
        for value in leaves(message):
            if isinstance(value, bytes):
                if self.is_new(value):
                    frame = frame.replace(value, self.name(b"t", value))
                elif len(value) == 12:
                    try:
                        tid = base64.b64decode(value, validate=True)
                    except ValueError:
                        continue
                    if self.is_new(tid):
                        frame = frame.replace(value, self.name(b"u", value))
            elif isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value):
                if self.is_new(bytes.fromhex(value)):
                    frame = frame.replace(value.encode(), b"a tid in hex____")
            elif isinstance(value, str) and re.fullmatch(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", value):
                frame = frame.replace(value.encode(), b"a time as ctime has it__")
            elif isinstance(value, float) and value > 1.7e9:
                frame = frame.replace(struct.pack(">d", value), b"a time__")
        return frame

    def is_new(self, value):
        return len(value) == 8 and b"\x04" <= value[:1] <= b"\x05" and value not in self.known


def leaves(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(key)
            yield from leaves(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


class Client:
    def __init__(self, talk, name):
        self.talk, self.name = talk, name
        self.stream = talk.server.connect()
        self.buffer = b""
        self.calls = 0
        self.speak(talk.codec)

    def speak(self, codec):
        protocol = b"M5" if codec == "msgpack" else b"Z5"
        self.protocol, self.encode, self.decode = protocol, encoder(protocol), decoder(protocol)

    # Frames.

    def read(self, patience=PATIENCE):
        """The next frame; None at the end of the connection; "silence" if nothing comes."""
        deadline = time.monotonic() + patience
        while True:
            if len(self.buffer) >= 4:
                size = struct.unpack(">I", self.buffer[:4])[0]
                if len(self.buffer) >= 4 + size:
                    frame, self.buffer = self.buffer[4 : 4 + size], self.buffer[4 + size :]
                    return frame
            self.stream.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                more = self.stream.recv(1 << 20)
            except TimeoutError:
                return "silence"
            except ConnectionError:
                return None
            if not more:
                return None
            self.buffer += more

    def raw(self, data):
        try:
            self.stream.sendall(data)
        except ConnectionError:
            pass

    def frame(self, data):
        self.raw(struct.pack(">I", len(data)) + data)

    def show(self, frame):
        """A frame as it is compared, and as it is shown: its bytes too, as no two ways to write a value are the same."""
        if frame is None:
            return "closed"
        if frame == "silence":
            return "silence"
        try:
            message = self.decode(frame)
        except Exception:
            return repr(self.talk.normal(frame, None))
        normal = self.talk.normal(frame, message)
        try:
            normal_message = self.decode(normal)
        except Exception:
            return "%r" % normal
        if message[2] == ".reply" and self.is_invalidations(message[3]):
            # ZEO makes a list of a set: the objects are in no order.
            tid, oids = normal_message[3]
            return "%r, in any order" % ((message[0], message[1], tid, sorted(oids)),)
        return "%r = %s" % (normal_message, normal.hex())

    @staticmethod
    def is_invalidations(answer):
        """Whether it is an answer to `getInvalidations` that names objects."""
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], (list, tuple)):
            return False
        return len(answer[1]) > 1 and all(isinstance(oid, bytes) and len(oid) == 8 for oid in answer[1])

    def take(self, label, until, patience=PATIENCE, ordered=True):
        """Notes frames until one of them is the last. `ordered`: their order counts."""
        shown = []
        while True:
            frame = self.read(patience)
            shown.append(self.show(frame))
            if frame is None or frame == "silence":
                message = None
                break
            try:
                message = self.decode(frame)
            except Exception:
                message = None
            if until(message):
                break
        self.talk.note("%s %s" % (self.name, label), "\n".join(shown if ordered else sorted(shown)))
        return message

    # Messages.

    def greet(self, answer=None):
        self.take("greeting", lambda message: True)
        self.frame(answer or self.protocol)

    def call(self, name, *args, label=None, patience=PATIENCE):
        self.calls += 1
        return self.ask(self.calls, 0, name, args, label=label, patience=patience)

    def ask(self, id, flag, name, args, label=None, patience=PATIENCE):
        """Calls and waits for the answer; what comes before it is noted, too."""
        self.send(id, flag, name, args)
        return self.answer(label or str(name), id, patience)

    def send(self, id, flag, name, args):
        self.frame(self.encode(id, bool(flag), name, args))

    def answer(self, label, id, patience=PATIENCE):
        message = self.take(label, lambda message: message and message[2:3] == (".reply",) and message[0] == id, patience)
        return message and message[3]

    def sync(self):
        """A call after whatever others have done. runzeo needs some time: it sends a commit's invalidation to other clients
        after it has answered the commit, and a call that comes in between is answered before it."""
        time.sleep(0.05)
        self.call("ping")

    def tell(self, name, *args):
        self.send(0, True, name, args)

    def answers(self, label, ids):
        """Notes what comes until all of these calls are answered. The order does not count."""
        left = set(ids)

        def until(message):
            left.discard(message[0] if message[2] == ".reply" else None)
            return not left

        self.take(label, until, ordered=False)

    def batch(self, messages):
        """Several messages in one write."""
        frames = [self.encode(*message) for message in messages]
        self.raw(b"".join(struct.pack(">I", len(frame)) + frame for frame in frames))

    def end(self, label="end", patience=1.5):
        """Notes what comes until the connection is closed, or nothing comes any more."""
        self.take(label, lambda message: False, patience)

    # A commit.

    def begin(self, txn, user=b"", description=b"", extension=None, tid=None, status=" "):
        self.tell("tpc_begin", txn, user, description, extension or {}, tid, status)

    def store(self, txn, oid, serial, data):
        self.tell("storea", p64(oid), serial, data, txn)

    def commit(self, txn, *stores, **more):
        """Stores, votes and finishes: returns the tid."""
        self.begin(txn, **more)
        for oid, serial, data in stores:
            self.store(txn, oid, serial, data)
        self.call("vote", txn)
        return self.call("tpc_finish", txn)

    def serial(self, oid):
        return self.call("getTid", p64(oid))


# ---- The database


def make(path):
    """A small database of some transactions. Returns the tids in it."""
    for suffix in ["", ".index", ".lock", ".tmp"]:
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    storage = FileStorage(path)
    database = ZODB.DB(storage)
    connection = database.open()
    root = connection.root()
    root["length"] = Length(0)
    for name in ["a", "b", "c"]:
        root[name] = PersistentMapping(n=0)
    transaction.get().note("the first objects")
    transaction.commit()
    for n in range(1, 6):
        root["abc"[n % 3]]["n"] = n
        transaction.get().setUser("user%d" % n)
        transaction.get().note("change %d" % n)
        transaction.get().setExtendedInfo("number", n)
        transaction.commit()
    root["length"].change(3)
    transaction.commit()
    connection.close()
    known = {found.tid for found in storage.iterator()}
    database.close()
    return known


def conf(codec, more, storages):
    return "<zeo>\n address ./s\n msgpack %s\n%s\n</zeo>\n%s" % ("true" if codec == "msgpack" else "false", more, storages)


# ---- Comparing


def play(name, kind, options, base, known):
    more, storages = CONFS.get(name, ("", FILES))
    server = Server(kind, options.vellum, name, base, conf(options.codec, more, storages))
    talk = Talk(server, options.codec, set(known))
    try:
        TALKS[name](talk)
    finally:
        talk.end()
        server.end()
    return talk.steps


def attempt(name, kind, options, base, known):
    """The steps, or as far as they went."""
    try:
        return play(name, kind, options, base, known)
    except Exception as error:
        return [("FAILED", "%s: %r: %s" % (kind, error, traceback.format_exc()))]


def compare(name, theirs, ours):
    """Lines of what is different and not known."""
    if [label for label, _ in theirs] != [label for label, _ in ours]:
        yield "%s: the conversations went different ways: %s" % (name, (theirs[-1:], ours[-1:]))
        return
    for (label, theirs), (_, ours) in zip(theirs, ours):
        where = "%s/%s" % (name, label)
        if theirs != ours and not any(known.fits(where, theirs, ours) for known in DIFFERENT):
            yield "%s\n  runzeo: %s\n  vellum: %s" % (where, theirs, ours)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vellum")
    parser.add_argument("folder")
    parser.add_argument("codec", choices=["pickle", "msgpack"])
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    options.vellum = os.path.abspath(options.vellum)
    os.makedirs(options.folder, exist_ok=True)
    os.chdir(options.folder)
    known = make("Base.fs")
    base = os.path.abspath("Base.fs")
    frames, failed = 0, []
    names = [name for name in TALKS if options.only in name]
    with ThreadPoolExecutor(4) as pool:
        played = [[pool.submit(attempt, name, kind, options, base, known) for kind in ["runzeo", "vellum"]] for name in names]
        for name, both in zip(names, played):
            theirs, ours = [one.result() for one in both]
            if options.show:
                print("\n".join("%s/%s\n    %s" % (name, label, shown.replace("\n", "\n    ")) for label, shown in theirs))
            frames += sum(shown.count("\n") + 1 for _, shown in theirs)
            failed.extend(compare(name, theirs, ours))
    for line in failed:
        print("FAIL " + line)
    mine = [known for known in DIFFERENT if known.codec in ("", options.codec)]
    if not options.only:
        for known in mine:
            if not known.uses:
                failed.append(known)
                print("FAIL this difference is not there any more: %s: %s" % (known.where, known.reason))
    print(
        "%s: %d conversations, %d frames; %d of them different on purpose, in %d ways"
        % (options.codec, len(names), frames, sum(known.uses for known in mine), len(mine))
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
