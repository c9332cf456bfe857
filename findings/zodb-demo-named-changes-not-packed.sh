#!/usr/bin/env bash
# ZODB 6.4. A demo storage whose changes are given, as every one that is kept over a restart, sets `_temporary_changes` nowhere,
# and `pack` reads it. So a site that is configured so cannot be packed.
#
# Seen: AttributeError: 'DemoStorage' object has no attribute '_temporary_changes'
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import ZODB
import ZODB.config

storage = ZODB.config.storageFromString("""
<demostorage>
  <filestorage base>
    path Base.fs
  </filestorage>
  <filestorage changes>
    path Changes.fs
  </filestorage>
</demostorage>
""")
db = ZODB.DB(storage)
try:
    db.pack()
    print("packed")
except AttributeError as error:
    print("AttributeError:", error)
PYTHON
)
saw "a demo storage with changes of its own cannot be packed" "$output" "^AttributeError: .*_temporary_changes"
