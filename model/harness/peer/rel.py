"""RelStorage 4.3, on SQLite or on a PostgreSQL of its own: two instances of one storage, as two connections have them.

    python rel.py sqlite|postgresql [history] [--raw]

With `history` it keeps history; without, only the newest revision of each object is there to be asked about.
Transactions and questions use the instances in turn; before it is asked, an instance polls, as a connection does when
its transaction begins. The database makes the tids.
"""

import warnings

from adapter import NO_OID_OR_TID, Adapter, Counter, Records, Refused, Waits, main
from relstorage.adapters.interfaces import UnableToAcquireLockError
from relstorage.adapters.postgresql import PostgreSQLAdapter
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from ZODB import POSException, utils
from ZODB.serialize import referencesf

warnings.filterwarnings("ignore", message="There is no defined value")


class Relational(Adapter):
    """One database, and two instances of the storage on it."""

    steps_over = ("too_long", "empty", "stale", "order", "extension")
    own_tids = True
    none_left = (StopIteration, RuntimeError)

    def prepare(self):
        self.is_sqlite, self.keeps = self.words[0] == "sqlite", "history" in self.words
        kind = "SQLite" if self.is_sqlite else "PostgreSQL"
        self.name = f"RelStorage 4.3 on {kind}, {'history-preserving' if self.keeps else 'history-free'}"
        self.can = ["sessions", "check_current", "reopen", "pack", "collect"]
        self.can += ["delete", "resolve", "undo"] if self.keeps else []
        self.cannot = ["last_invalidations"] + ([] if self.keeps else ["past", "history", "transactions"])
        if not self.keeps:
            # It could merge as long as it remembers the old state, which is no promise.
            del Counter._p_resolveConflict
        self.cluster = self.main = None
        if not self.is_sqlite:
            from postgres import Cluster
            self.cluster = Cluster()

    def options(self):
        return Options(keep_history=self.keeps, commit_lock_timeout=1, cache_local_mb=1)

    def clear(self):
        if self.is_sqlite:
            super().clear()
        else:
            storage = self.open()
            storage.zap_all()
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
        return [self.main.new_instance() for _ in range(2)]

    def _close(self):
        super()._close()
        if self.main is not None:
            self.main.close()
            self.main = None

    def end(self):
        super().end()
        if self.cluster is not None:
            self.cluster.stop()

    def answer(self, request):
        if isinstance(request, list):
            self.poll()
        return super().answer(request)

    def poll(self):
        for session in self.sessions:
            session.sync(True)
            session.poll_invalidations()

    def _vote(self, session, meta, notes):
        # A connection polls when its transaction begins.
        self.poll()
        try:
            return super()._vote(session, meta, notes)
        except UnableToAcquireLockError:
            if not self.voted:
                raise
            raise Waits from None

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
            records.append([found.hex(), self.here(tid), self.data(data)])
        return {"is": "current_records", "records": records}


if __name__ == "__main__":
    main(Relational)
