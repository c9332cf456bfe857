#!/usr/bin/env bash
# ZEO 6.2. With TLS 1.3 a client's handshake is over before the server has looked at the client's certificate. A server that
# wants one and gets none closes the connection after that. To ZEO's client this looks like a connection that was made and then
# lost, and it makes the next one at once: the pause between attempts is only for connections that could not be made. So one
# client that was set up without its certificate keeps a server and a processor busy.
#
# Seen: more than 30 connections in 3 seconds: True
. "$(dirname "$0")/common.inc"
install ZODB==6.4 ZEO==6.2 trustme==1.2.1
output=$(cd "$folder" && "$python" - <<'PYTHON'
import logging
logging.disable(logging.CRITICAL)
import socket, ssl, subprocess, sys, threading, time
import trustme
from ZEO.ClientStorage import ClientStorage

authority = trustme.CA()
authority.cert_pem.write_to_path("ca.pem")
authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path("server.pem")

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
with open("zeo.conf", "w") as conf:
    conf.write("""<zeo>
  address localhost:%d
  <ssl>
    certificate server.pem
    key server.pem
    authenticate ca.pem
  </ssl>
</zeo>
<mappingstorage 1/>
""" % port)
server = subprocess.Popen(
    [sys.executable, "-m", "ZEO.runzeo", "-C", "zeo.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

# Counts the connections, and passes the bytes on.
door = socket.create_server(("127.0.0.1", 0))
count = 0

def pass_on(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

def accept():
    global count
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        count += 1
        behind = socket.create_connection(("localhost", port), 5)
        for pair in ((client, behind), (behind, client)):
            threading.Thread(target=pass_on, args=pair, daemon=True).start()

try:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("localhost", port), 5).close()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    threading.Thread(target=accept, daemon=True).start()
    context = ssl.create_default_context(cafile="ca.pem")
    storage = ClientStorage(
        door.getsockname(), ssl=context, ssl_server_hostname="localhost", wait=False, min_disconnect_poll=1)
    time.sleep(3)
    seen = count
    print(seen, "connections", file=sys.stderr)
    print("more than 30 connections in 3 seconds:", seen > 30)
    storage.close()
finally:
    door.close()
    server.kill()
    server.wait()
PYTHON
)
saw "a client without its certificate does not pause" "$output" "3 seconds: True"
