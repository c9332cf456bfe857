"""ZEO 6.2's own tests, with `vellum serve` where they start a server.

    zeo_suite.py VELLUM FOLDER [--codec pickle|msgpack] [--only TEXT] [--workers N] [--everything] [--list]

ZEO's tests start a server by `ZEO._forker.start_zeo_server`. Here that function starts ours, with the same configuration.
Every test of ZEO is one of these:

    no server   it never starts one by that function
    inside      it needs Python inside the server, or what is not served: the reasons are below, by the names of tests
    refused     a server outside Python could pass it, and ours does not, on purpose
    outside     a server outside Python can pass it. All of these must pass.

Prints a line for each that fails, and then one with the counts. `--everything` also runs the tests that ZEO calls long, which
keep a processor busy for half a minute each, and what starts no server, and sees that it does not. `--list` prints how each test is sorted, and runs none.
"""

import argparse
import collections
import doctest
import fnmatch
import importlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import ZEO

# A test that takes longer is ended, and has failed. The slowest takes 40 seconds alone.
TEST_SECONDS_MAX = 150
START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 15

# The suite of ZEO 6.2 with ZODB 6.4, and the two classes that ZEO leaves out of its suite to save time: so many tests are of each
# kind. A test that is new is seen because another number comes out.
COUNTS = {"no server": 186, "inside": 133, "refused": 11, "outside": 679}

# (kind, reason, names as fnmatch has them). The first that fits counts. A test that none fits is for a server outside.
SORTED = [
    ("no server", "units of the client and of Python's server", [
        "ZEO.asyncio.tests.*", "ZEO.tests.test_cache.*", "ZEO.tests.testTransactionBuffer.*",
        "ZEO.tests.test_marshal.*", "ZEO.tests.testZEO.Test_convenience_functions.*", "*AAAA_Test_Runner_Hack*",
        "ZEO.tests.testZEO.ClientDisconnected_errors_are_TransientErrors",
        "ZEO.tests.testZEO.getInvalidationsAfterServerRestart",
        "ZEO.tests.testZEO.multiple_storages_invalidation_queue_is_not_insane",
        "ZEO.tests.testZEO2.*", "ZEO.tests.testConversionSupport.*",
        "*ClientSideConflictResolutionTests.test_server_side",
    ]),
    ("no server", "options and life of the program `runzeo`", [
        "ZEO.tests.testZEOOptions.*", "ZEO.tests.testZEOServer.*", "zdoptions_test",
        "ZEO.tests.testZEO.runzeo_*", "*SSLConfigTestMockiavellian*", "zeopack_test",
    ]),
    ("no server", "blobs of a storage that is in the client", [
        "ZODB.tests.testblob.gc_blob_removes_uncommitted_data*",
        "ZODB.tests.testblob.lp440234_Setting__p_changed_of_a_Blob_w_no_uncomitted_changes_is_noop*",
    ]),
    ("inside", "the storage is a class of a test module, which delays loads", ["*FileStorageLoadDelayedTests*"]),
    ("inside", "it looks at objects of the server in its own process", [
        "ZEO.tests.test_sync.*", "ZEO.tests.test_client_credentials.*", "dynamic_server_ports_test",
    ]),
    ("inside", "conflicts are merged by a class of a test module, and the server would have to run it", [
        "*.FileStorage*.checkResolve", "*.Blob*.checkResolve", "*.testUndoConflictResolution", "*.testUndoMultipleConflictResolution*",
    ]),
    ("inside", "it looks for lines of Python in the server's log", ["*TimeoutTests.checkTimeout", "*.client_labels"]),
    ("refused", "a database beside the index of a newer one is not opened until somebody says so", [
        "*.client_has_newer_data_than_server",
    ]),
    ("refused", "a demo storage does not pack", ["*DemoStorageTests.testPack*"]),
    ("inside", "a function of Python gives the key's password", ["*SSLConfigTest.test_ssl_pw"]),
    ("inside", "the server is made to speak a protocol of the past", ["protocols_test"]),
    ("inside", "the server's storage is a ZEO client (and it stores blobs)", ["zeo-fan-out_test"]),
]


def kind_of(name):
    for kind, reason, patterns in SORTED:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            return kind, reason
    return "outside", ""


# ---- The server in the place of ZEO's


