#!/usr/bin/env bash
# ZEO 6.2. A client fetches a hundred oids at a time and keeps those that it has not used over a reconnect. A server that is
# started again counts on from the greatest oid in its database. So it gives the oids that the first client still has to a second
# one, and both make objects under them.
#
# Seen: one oid for two objects: True
. "$(dirname "$0")/common.inc"
install ZODB==6.4 ZEO==6.2
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging, socket, subprocess, sys, time
logging.disable(logging.CRITICAL)
from ZEO.ClientStorage import ClientStorage

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]

def start():
    command = [sys.executable, "-m", "ZEO.runzeo", "-a", "127.0.0.1:%d" % port, "-f", "Data.fs"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not listen")

server = start()
try:
    first = ClientStorage(("127.0.0.1", port), wait_timeout=20)
    kept = [first.new_oid() for _ in range(5)]
    server.kill()
    server.wait()
    server = start()
    deadline = time.monotonic() + 40
    while not first.is_connected() and time.monotonic() < deadline:
        time.sleep(0.1)
    second = ClientStorage(("127.0.0.1", port), wait_timeout=20)
    given = [second.new_oid() for _ in range(20)]
    later = [first.new_oid() for _ in range(5)]
    print("one oid for two objects:", bool(set(given) & set(kept + later)))
    first.close()
    second.close()
finally:
    server.kill()
    server.wait()
PYTHON
)
saw "oids are given out twice" "$output" "one oid for two objects: True"
