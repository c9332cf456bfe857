"""What ZConfig and ZEO's schema make of configurations.

    config.py FOLDER

reads FOLDER/0, FOLDER/1, ... in order, each with a file zeo.conf and an environment in env.json, and prints a line of JSON
for each: the values that ZEO's server would be run with, or the error.
"""

import json
import os
import sys

import ZConfig
import ZConfig.loader
import ZEO


def address(value):
    where = value.address
    if isinstance(where, str):
        return where
    host, port = where
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def storage(opener):
    config = opener.config
    kind = config.getSectionType()
    if kind == "filestorage":
        return {
            "kind": kind,
            "path": config.path,
            "blob_dir": config.blob_dir or None,
            "create": bool(config.create),
            "read_only": bool(config.read_only),
            "quota": config.quota,
            "pack_gc": config.pack_gc,
            "pack_keep_old": config.pack_keep_old,
        }
    if kind == "mappingstorage":
        return {"kind": kind, "name": config.name}
    if kind == "demostorage":
        # The same choice as is made when it is opened.
        base = changes = None
        for factory in config.factories:
            if factory.name == "changes":
                changes = storage(factory)
            elif base is None:
                base = storage(factory)
            else:
                raise ValueError("too many base storages")
        return {"kind": kind, "name": config.name, "base": base, "changes": changes}
    if kind in ("zlibstorage", "serverzlibstorage"):
        compress = config.compress is None or config.compress
        return {"kind": kind, "compress": compress, "base": storage(config.base)}
    if kind == "blobstorage":
        return with_blobs(storage(config.base), config.blob_dir)
    raise ValueError(f"no storage of this kind is compared: {kind}")


def with_blobs(base, folder):
    """A storage with a blob folder.  ZODB also takes one that has a folder, or whose records are in memory; we do not."""
    if base["kind"] == "filestorage" and base["blob_dir"] is None:
        return {**base, "blob_dir": folder}
    for below in ("base", "changes"):
        if below in base and not (base["kind"] == "demostorage" and below == "base") and base[below]:
            return {**base, below: with_blobs(base[below], folder)}
    raise ValueError("no place for blobs")


def read(schema, path):
    config, _ = ZConfig.loadConfig(schema, path)
    zeo = config.zeo
    names = [opener.name for opener in config.storages]
    if names.count(None) > 1 or (None in names and "1" in names):
        raise ValueError("an unnamed storage, and another one with that name")
    log = config.eventlog
    return {
        "address": address(zeo.address),
        "read_only": zeo.read_only,
        "invalidation_queue_size": zeo.invalidation_queue_size,
        "invalidation_age": zeo.invalidation_age,
        "transaction_timeout": zeo.transaction_timeout,
        "pid_file": zeo.pid_filename or None,
        "clients_resolve": zeo.client_conflict_resolution,
        "msgpack": zeo.msgpack,
        "storages": [[opener.name or "1", storage(opener)] for opener in config.storages],
        "log": log and [log.level, [[to.section.path, to.section.level] for to in log.handler_factories]],
    }


def main(folder):
    schema = ZConfig.loadSchema(os.path.join(os.path.dirname(ZEO.__file__), "schema.xml"))
    os.chdir(folder)
    n = 0
    while os.path.isdir(str(n)):
        with open(f"{n}/env.json") as file:
            environment = json.load(file)
        os.environ.update(environment)
        try:
            said = {"ok": read(schema, f"{folder}/{n}/zeo.conf")}
        except Exception as error:  # A format of a log raises whatever comes up.
            said = {"error": f"{type(error).__name__}: {error}"}
        for name in environment:
            del os.environ[name]
        print(json.dumps(said))
        n += 1


if __name__ == "__main__":
    main(sys.argv[1])
