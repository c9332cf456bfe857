"""A PostgreSQL server of one's own, in a folder that goes with it: for the adapters of storages on PostgreSQL.

It listens at a Unix socket in its folder, and nowhere else. Needed are the programs of PostgreSQL, as Debian's package
`postgresql` has them. PostgreSQL does not run as root, so root starts it as the user `postgres` of that package.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

# Power does not fail here.
SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=50")


class Cluster:
    """The server, from its making until `stop`."""

    def __init__(self):
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="vellum-postgres-", dir=memory))
        self.user = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self.user = {"user": "postgres", "group": user.pw_gid, "extra_groups": []}
        data = self.folder / "data"
        self.run("initdb", "-D", data, "-U", "vellum", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        self.log = (self.folder / "log").open("w")
        command = [program("postgres"), "-D", data, "-k", self.folder, *settings]
        self.server = subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd=self.folder, **self.user)
        self.run("pg_isready", "-h", self.folder, "-U", "vellum", tries=300)
        self.dsn = f"dbname=postgres user=vellum host={self.folder}"

    def run(self, name, *arguments, tries=1):
        for _ in range(tries):
            done = subprocess.run([program(name), *arguments], cwd=self.folder, capture_output=True, **self.user)
            if done.returncode == 0:
                return
            if tries > 1:
                time.sleep(0.1)
        raise RuntimeError(f"{name}: {done.stderr.decode()}")

    def stop(self):
        self.server.send_signal(signal.SIGQUIT)  # The quickest: nothing is to be kept.
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def program(name):
    """The newest of the installed ones."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) or [shutil.which(name)]
    if found[-1] is None:
        raise RuntimeError(f"there is no `{name}`: install PostgreSQL, as Debian's package `postgresql`")
    return found[-1]
