#!/usr/bin/env bash
# tempstorage 6.0. A pack looks for the root under a text, which no oid is, and fails at once.
#
# Seen: KeyError
. "$(dirname "$0")/common.inc"
install ZODB==6.4 tempstorage==6.0
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import ZODB
from tempstorage.TemporaryStorage import TemporaryStorage

db = ZODB.DB(TemporaryStorage())
try:
    db.pack()
    print("packed")
except Exception as error:
    print(type(error).__name__)
PYTHON
)
saw "a temporary storage cannot be packed" "$output" "^KeyError$"
