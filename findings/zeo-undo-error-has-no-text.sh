#!/usr/bin/env bash
# ZEO 6.2 with `msgpack true`. If later changes block an undo, the client gets a MultipleUndoErrors whose text cannot be made: `str` of it
# ends with TypeError, and so does a page or a log that shows it. The reason of each object is an exception at the server, and msgpack
# sends it as a pair of its class and its arguments. With pickles, the text is there.
#
# Seen: pickles: MultipleUndoErrors Undo error 0x01: ... / msgpack: MultipleUndoErrors, str: TypeError
. "$(dirname "$0")/common.inc"
install ZODB==6.4 ZEO==6.2 msgpack==1.2.4
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import transaction
import ZEO
from persistent.mapping import PersistentMapping

for name in ("pickles", "msgpack"):
    address, stop = ZEO.server(f"{name}.fs", zeo_conf={"msgpack": name == "msgpack"})
    db = ZEO.DB(address)
    with db.transaction() as connection:
        connection.root()["page"] = PersistentMapping(text="first")
    for text in ("second", "third"):
        with db.transaction() as connection:
            connection.root()["page"]["text"] = text
    db.undo(db.undoLog(1, 2)[0]["id"])
    try:
        transaction.commit()
    except Exception as error:
        try:
            print(f"{name}: {type(error).__name__} {error}")
        except TypeError as no_text:
            print(f"{name}: {type(error).__name__}, str: {type(no_text).__name__}")
    transaction.abort()
    db.close()
    stop()
PYTHON
)
saw "an undo error has no text" "$(tr '\n' ' ' <<<"$output")" \
    "pickles: MultipleUndoErrors Undo error .*msgpack: MultipleUndoErrors, str: TypeError"
