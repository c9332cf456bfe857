#!/usr/bin/env bash
# ZODB 6.4. A blob is taken out of its place before the time of a pack, gets new contents after that time, and is put back after
# the pack. The pack keeps the record of the new contents and removes their file: for an object that was garbage at its time it
# removes all files, also those that are newer.
#
# Expected: the photo is b'second', which was committed after the time of the pack.
# Seen: POSKeyError: 'No blob file at blobs/...'
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable()
import time
import transaction
import ZODB
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError

db = ZODB.DB(FileStorage("Data.fs", blob_dir="blobs"))
with db.transaction() as connection:
    connection.root()["photo"] = Blob(b"first")
connection = db.open()
photo = connection.root().pop("photo")
transaction.commit()
time.sleep(0.01)
pack_time = time.time()
time.sleep(0.01)
with photo.open("w") as file:
    file.write(b"second")
transaction.commit()
db.pack(pack_time)
connection.root()["photo"] = photo
transaction.commit()
connection.close()
db.close()
db = ZODB.DB(FileStorage("Data.fs", blob_dir="blobs"))
try:
    with db.transaction() as connection, connection.root()["photo"].open() as file:
        print("the photo is", file.read())
except POSKeyError as error:
    print("POSKeyError:", error)
PYTHON
)
saw "a pack removes a blob's file that is newer than its time" "$output" "^POSKeyError: .*No blob file"
