#!/usr/bin/env bash
# ZEO 6.2 with ZConfig 4.3. With SIGUSR2 a server opens its log anew, as logrotate wants it. If its `<logfile>` has `when midnight`,
# the signal puts the file aside instead, under the name of the day; and it removes the file that has that name already. So the
# second signal of a day removes all lines from before the first one, and nothing says so.
#
# Seen: after three signals in a day: zeo.log, zeo.log.DAY; the lines of the server's start are in none of them
. "$(dirname "$0")/common.inc"
install ZODB==6.4 ZEO==6.2 ZConfig==4.3
output=$(cd "$folder" && "$python" - <<'PYTHON'
import glob, os, signal, socket, subprocess, sys, time

with open("zeo.conf", "w") as conf:
    conf.write("""
<zeo>
  address 127.0.0.1:0
  pid-filename zeo.pid
</zeo>
<mappingstorage 1/>
<eventlog>
  level info
  <logfile>
    path zeo.log
    when midnight
    old-files 7
  </logfile>
</eventlog>
""")
server = subprocess.Popen(
    [sys.executable, "-m", "ZEO.runzeo", "-C", "zeo.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def lines():
    return "".join(open(name).read() for name in glob.glob("zeo.log*"))


def wait_for(is_there):
    deadline = time.monotonic() + 20
    while not is_there():
        if time.monotonic() > deadline or server.poll() is not None:
            sys.exit("it did not come")
        time.sleep(0.1)


START = "opening storage"
try:
    wait_for(lambda: os.path.exists("zeo.log") and "listening on" in lines())
    print("the start is in the log:", START in lines())
    for signals in range(1, 4):
        server.send_signal(signal.SIGUSR2)
        time.sleep(1)
        names = sorted("zeo.log" if name == "zeo.log" else "zeo.log.DAY" for name in glob.glob("zeo.log*"))
        print("after signal", signals, *names, "with the start:", START in lines())
finally:
    server.kill()
    server.wait()
PYTHON
)
saw "a signal to open the log anew removes lines" "$output" "the start is in the log: True" \
    "after signal 1 .* with the start: True" "after signal 2 .* with the start: False"
