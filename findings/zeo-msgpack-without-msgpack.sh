#!/usr/bin/env bash
# ZEO 6.2. `msgpack` is not among the packages that ZEO needs. A server that is told to use it starts without it, says nothing,
# listens, and greets clients in msgpack. It looks for the package when a client has greeted back, writes a traceback into its log,
# and goes on without a decoder: it closes the connection at the client's first message. Clients that have the package come back
# for ever.
#
# Seen: the server runs: True / greeting b'M5' / answer b''
. "$(dirname "$0")/common.inc"
install ZODB==6.4 ZEO==6.2
output=$(cd "$folder" && "$python" - <<'PYTHON'
import socket, struct, subprocess, sys, time

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
with open("zeo.conf", "w") as conf:
    conf.write("<zeo>\naddress 127.0.0.1:%d\nmsgpack true\n</zeo>\n<mappingstorage 1/>\n" % port)
server = subprocess.Popen(
    [sys.executable, "-m", "ZEO.runzeo", "-C", "zeo.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    deadline = time.monotonic() + 20
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), 5)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    client.settimeout(10)
    frame = client.recv(100)
    print("greeting", frame[4:])
    # The greeting, and `lastTransaction()`.
    for message in (frame[4:], b"\x94\x01\x00\xaflastTransaction\x90"):
        client.sendall(struct.pack(">I", len(message)) + message)
    try:
        print("answer", client.recv(100))
    except ConnectionResetError:
        print("answer", b"")
    print("the server runs:", server.poll() is None)
finally:
    server.kill()
    server.wait()
PYTHON
)
saw "it greets in a codec that it does not have" "$(tr '\n' ' ' <<<"$output")" "greeting b'M5' answer b'' the server runs: True"
