"""What ZODB's conflict resolution makes of random changes to the collections of the BTrees package.

    btrees.py --random N --seed S   N triples of records for each class, a line of JSON each, with what came of them
    btrees.py --same                two records a line, in hex; answers whether both load to the same
"""
import argparse
import datetime
import io
import json
import logging
import pickletools
import random
import sys

import BTrees
from BTrees.Length import Length
from persistent import Persistent
from ZODB._compat import PersistentPickler, PersistentUnpickler
from ZODB.ConflictResolution import (
    PersistentReference, PersistentReferenceFactory, find_global, tryToResolveConflict)
from ZODB.POSException import ConflictError

KINDS = ['Bucket', 'Set', 'BTree', 'TreeSet']
OID = b'\0' * 7 + b'\x01'


# Records, and what ZODB makes of three of them.

def persistent_id(value):
    if type(value) is PersistentReference:
        return value.data
    if isinstance(value, Persistent) and not isinstance(value, type):
        return (b'\0' * 6 + b'\x0f\x01', type(value))
    return None


def record(meta, state, protocol=3):
    file = io.BytesIO()
    pickler = PersistentPickler(persistent_id, file, protocol)
    pickler.dump(meta)
    pickler.dump(state)
    return file.getvalue()


def load(data):
    unpickler = PersistentUnpickler(find_global, PersistentReferenceFactory().persistent_load, io.BytesIO(data))
    return unpickler.load(), unpickler.load()


def plain(value):
    """The value as something that can be compared, types and references included."""
    if type(value) is PersistentReference:
        return 'reference', plain(value.data)
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [plain(item) for item in value]
    if isinstance(value, dict):
        return 'dict', [(plain(key), plain(item)) for key, item in value.items()]
    return type(value).__name__, repr(value)


class Storage:
    """As much of a storage as conflict resolution looks at."""

    _crs_transform_record_data = _crs_untransform_record_data = staticmethod(lambda data: data)

    def __init__(self, ancestor, committed):
        self.records = {1: ancestor, 2: committed}

    def loadSerial(self, oid, serial):
        return self.records[serial]


def resolve(ancestor, committed, new):
    try:
        return tryToResolveConflict(Storage(ancestor, committed), OID, 2, 1, new)
    except ConflictError:
        return None


# Keys and values.

CLASSES = [BTrees.OOBTree.OOBTree, BTrees.IOBTree.IOBucket, Length]


class Maker:
    """Makes up keys and values for one triple."""

    def __init__(self, dice):
        self.dice = dice
        self.key_style = dice.choice(['int', 'int', 'text', 'text', 'bytes', 'tuple', 'number', 'none', 'reference'])
        self.value_style = dice.choice(
            ['int', 'text', 'reference', 'reference', 'tuple', 'number', 'none', 'mixed', 'list', 'dict', 'weak'])

    def reference(self, weak=False):
        dice = self.dice
        oid = bytes(7) + bytes([dice.choice([5, 5, 5, 6, 7, 200])])
        if weak:
            data = dice.choice([['w', (oid,)], ['w', (oid, 'other')], [oid]])
        else:
            klass = dice.choice(CLASSES[:2])
            data = dice.choice([(oid, klass), (oid, klass), (oid, klass), oid, (oid, None), (oid, ('shop', 'Stock')),
                                ['m', ('other', oid, klass)], ['n', ('other', oid)]])
            if dice.random() < .05:
                data = 'abcdefgh'
        return PersistentReference(data)

    def number(self):
        dice = self.dice
        return dice.choice([
            dice.randrange(-3, 12), dice.randrange(-3, 12) / 2, bool(dice.randrange(2)), dice.randrange(8) * 2 ** 60,
            float(dice.randrange(8) * 2 ** 60), 2 ** 80 - dice.randrange(2), 2.0 ** 80, -2 ** 64 + dice.randrange(2),
            1e300, float('inf'), 10 ** dice.randrange(300)] + [float('nan')] * (dice.random() < .1))

    def text(self):
        return ''.join(self.dice.choice('ab\xe9\u2603\U0001f40d\ud800\uffff') for _ in range(self.dice.randrange(4)))

    def any(self, style):
        dice = self.dice
        if style == 'int':
            return dice.randrange(20)
        if style == 'text':
            return dice.choice('abcdefghijkl') if dice.random() < .7 else self.text()
        if style == 'bytes':
            return bytes(dice.choice([0, 97, 98, 128, 255]) for _ in range(dice.randrange(4)))
        if style == 'number':
            return self.number()
        if style == 'none':
            return None if dice.random() < .3 else dice.randrange(9)
        if style == 'reference':
            return self.reference()
        if style == 'weak':
            return self.reference(weak=True)
        if style in ('tuple', 'list'):
            items = [self.any(dice.choice(['int', 'int', 'int', 'text', 'number', 'none', 'reference'])
                              if n else dice.choice(['int'] * 9 + ['reference', 'text', 'tuple']))
                     for n in range(dice.randrange(4))]
            return tuple(items) if style == 'tuple' else items
        if style == 'dict':
            return {'a': dice.randrange(9)} if dice.random() < .3 else 7
        return self.any(dice.choice(['int', 'int', 'int', 'text', 'bytes', 'none']))

    def key(self, letter):
        return self.any(self.key_style) if letter == 'O' else self.native(letter)

    def value(self, letter):
        return self.any(self.value_style) if letter == 'O' else self.native(letter)

    def native(self, letter):
        dice = self.dice
        if letter == 'F':
            choices = [dice.randrange(-9, 9) / 4, dice.randrange(9), .1, 1e300, True, float('nan'), 2 ** 40 + 1, 1e-40]
            return dice.choice(choices[:2] if dice.random() < .8 else choices)
        if letter == 'f':
            return bytes(dice.choice([0, 1, 2, 200]) for _ in range(2))
        if letter == 's':
            return bytes([dice.randrange(9)] * 6)
        bits = 32 if letter in 'IU' else 64
        least, most = (-2 ** (bits - 1), 2 ** (bits - 1) - 1) if letter in 'IL' else (0, 2 ** bits - 1)
        return dice.choice([dice.randrange(16)] * 12 + [least, most, True, most - 1])


