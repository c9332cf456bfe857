"""ZEO 6.2's ClientStorage, on ZEO's own server or another: two clients of one storage.

    python zeo_client.py SERVER [WORD...] [--raw]

SERVER is `runzeo`, or the command that stands in for it, as `/path/to/vellum serve`: it is given `--config zeo.conf`.
The words: `msgpack` (the protocol, in place of pickles), `cache` (each client has a file for its cache, which outlives
it), and `pack` (packs without collection, and merging, instead of undos: a pack beside undos is fault 14 of
FileStorage, and a server that leaves merging to its clients does not merge for an undo).

A server has many storages, so that it need not be started for each history. Transactions and questions use the clients
in turn; before a client is asked, it hears of everything that the server has told it. When the storage is opened again,
both clients are, or their connections are cut instead, by turns, and they connect again by themselves.

Nobody can tell the server the time, so it makes its own tids. Merging is left to the client, which knows the classes of
the records.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapter import Adapter, Records, Refused, Waits, main
from persistent.TimeStamp import TimeStamp
from ZEO import ClientStorage
from ZEO.Exceptions import ClientDisconnected, ServerException
from ZODB import POSException
from ZODB.serialize import referencesf

STORAGES = 40
# An answer is under way for long, compared with the time that anyone works on it.
QUESTIONS_AT_ONCE = 8
# The time that a vote may take which waits for the end of another transaction.
PATIENCE_SECONDS = 0.05
# How long a server may take to begin, and clients to find it again.
START_SECONDS = 30


class Client(Adapter):
    """Two clients of one of a server's storages."""

    cannot = ("last_invalidations",)
    none_left = (ValueError, ServerException)
    # FileStorage behind ZEO's server is stepped over as in zodb.py, as far as that is possible from here. An extension
    # is a dict to the client, and each server pickles it in its own words.
    steps_over = ("extension",)
    own_tids = remembers = True

    def prepare(self):
        *server, last = self.words if self.words[-1] not in ("msgpack", "cache", "pack") else self.words + [""]
        words = {word for word in server if word in ("msgpack", "cache", "pack")}
        self.command = [word for word in [*server, last] if word and word not in words]
        self.msgpack, self.cached, self.packs = ("msgpack" in words, "cache" in words, "pack" in words)
        self.is_runzeo = Path(self.command[0]).name == "runzeo"
        if self.command == ["runzeo"]:
            self.command = [str(Path(sys.executable).with_name("runzeo"))]
        if self.is_runzeo:
            self.steps_over = ("empty", "stale", "extension")
        if self.packs:
            # A record that a client has merged is sent again, and comes last.
            self.steps_over += ("order",)
        self.name = " ".join((
            "ZEO 6.2 ClientStorage on", "runzeo" if self.is_runzeo else "vellum", *sorted(words)
        ))
        self.can = ("sessions", "delete", "check_current", "reopen", "read_only",
                    *(("pack", "resolve") if self.packs else ("undo",)))
        self.server, self.number, self.servers = None, STORAGES, 0
        self.pool = ThreadPoolExecutor(QUESTIONS_AT_ONCE)

    def start(self):
        """A server with empty storages."""
        self.stop()
        self.servers += 1
        self.place = self.folder / f"server-{self.servers}"
        self.place.mkdir()
        address = str(self.place / "server")
        flags = ["client-conflict-resolution"] * self.packs + ["msgpack"] * self.msgpack
        flags = "".join(f"  {flag} true\n" for flag in flags)
        collect = "false" if self.packs else "true"
        storages = "".join(
            f"<filestorage {n}>\n  path {self.place}/{n}.fs\n  pack-gc {collect}\n</filestorage>\n"
            for n in range(1, STORAGES + 1)
        )
        config = self.place / "zeo.conf"
        config.write_text(f"<zeo>\n  address {address}\n{flags}  pid-filename {self.place}/pid\n</zeo>\n{storages}")
        option = "-C" if self.is_runzeo else "--config"
        log = (self.place / "log").open("w")
        self.server = subprocess.Popen([*self.command, option, str(config)], stdout=log, stderr=log)
        self.wait_for(lambda: Path(address).exists() or self.server.poll() is not None)
        if self.server.poll() is not None:
            raise RuntimeError("the server ended: " + (self.place / "log").read_text()[-500:])
        self.address, self.number = address, 0

    @staticmethod
    def wait_for(happens):
        end = time.monotonic() + START_SECONDS
        while not happens():
            if time.monotonic() > end:
                raise RuntimeError("it takes too long")
            time.sleep(0.01)

    def stop(self):
        if self.server is not None:
            # Nothing is to be kept.
            self.server.kill()
            self.server.wait()
            self.server = None
            shutil.rmtree(self.place, ignore_errors=True)

    def end(self):
        # The harness waits a second, and the clients need not be closed.
        self.stop()

    def clear(self):
        if self.number >= STORAGES:
            self.start()
        self.number += 1
        self.openings = 0

    def connect(self, read_only):
        clients = []
        for n in range(2):
            cache = str(self.place / f"cache-{self.number}-{n}") if self.cached else None
            client = ClientStorage.ClientStorage(
                self.address, storage=str(self.number), read_only=read_only, cache=cache
            )
            client.registerDB(Records)
            clients.append(client)
        return clients

    def do_reopen(self, read_only):
        self.openings += 1
        if self.openings % 2 or read_only or self.read_only:
            return super().do_reopen(read_only)
        for client in self.sessions:
            self.cut(client)
        for client in self.sessions:
            self.wait_for(lambda: self.is_back(client))
        for session, meta, _ in self.voted.values():
            session.tpc_abort(meta)
        self.begun, self.voted = {}, {}
        return {"is": "done"}

    @staticmethod
    def cut(client):
        """Ends the connection under both ends."""
        transport = client._server.client.protocol.sm_protocol.transport
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def is_back(client):
        try:
            client._call("ping", timeout=1)
            return True
        except ClientDisconnected:
            return False

    def _vote(self, session, meta, notes):
        if self.voted:
            session.tpc_vote_now, session.tpc_vote = session.tpc_vote, lambda meta: self.vote_soon(session, meta)
        try:
            resolved = super()._vote(session, meta, notes)
            # Undone objects are reported like merged ones.
            return resolved if self.packs else ()
        except POSException.MultipleUndoErrors as error:
            raise Refused("undo_conflict", oids=sorted(oid.hex() for oid, _ in error._errs)) from None
        except (POSException.UndoError, ServerException) as error:
            if "is empty" in str(error):
                raise Refused("empty", oid=re.search(r"object ([0-9a-f]{16})", str(error))[1]) from None
            if re.search("name too long|description too long|at most 65535 fit", str(error)):
                raise Refused("too_long") from None
            if "UndoError" not in type(error).__name__ + str(error):
                raise
            if "MultipleUndoErrors" in str(error) or "onflict" in str(error):
                raise Refused("undo_conflict", oids=sorted(self.refused_oids(error))) from None
            undone = [change["tid"] for change in notes.changes if change["change"] == "undo"]
            done = {entry["tid"] for entry in self.ask_undo_log(0, 1 << 30)["entries"]}
            raise Refused("not_undoable", tid=([tid for tid in undone if tid not in done] or undone)[0]) from None
        finally:
            session.__dict__.pop("tpc_vote", None)

    def _check_current(self, session, meta, oid, serial):
        if not self.raw and self.is_runzeo:
            # To FileStorage, an object that is nothing has no serial.
            try:
                newest = self.here(session.history(bytes.fromhex(oid))[0]["tid"])
            except POSException.POSKeyError:
                raise Refused("key", oid=oid) from None
            if newest != serial:
                raise Refused("read_conflict", oid=oid, committed=newest, serial=serial)
            try:
                session.load(bytes.fromhex(oid))
            except POSException.POSKeyError:
                return
        super()._check_current(session, meta, oid, serial)

    @staticmethod
    def vote_soon(session, meta):
        """Votes, unless it has to wait for another transaction."""
        answer = session._server.call("vote", id(meta), wait=False)
        end = time.monotonic() + PATIENCE_SECONDS
        while not answer.done():
            if time.monotonic() > end:
                raise Waits
            time.sleep(0.001)
        resolved = answer.result() or ()
        # A conflict that the client is to merge comes as a dict; then it votes again.
        if any(isinstance(oid, dict) for oid in resolved):
            return session.tpc_vote_now(meta)
        for oid in resolved:
            session._check_trans(meta, "vote").server_resolve(oid)
        return resolved

    def do_finish(self, transaction):
        notes = self.voted[transaction][2]
        told = super().do_finish(transaction)
        if not self.raw and self.is_runzeo:
            # The other client is not told of a deletion, and keeps what it has in its cache.
            for change in notes.changes:
                if change["change"] == "delete":
                    for client in self.sessions:
                        client._cache.invalidate(bytes.fromhex(change["oid"]), None)
        return told

    @staticmethod
    def refused_oids(error):
        """The objects that an error of the server names, which comes as text if its class is not one of a few."""
        errors = getattr(error, "_errs", None)
        return [oid.hex() for oid, _ in errors] if errors else re.findall(r"oid: ([0-9a-f]{16})", str(error))

    def _source(self, record):
        source = record.data_txn
        if source is None or self.raw or not self.is_runzeo:
            return super()._source(record)
        # As in zodb.py: FileStorage follows one backpointer, even if there is another behind it, or nothing.
        if record.data is None:
            return None
        records = [r for transaction in self.reader().iterator(source, source) for r in transaction]
        behind = [r for r in records if r.oid == record.oid]
        return behind and self._source(behind[-1]) or self.here(source)

    def _delete(self, session, meta, oid, serial):
        if self.steps("stale") and not self._is_known(session, bytes.fromhex(oid)):
            raise Refused("key", oid=oid)
        super()._delete(session, meta, oid, serial)

    def _is_known(self, session, oid):
        try:
            return bool(session.history(oid))
        except POSException.POSKeyError:
            return False

    def pack(self, to, collect):
        # A float is too coarse for a tid; a microsecond later is before the next transaction.
        to = self.tids.there(to)
        self.storage.pack(TimeStamp(to).timeTime() + 1e-6, referencesf)
        for client in self.sessions if not self.raw else ():
            # No one tells a client that a pack has removed what is in its cache.
            client._cache.clear()

    def before_questions(self):
        # The server tells of all changes of others before it answers this.
        for client in self.sessions:
            client._call("ping")

    def ask_all(self, questions):
        # A walk in the other order is made of the first one.
        again = [question for question in questions if question.get("newest_first")]
        first = [question for question in questions if not question.get("newest_first")]
        answers = dict(zip(map(id, first), self.pool.map(self._ask, first)))
        answers |= {id(question): self._ask(question) for question in again}
        return [answers[id(question)] for question in questions]


if __name__ == "__main__":
    main(Client)
