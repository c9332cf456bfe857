"""A storage in a dict, and its adapter: all that a program needs to be held to the rules.

    vellum-prove --peer-command 'python3 example.py' --cases 1000

Oids, tids and records stay the hex that they come as: hex of one length compares as the bytes do.
"""

import json
import sys

NOTHING = "0" * 16


class Refused(Exception):
    """A rule forbids it: the answer says which."""


class Storage:
    def __init__(self):
        self.past, self.transactions = {}, []

    def vote(self, changes):
        for change in changes:
            oid, serial = change["oid"], change["serial"]
            newest = self.past.get(oid, [(NOTHING, "")])[-1][0]
            if not change["data"]:
                raise Refused({"why": "empty", "oid": oid})
            if serial != newest:
                raise Refused({"why": "conflict", "oid": oid, "committed": newest, "serial": serial})

    def finish(self, meta, changes, clock):
        tid = max(clock, f"{int(self.last(), 16) + 1:016x}")
        revisions = [{"oid": c["oid"], "version": "", "data": c["data"], "source": None} for c in changes]
        for revision in revisions:
            self.past.setdefault(revision["oid"], []).append((tid, revision["data"]))
        self.transactions.append({"tid": tid, "packed": False, **meta, "revisions": revisions})
        return tid

    def last(self):
        return self.transactions[-1]["tid"] if self.transactions else NOTHING

    def load_before(self, oid, before):
        revisions = self.past[oid]
        n = sum(tid < before for tid, _ in revisions)
        if not n:
            return {"is": "not_yet"}
        tid, data = revisions[n - 1]
        return {"is": "shown", "data": data, "tid": tid, "next": revisions[n][0] if n < len(revisions) else None}


def step(storage, begun, do, transaction=None, change=None, clock=None, **more):
    if do == "hello":
        return {"name": "a dict", "can": [], "cannot": ["history", "last_invalidations", "current_records"]}
    if do == "begin":
        begun.update(changes=[], meta={key: more[key] for key in ("user", "description", "extension")})
        if max(len(more["user"]), len(more["description"])) > 0xFFFF:
            raise Refused({"why": "too_long"})
    if do == "change":
        begun["changes"].append(more)
    if do == "vote":
        storage.vote(begun["changes"])
        begun["clock"] = clock
        return {"is": "voted", "resolved": []}
    if do == "finish":
        return {"is": "finished", "tid": storage.finish(begun["meta"], begun["changes"], begun["clock"])}
    return {"is": "done"}


def question(storage, ask, oid=None, version="", before=None, tid=None, first=None, last=None, newest_first=False):
    if ask == "last_transaction":
        return {"is": "tid", "tid": storage.last()}
    if ask == "transactions":
        found = [t for t in storage.transactions if first <= t["tid"] <= last]
        return {"is": "transactions", "transactions": found[::-1] if newest_first else found}
    if ask == "load":
        return {"is": "loaded", "data": storage.past[oid][-1][1], "tid": storage.past[oid][-1][0]}
    if ask == "load_before":
        return storage.load_before(oid, before)
    return {"is": "record", "data": dict(storage.past[oid])[tid]}


storage, begun = Storage(), {}
for line in sys.stdin:
    request = json.loads(line)
    if isinstance(request, list):
        answer = []
        for asked in request:
            try:
                answer.append(question(storage, **asked))
            except KeyError:
                answer.append({"is": "key_error"})
    else:
        if request["do"] == "reset":
            storage = Storage()
        try:
            answer = step(storage, begun, **request)
        except Refused as refused:
            answer = {"is": "refused", **refused.args[0]}
    print(json.dumps(answer), flush=True)