def changed(dice, maker, letters, has_values, items):
    """The items after a transaction."""
    items = list(items)
    for _ in range(dice.choice([0, 1, 1, 1, 2, 2, 3])):
        what = dice.randrange(3 if has_values else 2)
        if what == 0 or not items:
            items.append((maker.key(letters[0]), maker.value(letters[1])))
        elif what == 1:
            # The first key is taken out now and then, and mostly not.
            del items[dice.randrange(len(items)) if dice.random() < .3 else -1]
        else:
            at = dice.randrange(len(items))
            items[at] = items[at][0], maker.value(letters[1])
    return items


def in_order(make, items, has_values):
    """The items as the collection itself keeps them; as they are, if it refuses to."""
    try:
        collection = make()
        for key, value in items:
            if has_values:
                collection[key] = value
            else:
                collection.add(key)
        return list(collection.items()) if has_values else [(key, None) for key in collection.keys()]
    except (TypeError, ValueError):
        return items


def state_of(dice, module, letters, kind, items, following):
    """The state of a collection with these items."""
    has_values = kind in ('Bucket', 'BTree')
    items = in_order(getattr(module, letters + 'Bucket' if has_values else letters + 'Set'), items, has_values)
    flat = tuple(part for item in items for part in (item if has_values else item[:1]))
    odd = dice.random()
    if odd < .01:
        flat += (7,)
    bucket = (flat,) if following is None else (flat, following)
    if odd > .99:
        bucket = dice.choice([None, (flat, None), flat, (list(flat),), bucket + (1, 2), 5])
    if kind in ('Bucket', 'Set'):
        return bucket
    if not items:
        return None
    if dice.random() < .02:
        # So large that its buckets are objects.
        large = getattr(module, letters + kind)()
        for key in range(2000):
            large.update({key: 1} if has_values else [key]) if letters[0] in 'ILUQ' and letters[1] != 'f' else None
        state = large.__getstate__()
        return state if state and len(state) == 2 else ((bucket,), 'more')
    return ((bucket,),)


def meta_of(dice, klass):
    return dice.choice([klass] * 14 + [
        (klass, None), (klass, ()), (klass, (1,)), ((klass.__module__, klass.__name__), ()),
        ((klass.__module__, klass.__name__), None), (klass,), (klass.__module__, klass.__name__)])


def as_python_2(data):
    """The same record with text as the `str` of Python 2 where that can be."""
    data = bytearray(data)
    base = 0
    for _ in range(2):
        for opcode, argument, at in pickletools.genops(bytes(data[base:])):
            if opcode.name == 'BINUNICODE' and argument.isascii():
                data[base + at] = ord('T')
        base += at + 1
    return bytes(data)


def holds_reference(value):
    if isinstance(value, (tuple, list)):
        return any(holds_reference(item) for item in value)
    return isinstance(value, (PersistentReference, Persistent))


