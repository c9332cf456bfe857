#!/usr/bin/env bash
# zodb-pgjsonb 1.19. A store with serial zero, which says that the object is new, is written even if another client has made the object
# since. So two processes that open a new database at once both make the root: the second replaces the first one's, and all that was
# linked there is lost, without a conflict. FileStorage and RelStorage refuse the second one.
# Needs the programs of PostgreSQL, and as root the user `postgres`. The package asks for Python 3.12, and runs with 3.11.
#
# Seen: the first root: ['page'] / the second commit: done / the root now: []
. "$(dirname "$0")/common.inc"
export PIP_IGNORE_REQUIRES_PYTHON=1
install ZODB==6.4 zodb-pgjsonb==1.19.0
programs=$(dirname "$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort | tail -n 1)")
[[ -n $programs && $programs != . ]] || programs=$(dirname "$(command -v initdb)")
as=()
if [[ $(id -u) == 0 ]]; then
    as=(runuser -u postgres --)
    chmod 711 "$folder"
    install() { command install "$@"; }
    install -d -o postgres "$folder/cluster"
fi
mkdir -p "$folder/cluster"
cd "$folder/cluster"
"${as[@]}" "$programs/initdb" -D "$folder/cluster/data" -U me --auth=trust --no-sync >/dev/null
"${as[@]}" "$programs/pg_ctl" -D "$folder/cluster/data" -l "$folder/cluster/log" -w start \
    -o "-c listen_addresses='' -c unix_socket_directories='$folder/cluster'" >/dev/null
trap '"${as[@]}" "$programs/pg_ctl" -D "$folder/cluster/data" -m immediate stop >/dev/null; rm -rf "$folder"' EXIT
output=$("$python" - "dbname=postgres user=me host=$folder/cluster" <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import sys

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import ObjectWriter
from zodb_pgjsonb.storage import PGJsonbStorage

# The second process has looked for a root, and found none; now the first one makes it, and a page.
late = PGJsonbStorage(sys.argv[1])
db = ZODB.DB(PGJsonbStorage(sys.argv[1]))
with db.transaction() as connection:
    connection.root()["page"] = PersistentMapping()
print("the first root:", sorted(db.open(transaction.TransactionManager()).root()))
# And now the second one goes on, as ZODB.DB does where there is no root.
storage, meta, root = late.new_instance(), TransactionMetaData(), PersistentMapping()
storage.tpc_begin(meta)
try:
    storage.store(bytes(8), bytes(8), ObjectWriter().serialize(root), "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    print("the second commit: done")
except Exception as error:
    storage.tpc_abort(meta)
    print("the second commit:", type(error).__name__)
print("the root now:", sorted(ZODB.DB(PGJsonbStorage(sys.argv[1])).open(transaction.TransactionManager()).root()))
PYTHON
)
saw "a new object replaces another client's" "$(tr '\n' ' ' <<<"$output")" "the first root: \['page'\] the second commit: done the root now: \[\]"
