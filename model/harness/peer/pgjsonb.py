"""zodb-pgjsonb 1.19, on a PostgreSQL of its own: instances of one storage, as connections have them.

    python pgjsonb.py [history] [--raw]

Each transaction has an instance of its own, and one more is asked. With `history` it keeps history; without, only the
newest revision of each object is there to be asked about. It keeps states as JSON and makes pickles of them again, so
the records are compared after they were read and written once more. Its packs always collect, so packing is not
declared. The storage makes the tids.
"""

from adapter import NO_OID_OR_TID, Adapter, Counter, Records, Refused, Waits, main
from postgres import Cluster
from psycopg.errors import LockNotAvailable
from ZODB import POSException
from zodb_pgjsonb.storage import PGJsonbStorage

# How long a transaction may wait for another one, which cannot go on.
PATIENCE_MS = 50


class Json(Adapter):
    """One database, and four instances of the storage on it."""

    steps_over = ("too_long", "empty", "stale", "order", "extension")
    own_tids = remembers = True
    other_bytes = True

    def prepare(self):
        self.keeps = "history" in self.words
        self.name = f"zodb-pgjsonb 1.19, {'history-preserving' if self.keeps else 'history-free'}"
        self.can = ["sessions", "check_current", "reopen"] + (["resolve", "undo"] if self.keeps else [])
        self.cannot = ["last_invalidations", "current_records"]
        self.cannot += [] if self.keeps else ["past", "history", "transactions"]
        if not self.keeps:
            # It could merge as long as it remembers the old state, which is no promise.
            del Counter._p_resolveConflict
        self.cluster, self.main = Cluster(), None
        self.dsn = f"{self.cluster.dsn} options='-c lock_timeout={PATIENCE_MS}'"

    def open(self):
        return PGJsonbStorage(self.dsn, history_preserving=self.keeps, cache_warm_pct=0, cache_shared_mb=4)

    def clear(self):
        storage = self.open()
        with storage._conn.cursor() as cursor:
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            tables = [row["tablename"] for row in cursor.fetchall()]
            # To delete few rows is quicker than to truncate tables. So their order is of no account.
            cursor.execute("SET session_replication_role = replica")
            for table in tables:
                cursor.execute(f"DELETE FROM {table}")
        storage._conn.commit()
        storage.close()

    def connect(self, read_only):
        self.main = self.open()
        self.main.registerDB(Records)
        sessions = [self.main.new_instance() for _ in range(4)]
        for session in sessions:
            session.registerDB(Records)
            session._crs_transform_record_data = Records.transform_record_data
        return sessions

    def _close(self):
        for session, meta, _ in self.voted.values() if self.sessions else ():
            session.tpc_abort(meta)
        for session in self.sessions:
            session.release()
        self.sessions = []
        if self.main is not None:
            self.main.close()
            self.main = None

    def end(self):
        # The harness waits a second, and the instances need not be closed.
        self.cluster.stop()

    def before_questions(self):
        self.sessions[3].poll_invalidations()

    def session_of(self, transaction):
        return self.sessions["abc".index(transaction)]

    def do_begin(self, transaction, **meta):
        # As a connection does when its transaction begins.
        self.session_of(transaction).poll_invalidations()
        return super().do_begin(transaction, **meta)

    def _vote(self, session, meta, notes):
        try:
            return super()._vote(session, meta, notes)
        except LockNotAvailable:
            raise Waits from None

    def _store(self, session, meta, oid, serial, data, version, blob=None):
        if not self.raw and data and serial == NO_OID_OR_TID.hex():
            # It looks at no serial that is zero.
            newest = self._newest(oid)
            if newest is not None:
                raise Refused("conflict", oid=oid, committed=self.here(newest), serial=serial)
        super()._store(session, meta, oid, serial, data, version, blob)

    def _check_current(self, session, meta, oid, serial):
        if not self.raw and self._newest(oid) is None:
            raise Refused("key", oid=oid)  # It takes any serial of an object that is not there.
        super()._check_current(session, meta, oid, serial)

    def _newest(self, oid):
        self.sessions[3].poll_invalidations()
        try:
            return self.sessions[3].load(bytes.fromhex(oid))[1]
        except POSException.POSKeyError:
            return None

    # It calls a transaction by its bytes.
    undo_id = undo_tid = staticmethod(bytes)

    def ask_load_before(self, oid, before):
        told = super().ask_load_before(oid, before)
        if not self.raw and told["is"] == "not_yet":
            # It says that an object was not there yet where it never was.
            self.reader().load(bytes.fromhex(oid))
        return told

    def reader(self):
        return Both(self.sessions[3], self.main)


class Both:
    """An instance, and the main storage for what an instance does not offer."""

    def __init__(self, instance, main):
        self.instance, self.main = instance, main

    def __getattr__(self, name):
        return getattr(self.instance if hasattr(self.instance, name) else self.main, name)


if __name__ == "__main__":
    main(Json)
