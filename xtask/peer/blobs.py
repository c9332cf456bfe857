"""Blob folders as ZODB makes them, and as it finds them.

    blobs.py make FOLDER --databases N --seed S   makes N databases with blobs; a line of JSON each
    blobs.py read DATA BLOBS                      reads every blob of a database, goes on with it, and says what it read

Each database is made by random commits, aborts, undos and packs, in either layout. `NAME.before` is a copy of its blob folder before
the last pack.
"""
import argparse
import hashlib
import json
import os
import random
import shutil
import stat

import transaction
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError, UndoError
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import u64


def listing(storage):
    """All files of blobs: oid, tid, length, mode."""
    helper, found = storage.fshelper, []
    for oid, path in helper.listOIDs():
        for name in os.listdir(path):
            file = os.path.join(path, name)
            about = os.stat(file)
            found.append([u64(oid), u64(helper.splitBlobFilename(file)[1]), about.st_size, stat.S_IMODE(about.st_mode)])
    return sorted(found)


class Maker:
    """One database."""

    def __init__(self, dice, folder, name, layout, keep_old):
        self.dice, self.layout, self.keep_old = dice, layout, keep_old
        self.data, self.blobs = (os.path.join(folder, name + end) for end in ('.fs', '.blobs'))
        os.mkdir(self.blobs)
        with open(os.path.join(self.blobs, '.layout'), 'w') as marker:
            marker.write(layout)
        # A new data file would empty the folder, and its marker with it.
        open(self.data, 'w').close()
        self.storage = FileStorage(self.data, blob_dir=self.blobs, pack_keep_old=keep_old)
        assert self.storage.fshelper.layout_name == layout
        self.db = DB(self.storage)
        self.connection = self.db.open()
        self.root = self.connection.root()
        self.root['more'] = PersistentMapping()
        transaction.get().note('more')
        transaction.commit()

    def write(self, blob):
        data = self.dice.randbytes(self.dice.choice([0, 1, 700, 70_000]))
        if self.dice.random() < 0.2:
            source = self.data + '.source'
            with open(source, 'wb') as file:
                file.write(data)
            os.chmod(source, self.dice.choice([0o755, 0o600, 0o664, 0o2755]))
            blob.consumeFile(source)
        else:
            with blob.open('w') as file:
                file.write(data)

    def step(self):
        more, dice = self.root['more'], self.dice
        what = dice.choices(['new', 'change', 'delete', 'undo', 'pack'], [4, 6, 1, 3, 1])[0]
        if what == 'undo':
            log = [entry for entry in self.db.undoLog(0, 5) if entry['description'] not in (b'more', 'more')]
            try:
                self.db.undo(dice.choice(log)['id'])
                transaction.commit()
            except (UndoError, IndexError):
                transaction.abort()
        elif what == 'pack':
            self.pack()
        else:
            key = 'b%d' % dice.randrange(6)
            if what == 'delete':
                more.pop(key, None)
            elif what == 'change' and key in more:
                self.write(more[key])
            else:
                blob = more[key] = Blob()
                self.connection.add(blob)
                self.write(blob)
            if dice.random() < 0.1:
                transaction.abort()
            else:
                transaction.commit()

    def pack(self):
        tids = [record.tid for record in self.storage.iterator()]
        tid = self.dice.choice(tids)
        try:
            self.db.pack(TimeStamp(tid).timeTime() + 0.000001)
        except Exception as error:  # nothing to pack, or garbage that an earlier pack took
            if 'FileStorageError' not in type(error).__name__:
                raise

    def make(self, steps):
        for _ in range(steps):
            self.step()
        transaction.abort()
        shutil.rmtree(self.blobs + '.old', ignore_errors=True)
        shutil.rmtree(self.blobs + '.before', ignore_errors=True)
        shutil.copytree(self.blobs, self.blobs + '.before', symlinks=True)
        self.pack()
        said = {'data': self.data, 'blobs': self.blobs, 'layout': self.layout, 'keep_old': self.keep_old}
        said['files'] = listing(self.storage)
        self.db.close()
        return said


def make(folder, databases, seed):
    dice = random.Random(seed)
    for number in range(databases):
        maker = Maker(dice, folder, 'd%d' % number, ['bushy', 'lawn'][number % 2], number % 4 < 2)
        print(json.dumps(maker.make(dice.randrange(5, 30))))


def can_read(blob):
    try:
        with blob.open('r') as file:
            file.read()
        return True
    except POSKeyError:
        return False


def read(data, blobs):
    storage = FileStorage(data, blob_dir=blobs)
    found = []
    for oid, tid, _, _ in listing(storage):
        path = storage.loadBlob(oid.to_bytes(8, 'big'), tid.to_bytes(8, 'big'))
        with open(path, 'rb') as file:
            found.append([oid, tid, hashlib.sha256(file.read()).hexdigest()])
    db = DB(storage)
    with db.transaction() as connection:
        more = connection.root()['more']
        # A pack can have taken what an undo brought back: docs/findings/filestorage.md, 4.
        current = [key for key, blob in more.items() if can_read(blob)]
        blob = more['new'] = Blob(b'by ZODB')
    with db.transaction() as connection:
        with connection.root()['more']['new'].open('a') as file:
            file.write(b', again')
    db.undo(db.undoLog(0, 1)[0]['id'])
    transaction.commit()
    with db.transaction() as connection:
        with connection.root()['more']['new'].open('r') as file:
            assert file.read() == b'by ZODB'
    db.close()
    print(json.dumps({'found': found, 'current': len(current)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    command = commands.add_parser('make')
    command.add_argument('folder')
    command.add_argument('--databases', type=int, default=4)
    command.add_argument('--seed', type=int, default=1)
    command = commands.add_parser('read')
    command.add_argument('data')
    command.add_argument('blobs')
    arguments = parser.parse_args()
    if arguments.command == 'make':
        make(arguments.folder, arguments.databases, arguments.seed)
    else:
        read(arguments.data, arguments.blobs)


main()
