"""RelStorage 4.3, on SQLite or on a PostgreSQL of its own: instances of one storage, as connections have them.

    python rel.py sqlite|postgresql [history [undo]] [--raw]

With `history` it keeps history; without, only the newest revision of each object is there to be asked about. With
`undo` there are undos, and no packs and no merging: an undo never merges here.
Each transaction has an instance of its own, which polls when it begins, as a connection does; one more is asked, and
polls before. The database makes the tids.

Not declared: `resolve`. An instance merges what its own view shows, and a history stores with serials that no view has.
"""

import base64
import sqlite3
import warnings

from adapter import NO_OID_OR_TID, Adapter, Counter, Records, Refused, Waits, main
from relstorage.cache.interfaces import CacheConsistencyError
from relstorage.adapters.interfaces import UnableToAcquireLockError
from relstorage.adapters.postgresql import PostgreSQLAdapter
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from ZODB import POSException, utils
from ZODB.serialize import referencesf

warnings.filterwarnings("ignore", message="There is no defined value")


# How long a transaction may wait for another one, which cannot go on.
PATIENCE_SECONDS = 0.05


class Relational(Adapter):
    """One database, and four instances of the storage on it."""

    steps_over = ("too_long", "empty", "stale", "order", "extension")
    own_tids = remembers = True
    none_left = (StopIteration, RuntimeError)

    def prepare(self):
        self.is_sqlite, self.keeps = self.words[0] == "sqlite", "history" in self.words
        kind = "SQLite" if self.is_sqlite else "PostgreSQL"
        self.name = f"RelStorage 4.3 on {kind}, {'history-preserving' if self.keeps else 'history-free'}"
        undo = "undo" in self.words
        self.can = ["sessions", "check_current", "reopen"] + (["undo"] if undo else ["pack", "collect"])
        self.cannot = ["last_invalidations"] + ([] if self.keeps else ["past", "history", "transactions"])
        if self.keeps and not self.raw:
            # A history ends where a pack began, and gives an undo the size of what it brought back; nothing says where
            # that came from. The last transaction of others is the last one that wrote something.
            self.cannot += ["history"] + ["transactions"] * undo
        if not self.raw:
            self.cannot.append("last_transaction")
        del Counter._p_resolveConflict
        self.cluster = self.main = None
        if not self.is_sqlite:
            from postgres import Cluster
            self.cluster = Cluster()

    def options(self):
        return Options(keep_history=self.keeps, commit_lock_timeout=PATIENCE_SECONDS, cache_local_mb=1)

    def clear(self):
        if self.is_sqlite:
            super().clear()
        else:
            storage = self.open()
            storage.zap_all(slow=True)  # To delete few rows is quicker than to truncate tables.
            storage.close()

    def open(self):
        options = self.options()
        if self.is_sqlite:
            adapter = Sqlite3Adapter(str(self.folder / "data"), {"synchronous": "off"}, options=options)
        else:
            adapter = PostgreSQLAdapter(dsn=self.cluster.dsn, options=options)
        return RelStorage(adapter, options=options)

    def connect(self, read_only):
        self.main = self.open()
        self.main.registerDB(Records)
        self.main._crs_transform_record_data = Records.transform_record_data
        return [self.main.new_instance() for _ in range(4)]

    def session_of(self, transaction):
        return self.sessions["abc".index(transaction)]

    def reader(self):
        return self.sessions[3]

    def do_begin(self, transaction, **meta):
        self.poll(self.session_of(transaction))
        return super().do_begin(transaction, **meta)

    def _close(self):
        super()._close()
        if self.main is not None:
            self.main.close()
            self.main = None

    def end(self):
        if self.cluster is None:
            super().end()
        else:
            # The harness waits a second, and the instances need not be closed.
            self.cluster.stop()

    def before_questions(self):
        self.poll(self.reader())

    @staticmethod
    def poll(session):
        session.sync(True)
        session.poll_invalidations()

    def _vote(self, session, meta, notes):
        others = {oid for _, _, other in self.voted.values() for oid in other.stored()}
        if not (self.raw or self.is_sqlite) and any(
            self._newest(session, bytes.fromhex(oid)) is None for oid in others & notes.stored()
        ):
            raise Waits  # Where both make the same object, PostgreSQL has no row to lock.
        try:
            return super()._vote(session, meta, notes)
        except UnableToAcquireLockError:
            if not self.voted:
                raise
            raise Waits from None
        except sqlite3.OperationalError as error:
            if not self.voted or "locked" not in str(error):
                raise
            raise Waits from None
        except CacheConsistencyError:
            if not self.raw:
                # It forgets which revisions are the newest ones, and keeps older states that it shows from then on.
                self.main._cache.clear(load_persistent=False)
            # So it says that a serial is none of a revision, as zero where there is an object.
            for change in notes.changes if not self.raw else ():
                if change["change"] == "store":
                    newest = self._newest(session, bytes.fromhex(change["oid"]))
                    if newest is not None and newest != self.there(change["serial"]):
                        why = {"oid": change["oid"], "committed": self.here(newest), "serial": change["serial"]}
                        raise Refused("conflict", **why) from None
            raise
        except POSException.ConflictError as error:
            # So it says that another transaction holds a row.
            if not self.voted or error.serials is not None:
                raise
            raise Waits from None

    def aborted(self):
        if self.is_sqlite and not self.raw:
            # The changes of a transaction that failed at a check are written by the next one on the same connection.
            self.main._store_connection_pool.drop_all()

    def _serials(self, error, notes):
        if error.serials is None and self.voted:
            raise Waits
        return super()._serials(error, notes)

    def _undo(self, session, meta, tid):
        try:
            session.undo(base64.b64encode(self.there(tid)), meta)
        except POSException.UndoError as error:
            if "later" not in str(error):
                raise Refused("not_undoable", tid=tid) from None
            # It does not say which.
            there = self.there(tid)
            undone = [record for t in session.iterator(there, there) for record in t]
            oids = [record.oid.hex() for record in undone if self._now(session, record.oid) != record.data]
            raise Refused("undo_conflict", oids=sorted(oids)) from None

    def _check_current(self, session, meta, oid, serial):
        if not self.raw and self._newest(session, bytes.fromhex(oid)) is None:
            raise Refused("key", oid=oid)  # It takes any serial of an object that is not there.
        super()._check_current(session, meta, oid, serial)

    def _is_known(self, session, oid):
        return self._newest(session, oid) is not None

    def _newest(self, session, oid):
        self.poll(self.reader())
        try:
            return self.reader().load(oid)[1]
        except POSException.POSKeyError:
            return None

    def ask_load_before(self, oid, before):
        shown = self.reader().loadBefore(bytes.fromhex(oid), self.there(before))
        if not self.raw and shown is not None and shown[0] is None:
            # An object that is nothing comes without data.
            return {"is": "key_error"}
        return super().ask_load_before(oid, before)

    @staticmethod
    def _now(session, oid):
        try:
            return session.load(oid)[0]
        except POSException.POSKeyError:
            return None

    def _is_gone(self, t):
        # A transaction 0, for the time before the first, is of no one.
        return not self.raw and t.tid == NO_OID_OR_TID or super()._is_gone(t)

    def pack(self, to, collect):
        self.main._options.pack_gc = collect
        self.main.pack(utils.u64(self.tids.there(to)), referencesf)

    def ask_current_records(self, first):
        following, records = bytes.fromhex(first), []
        while following is not None:
            try:
                found, tid, data, following = self.reader().record_iternext(following)
            except self.none_left:
                break
            if data is None and not self.raw:
                continue  # An object that is nothing comes without data.
            records.append([found.hex(), self.here(tid), self.data(data)])
        return {"is": "current_records", "records": records}


if __name__ == "__main__":
    main(Relational)