def finish(dice, klass, states):
    """The records, in one of the forms that there are."""
    meta = meta_of(dice, klass)
    protocol = dice.choice([3, 3, 3, 3, 2, 1, 0])
    if protocol == 0 and any(map(holds_reference, states)):
        protocol = 1
    records = [record(meta, state, protocol) for state in states]
    if any(b'__builtin__' in data for data in records):
        # Bytes without any byte, in a form that ZODB itself never writes, and cannot read while it resolves conflicts.
        records = [record(meta, state) for state in states]
    # Bytes below protocol 3 are a call with text, which is how Python 3 writes them.
    if protocol in (1, 2) and dice.random() < .5 and not any(b'_codecs' in data for data in records):
        try:
            records = [as_python_2(data) for data in records]
        except ValueError:
            pass
    if dice.random() < .1 and klass is not Length:
        # Other names for the same class.
        module, name = klass.__module__, klass.__name__
        other = dice.choice([(module.replace('.', '._'), name), (module, name[2:]), (module, name[2:] + 'X'), (module, name + 'Py'),
                            
                             ('shop.models', name)])
        names = '\n'.join((module, name)).encode(), '\n'.join(other).encode()
        # Not in a reference: a class that cannot be imported is another one each time that ZODB meets it.
        is_class = all(data.startswith((b'c', b'\x80\x02c', b'\x80\x03c')) for data in records)
        records = [data.replace(*names, 1) for data in records] if is_class else records
    return records


def triple_of_length(dice):
    style = dice.choice(['int', 'int', 'int', 'number', 'odd'])
    value = {
        'int': lambda: dice.randrange(-300, 70000),
        'number': lambda: dice.choice([1, -1, True, .5, 2 ** 63, -2 ** 63, 2 ** 31, 2 ** 100, 10 ** 200,
                                       float('nan')][:-1 if dice.random() < .9 else None]),
        'odd': lambda: dice.choice([3, None, 'x', (), {'value': 3}, b'']),
    }[style]
    states = [value() for _ in range(3)]
    # A float and a number beyond 128 bits: ours refuses, as its page says.
    if any(isinstance(s, float) for s in states) and 10 ** 200 in states:
        return triple_of_length(dice)
    return finish(dice, Length, states)


def triple(dice, letters, kind):
    module = getattr(BTrees, letters + 'BTree')
    maker = Maker(dice)
    has_values = kind in ('Bucket', 'BTree')
    ancestor = [(maker.key(letters[0]), maker.value(letters[1])) for _ in range(dice.randrange(2, 9))]
    if letters[0] != 'O' or maker.key_style != 'reference' or dice.random() < .5:
        make = getattr(module, letters + ('Bucket' if has_values else 'Set'))
        ancestor = in_order(make, ancestor, has_values)
    sides = [ancestor, changed(dice, maker, letters, has_values, ancestor),
             changed(dice, maker, letters, has_values, ancestor)]
    following = [None] * 3
    if kind in ('Bucket', 'Set') and dice.random() < .5:
        klass = getattr(module, letters + kind)
        following = [PersistentReference((bytes(7) + b'\x09', klass)) for _ in range(3)]
        if dice.random() < .1:
            following[dice.randrange(3)] = dice.choice([
                None, PersistentReference((bytes(7) + b'\x08', klass)), PersistentReference(bytes(7) + b'\x09')])
    states = [state_of(dice, module, letters, kind, items, following) for items, following in zip(sides, following)]
    return finish(dice, getattr(module, letters + kind), states)


def known():
    """What ZODB merges, and we do not."""
    klass = BTrees.OOBTree.OOBucket
    date, later = datetime.date(2024, 2, 29), datetime.date(2024, 3, 1)
    for value in date, frozenset([1]):
        yield [record(klass, ((1, value, 2, 3),)), record(klass, ((1, value, 2, 4),)),
               record(klass, ((1, value, 2, 3, 5, 6),))]
    yield [record(klass, ((1, 2),)), record(klass, ((1, 2, 3, later),)), record(klass, ((1, 2, 4, 5),))]


def say(name, kind, records, is_known=False):
    ancestor, committed, new = records
    merged = resolve(ancestor, committed, new)
    print(json.dumps({
        'family': name, 'kind': kind, 'known': is_known, 'python': b'Py\n' in new, 'merged': merged and merged.hex(),
        'ancestor': ancestor.hex(), 'committed': committed.hex(), 'new': new.hex()}))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument('--random', type=int, default=0)
    arguments.add_argument('--seed', type=int, default=1)
    arguments.add_argument('--same', action='store_true')
    arguments = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.same:
        for line in sys.stdin:
            one, other = (load(bytes.fromhex(part)) for part in line.split())
            print(json.dumps(plain(one) == plain(other)))
        return
    dice = random.Random(arguments.seed)
    for records in known():
        say('OO', 'Bucket', records, is_known=True)
    for _ in range(arguments.random):
        say('', 'Length', triple_of_length(dice))
    for letters in BTrees._FAMILIES:
        for kind in KINDS:
            for _ in range(arguments.random):
                say(letters, kind, triple(dice, letters, kind))


main()
