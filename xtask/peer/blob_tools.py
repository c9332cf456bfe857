"""Databases with blobs, as ZODB makes them, reads them, and goes on with them, between the tools of `vellum`.

    blob_tools.py make DATA BLOBS --seed S        makes a database; says the root's oid, and an oid whose last change is to be undone
    blob_tools.py read DATA BLOBS                 the SHA-256 of every revision of every blob, and of those that are there now
    blob_tools.py export DATA BLOBS OID OUT       ZODB's exportFile
    blob_tools.py import DATA BLOBS IN            ZODB's importFile, into the root; says the oid
    blob_tools.py reachable DATA BLOBS OID        the SHA-256 of the blobs that the object leads to, sorted
    blob_tools.py go-on DATA BLOBS                changes blobs, undoes one change, and packs
"""
import argparse
import hashlib
import json
import random
import time

import transaction
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob, is_blob_record
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64


def open_db(args):
    return DB(FileStorage(args.data, blob_dir=args.blobs))


def fill(blob, dice, most=200_000):
    with blob.open('w') as file:
        file.write(dice.randbytes(dice.randrange(most)))


def sha(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def make(args):
    dice = random.Random(args.seed)
    db = open_db(args)
    connection = db.open()
    root = connection.root()
    for shelf in range(3):
        root[f'shelf {shelf}'] = PersistentMapping()
        for n in range(4):
            blob = root[f'shelf {shelf}'][f'photo {n}'] = Blob()
            fill(blob, dice)
        transaction.commit()
    for _ in range(8):
        shelf = root[f'shelf {dice.randrange(3)}']
        fill(shelf[dice.choice(sorted(shelf))], dice)
        transaction.commit()
    del root['shelf 2']['photo 3']
    transaction.commit()
    # A commit that fails when its blob has its name already: ZODB leaves the file.
    other = db.open(transaction.TransactionManager())
    blob, counter = root['shelf 0']['photo 0'], root['shelf 1']
    fill(blob, dice)
    counter['count'] = 1
    other.root()['shelf 1']['count'] = 2
    other.transaction_manager.commit()
    try:
        transaction.commit()
        raise SystemExit('there was no conflict')
    except ConflictError:
        transaction.abort()
    other.close()
    fill(root['shelf 1']['photo 1'], dice)
    transaction.commit()
    oid = root['shelf 1']['photo 1']._p_oid
    # The object's own serial is that of before: it is a ghost.
    print(json.dumps({'changed': u64(oid), 'tid': u64(db.storage.load(oid)[1])}))
    connection.close()
    db.close()


def read(args):
    storage = FileStorage(args.data, blob_dir=args.blobs)
    revisions, current = [], {}
    for t in storage.iterator():
        for record in t:
            if record.data is None or not is_blob_record(record.data):
                continue
            digest = sha(storage.loadBlob(record.oid, record.tid))
            revisions.append([u64(record.oid), u64(record.tid), digest])
            if storage.load(record.oid)[1] == record.tid:
                current[u64(record.oid)] = digest
    print(json.dumps({'revisions': sorted(revisions), 'current': sorted(current.items())}))
    storage.close()


def export(args):
    db = open_db(args)
    connection = db.open()
    connection.exportFile(p64(int(args.rest[0])), args.rest[1]).close()
    connection.close()
    db.close()


def import_(args):
    db = open_db(args)
    connection = db.open()
    imported = connection.importFile(args.rest[0])
    connection.root()['imported'] = imported
    transaction.commit()
    print(u64(imported._p_oid))
    connection.close()
    db.close()


def reachable(args):
    storage = FileStorage(args.data, blob_dir=args.blobs)
    waiting, seen, found = [p64(int(args.rest[0]))], set(), []
    while waiting:
        oid = waiting.pop()
        if oid in seen:
            continue
        seen.add(oid)
        data, tid = storage.load(oid)
        if is_blob_record(data):
            found.append(sha(storage.loadBlob(oid, tid)))
        waiting.extend(referencesf(data))
    print(json.dumps(sorted(found)))
    storage.close()


def go_on(args):
    dice = random.Random(args.seed)
    db = open_db(args)
    connection = db.open()
    root = connection.root()
    shelf = root['shelf 0']
    for name in ('photo 1', 'photo 2', 'photo 1'):
        fill(shelf[name], dice)
        transaction.commit()
    before = shelf['photo 1'].open('r').read()
    fill(shelf['photo 1'], dice)
    transaction.commit()
    db.undo(db.undoLog(0, 1)[0]['id'])
    transaction.commit()
    connection.sync()
    assert shelf['photo 1'].open('r').read() == before, 'the undo by ZODB'
    connection.close()
    time.sleep(0.01)
    db.pack()
    db.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('what')
    parser.add_argument('data')
    parser.add_argument('blobs')
    parser.add_argument('rest', nargs='*')
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    doings = {'make': make, 'read': read, 'export': export, 'import': import_, 'reachable': reachable, 'go-on': go_on}
    doings[args.what](args)


if __name__ == '__main__':
    main()