class Started:
    """The servers that the test at hand has started."""

    def __init__(self, vellum):
        self.vellum = vellum
        self.processes = []
        self.wrong = []

    def start(self, storage_conf=None, zeo_conf=None, port=None, keep=False, path="Data.fs", protocol=None,
              blob_dir=None, suicide=True, debug=False, threaded=False, start_timeout=33, name=None, log=None,
              show_config=False):
        """`ZEO._forker.start_zeo_server`: the same configuration, and another program."""
        if not storage_conf:
            storage_conf = "<filestorage>\npath %s\n</filestorage>" % path
        if blob_dir:
            storage_conf = "<blobstorage>\nblob-dir %s\n%s\n</blobstorage>" % (blob_dir, storage_conf)
        if zeo_conf is None or isinstance(zeo_conf, dict):
            port = 0 if port is None else port
            address = ("127.0.0.1", port) if isinstance(port, int) else port
            more, zeo_conf = zeo_conf, ZEO._forker.ZEOConfig(address, log=log)
            zeo_conf.__dict__.update(more or {})
        text = str(zeo_conf) + "\n\n" + storage_conf
        descriptor, config = tempfile.mkstemp(".conf", prefix="server", dir=os.getcwd())
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        said = open(config + ".said", "w+")
        process = subprocess.Popen(
            [self.vellum, "serve", "--config", config], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
            text=True,
        )
        self.processes.append(process)
        line = self.first_line(process)
        if not line.startswith("listening on "):
            process.kill()
            process.wait()
            said.seek(0)
            raise AssertionError("the server does not start: %s\n%s" % (said.read(), text))
        shown = line.removeprefix("listening on ").strip()
        address = shown
        if not re.search(r"address \S*/", text):
            host, port = shown.rsplit(":", 1)
            address = (host.strip("[]"), int(port))
        files = [] if keep else [os.path.abspath(found) for found in re.findall(r"(?m)^\s*path (\S+)$", storage_conf)]
        ended = []

        def stop(stop_timeout=STOP_SECONDS_MAX):
            if ended:
                return
            ended.append(True)
            self.end(process, said)
            # As ZEO's does: a database that nobody wants to keep goes with its server.
            for file in files:
                for suffix in ["", ".index", ".tmp", ".lock", ".old", ".oids"]:
                    if os.path.exists(file + suffix):
                        os.remove(file + suffix)

        return address, stop

    @staticmethod
    def first_line(process):
        line = []
        reader = threading.Thread(target=lambda: line.append(process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(START_SECONDS_MAX)
        return line[0] if line else ""

    def end(self, process, said):
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = "none in %d s" % STOP_SECONDS_MAX
        process.stdout.close()
        said.seek(0)
        told = said.read()
        said.close()
        if code != 0 or "panicked" in told:
            self.wrong.append("the server ended with code %s: %s" % (code, told[-500:]))

    def forget(self):
        """Ends what the test has left, and returns how many it had started and what was wrong with them."""
        count, wrong = len(self.processes), self.wrong
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()
        self.processes, self.wrong = [], []
        return count, wrong


def replace(start):
    """Puts the function wherever ZEO's tests look for it."""
    import ZEO._forker

    original = ZEO._forker.start_zeo_server
    ZEO._forker.start_zeo_server = start
    for module in list(sys.modules.values()):
        if getattr(module, "start_zeo_server", None) is original:
            module.start_zeo_server = start


# ---- The tests


def flat(suite):
    if isinstance(suite, unittest.TestSuite):
        for test in suite:
            yield from flat(test)
    else:
        yield suite


def modules():
    root = os.path.dirname(ZEO.__file__)
    for folder, _, files in os.walk(root):
        for file in files:
            if file.startswith("test") and file.endswith(".py"):
                yield os.path.relpath(os.path.join(folder, file), os.path.dirname(root))[:-3].replace(os.sep, ".")


def more():
    """Classes that ZEO has, and does not run: for a server of another make they are as good as the others."""
    from ZEO.tests import testZEO

    for case in [testZEO.FileStorageTests, testZEO.DemoStorageTests]:
        for prefix in ["check", "test"]:
            loader = unittest.TestLoader()
            loader.testMethodPrefix = prefix
            yield loader.loadTestsFromTestCase(case)


def tests():
    """All tests, with names that are different."""
    suites = []
    for name in sorted(modules()):
        module = importlib.import_module(name)
        make = getattr(module, "test_suite", None)
        suites.append(make() if make else unittest.defaultTestLoader.loadTestsFromModule(module))
    suites.extend(more())
    seen = collections.Counter()
    for test in flat(unittest.TestSuite(suites)):
        name = test.id()
        seen[name] += 1
        yield (name if seen[name] == 1 else "%s#%d" % (name, seen[name])), test


# ---- A worker, which runs one test after the other


def record(make=logging.LogRecord):
    """`client-config.test` looks at the `message` of log records, which they have once some handler has formatted them. If the
    server answers so soon that there are records, it fails without this."""

    def made(*args, **kwargs):
        record = make(*args, **kwargs)
        try:
            record.message = record.getMessage()
        except Exception:  # Of wrong arguments a handler says so later.
            record.message = str(record.msg)
        return record

    return made


def work(vellum):
    logging.setLogRecordFactory(record())
    started = Started(os.path.abspath(vellum))
    import ZEO.tests.forker  # noqa: F401

    listed = dict(tests())
    replace(started.start)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    home = os.getcwd()
    for line in sys.stdin:
        name = json.loads(line)
        folder = tempfile.mkdtemp(dir=home)
        os.chdir(folder)
        tempfile.tempdir = folder
        result = unittest.TestResult()
        begun = time.monotonic()
        listed[name].run(result)
        seconds = time.monotonic() - begun
        count, wrong = started.forget()
        os.chdir(home)
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)
        why = [text for _, text in result.failures + result.errors] + wrong
        print(json.dumps({"why": why, "servers": count, "seconds": seconds}), file=answers, flush=True)
        skipped = [why for _, why in result.skipped]
        assert not skipped or not why, skipped


class Worker:
    def __init__(self, vellum, folder, number):
        self.folder = os.path.join(folder, "worker%d" % number)
        os.makedirs(self.folder, exist_ok=True)
        self.vellum = os.path.abspath(vellum)
        self.process = None

    def begin(self):
        said = open(os.path.join(self.folder, "said"), "a")
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), self.vellum, self.folder, "--work"], cwd=self.folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True,
        )
        said.close()

    def end(self):
        if self.process is not None:
            try:
                # Its servers are in its session, too.
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def run(self, name):
        if self.process is None:
            self.begin()
        self.process.stdin.write(json.dumps(name) + "\n")
        self.process.stdin.flush()
        timer = threading.Timer(TEST_SECONDS_MAX, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            self.end()
            return {"why": ["it hangs, or has ended the process"], "servers": 1, "seconds": TEST_SECONDS_MAX}
        return json.loads(line)


def run_all(options, names):
    """Runs tests side by side, as most of them wait. Those that keep a processor busy go to one worker, as long as there are
    others."""
    busy = [name for name in names if "test_race_" in name]
    waits = sorted(set(names) - set(busy), key=lambda name: bool(re.search("Concurrent|LargeUpdates|Connection|Thread", name)))
    waiting, results, lock = collections.deque(busy + waits), {}, threading.Lock()

    def loop(number):
        worker = Worker(options.vellum, options.folder, number)
        try:
            while True:
                with lock:
                    name = waiting.popleft() if number == 0 else waiting.pop()
                results[name] = worker.run(name)
        except IndexError:
            pass
        finally:
            worker.end()

    loops = [threading.Thread(target=loop, args=(number,)) for number in range(options.workers)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join()
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vellum")
    parser.add_argument("folder")
    parser.add_argument("--codec", choices=["pickle", "msgpack"], default="pickle")
    parser.add_argument("--only", default="")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--everything", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--work", action="store_true")
    options = parser.parse_args()
    if options.work:
        return work(options.vellum)
    os.environ["ZEO_MSGPACK"] = "1" if options.codec == "msgpack" else ""
    levels = {name: getattr(test, "level", 1) for name, test in tests()}
    names = list(levels)
    kinds = {name: kind_of(name) for name in names}
    unused = [pattern for _, _, patterns in SORTED for pattern in patterns if not fnmatch.filter(names, pattern)]
    assert not unused, "no test is called %s" % unused
    if options.list:
        for name in names:
            print("%-10s %s  %s" % (kinds[name][0], name, kinds[name][1]))
        return 0
    counts = collections.Counter(kind for kind, _ in kinds.values())
    wanted = ["outside", "no server"] if options.everything else ["outside"]
    chosen = [name for name in names if kinds[name][0] in wanted and options.only in name]
    long = [name for name in chosen if levels[name] > 1 and not options.everything]
    chosen = [name for name in chosen if name not in long]
    # It expects that a file without write bits cannot be written to, which root can; that fails with ZEO's server, too.
    for_people = [name for name in chosen if os.geteuid() == 0 and name.startswith("blob_transaction_txt")]
    chosen = [name for name in chosen if name not in for_people]
    results = run_all(options, chosen)
    # These tests wait for fixed times; on a machine with other work, one may be late. It may try once more, alone.
    again = [name for name in chosen if results[name]["why"]]
    options.workers = 1
    first, results = results, {**results, **run_all(options, again[:20])}
    failed = [name for name in chosen if results[name]["why"]]
    for name in failed:
        print("FAIL %s: %s" % (name, "\n".join(results[name]["why"])))
    wrong = [name for name in chosen if (results[name]["servers"] == 0) != (kinds[name][0] == "no server")]
    for name in wrong:
        print("FAIL %s: sorted as `%s`, and starts %d servers" % (name, kinds[name][0], results[name]["servers"]))
    if options.times:
        for name in sorted(chosen, key=lambda name: -results[name]["seconds"])[:40]:
            print("%6.1f %s" % (results[name]["seconds"], name))
    late = ["%s (%s)" % (name, first[name]["why"][0].strip().splitlines()[-1][:100]) for name in again if name not in failed]
    print(
        "%s: %d of %d tests that a server outside can pass%s; not for one: %s%s"
        % (
            options.codec,
            sum(kinds[name][0] == "outside" and name not in failed for name in chosen),
            counts["outside"],
            "".join("; %d %s were left out" % (len(left), what)
                    for left, what in [(long, "long ones"), (for_people, "that root cannot pass")] if left),
            ", ".join("%d %s" % (counts[kind], kind) for kind in ["no server", "inside", "refused"]),
            "; passed only alone: " + ", ".join(late) if late else "",
        )
    )
    if dict(counts) != COUNTS:
        print("FAIL other tests than those that were sorted: %s" % dict(counts))
        return 1
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
