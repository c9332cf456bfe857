"""Plays programs over B-trees on the BTrees package, and compares what two databases hold.

    btree_shapes.py setup FILE PROGRAMS             an empty tree for each program, in the root
    btree_shapes.py play FILE PROGRAMS TURN SIDE    plays the operations of one turn, those of a side or of both (`all`)
    btree_shapes.py read FILE PROGRAMS              the contents of all trees, which must pass `check` and `_check`
    btree_shapes.py compare FILE FILE PROGRAMS      the same records in the transactions of the same names, which depend on
                                                    the same objects

A program is a line of JSON. Its turns are in transactions that are called `program turn`. Answers are lines of JSON.
"""
import io
import json
import sys

import BTrees
import transaction
from BTrees.check import check
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from zodbpickle import pickle


def decoded(value):
    if isinstance(value, dict):
        (kind, inner), = value.items()
        return {'b': bytes.fromhex, 't': lambda items: tuple(map(decoded, items)), 'f': float}[kind](inner)
    return value


def encoded(value):
    if isinstance(value, bytes):
        return {'b': value.hex()}
    if isinstance(value, tuple):
        return {'t': [encoded(item) for item in value]}
    if isinstance(value, float):
        return {'f': value}
    return value


def of(program):
    module = getattr(BTrees, program['family'] + 'BTree')
    return getattr(module, program['family'] + program['kind'])


def apply(tree, op, program):
    name, *arguments = op
    arguments = [decoded(argument) for argument in arguments]
    key = arguments[0] if arguments else None
    if name == 'set':
        there = key in tree
        tree[key] = arguments[1]
        return there
    if name == 'insert':
        return bool(tree.insert(*arguments))
    if name == 'add':
        return bool(tree.add(key))
    if name == 'remove':
        try:
            tree.remove(key) if program['kind'] == 'TreeSet' else tree.__delitem__(key)
        except KeyError:
            return False
        return True
    if name == 'clear':
        tree.clear()
        return True
    if name == 'get':
        return encoded(tree.get(key)) if program['kind'] == 'BTree' else key in tree
    if name == 'pop':
        if not tree:
            return None
        return encoded(tree.popitem()[0] if program['kind'] == 'BTree' else tree.pop())
    if name == 'range':
        low, high, excludes_low, excludes_high = arguments
        return [encoded(key) for key in tree.keys(low, high, excludes_low, excludes_high)]
    raise ValueError(name)


def sized(program):
    """The tree's class, with the sizes of the program."""
    tree = of(program)
    leaf, inner = program['sizes']
    tree.max_leaf_size, tree.max_internal_size = leaf, inner
    return tree


def fault(tree):
    try:
        check(tree)
        tree._check()
    except AssertionError as error:
        return str(error)
    return None


def setup(path, programs):
    db = DB(FileStorage(path))
    with db.transaction() as connection:
        root = connection.root()
        for number, program in enumerate(programs):
            tree = root[str(number)] = of(program)()
            connection.add(tree)
    db.close()


def play(path, programs, turn, side):
    skipped = set(json.loads(sys.stdin.read() or '[]'))
    db = DB(FileStorage(path))
    connection = db.open()
    root = connection.root()
    played = []
    for number, program in enumerate(programs):
        if number in skipped or turn >= len(program['turns']) or side not in ('all', program['turns'][turn]['side']):
            continue
        sized(program)
        tree = root[str(number)]
        before = None if side == 'all' else fault(tree)
        results = [apply(tree, op, program) for op in program['turns'][turn]['ops']]
        # Those that are stored are compared by their serials anyway.
        needed = [int.from_bytes(oid, 'big') for oid in connection._readCurrent]
        transaction.get().note('%d %d' % (number, turn))
        transaction.commit()
        played.append((number, results, before, needed))
        connection.cacheMinimize()
    # As another program reads them.
    other = db.open(transaction_manager=transaction.TransactionManager())
    for number, results, before, needed in played:
        after = fault(other.root()[str(number)])
        said = {'program': number, 'results': results, 'before': before, 'after': after, 'needed': needed}
        print(json.dumps(said))
    db.close()


def read(path, programs):
    db = DB(FileStorage(path, read_only=True))
    connection = db.open()
    for number, program in enumerate(programs):
        tree = connection.root()[str(number)]
        items = tree.items() if program['kind'] == 'BTree' else tree.keys()
        items = [encoded(item) for item in items]
        assert len(items) == len(tree), number
        print(json.dumps({'program': number, 'items': items, 'fault': fault(tree)}))
        connection.cacheMinimize()
    db.close()


class Reference:
    def __init__(self, oid, name):
        self.oid, self.name = oid, name

    def __repr__(self):
        return 'object %d' % int.from_bytes(self.oid, 'big')


class Unpickler(pickle.Unpickler):
    """Makes names of classes, and references of persistent ids."""

    def find_class(self, module, name):
        return '%s.%s' % (module, name)

    def persistent_load(self, reference):
        return Reference(*reference) if isinstance(reference, tuple) else Reference(reference, None)


class Database:
    """The newest state of each object, by its class's name, as tuples with references."""

    def __init__(self):
        self.states = {}

    def add(self, record):
        # The second pickle uses the memo of the first.
        unpickler = Unpickler(io.BytesIO(record.data))
        self.states[record.oid] = unpickler.load(), unpickler.load()


class Comparison:
    """Objects that stand at the same places of the two databases' trees."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.pairs = {}

    def same(self, one, other):
        """The first difference of two values, or None. Objects that are met for the first time are paired."""
        todo = [(one, other)]
        while todo:
            one, other = todo.pop()
            if isinstance(one, Reference) and isinstance(other, Reference):
                if one.name != other.name:
                    return 'references with the classes %s and %s' % (one.name, other.name)
                if one.oid in self.pairs:
                    if self.pairs[one.oid] != other.oid:
                        return 'different objects at one place'
                    continue
                self.pairs[one.oid] = other.oid
                if one.oid in self.ours.states:
                    todo.append((self.ours.states[one.oid], self.theirs.states.get(other.oid)))
            elif type(one) is not type(other):
                return '%r and %r' % (one, other)
            elif isinstance(one, tuple):
                if len(one) != len(other):
                    return 'tuples of %d and %d: %r and %r' % (len(one), len(other), one, other)
                todo.extend(reversed(list(zip(one, other))))
            elif one != other and one == one:
                return '%r and %r' % (one, other)
        return None


def transactions(path):
    found, last = {}, None
    for each in FileStorage(path, read_only=True).iterator():
        name = each.description.decode()
        if name and name[0].isdigit():
            found[name] = list(each)
        elif last is None and any(record.data for record in each):
            found.setdefault('setup', []).extend(each)
    return found


def alike(one, other):
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, Reference) and isinstance(other, Reference):
        return one.oid == other.oid
    return type(one) is type(other) and (one == other or one != one)


def is_written_twice(state, others):
    """Whether the leaf inside a node is an object as well: an emptied leaf, which left the tree, names it as its next.

    The package writes the node first, and the emptied leaf after it, which gives the leaf inside an oid of its own.
    `_check` does not see it, since the emptied leaf is not in the tree."""
    try:
        (((items,),),) = state
    except (TypeError, ValueError):
        return False
    return any(isinstance(other, tuple) and other and alike(other[0], items) for other in others)


def compare(path, other_path, programs):
    ours, theirs = transactions(path), transactions(other_path)
    # The programs that are left out; and for each turn of ours the objects on which the commits depended, ours and the
    # package's.
    skipped, needed = json.loads(sys.stdin.read())
    skipped = set(skipped)
    one, other = Database(), Database()
    for record in ours['setup']:
        one.add(record)
    for record in theirs['setup']:
        other.add(record)
    compared = records = twice = needs = 0
    for number, program in enumerate(programs):
        if number in skipped:
            continue
        comparison = Comparison(one, other)
        is_twice = False
        for turn in range(len(program['turns'])):
            if is_twice:
                break
            name = '%d %d' % (number, turn)
            left, right = ours.get(name, []), theirs.get(name, [])
            for record in left:
                one.add(record)
            for record in right:
                other.add(record)
            root = program['oid'].to_bytes(8, 'big')
            why = None
            # Pairs that are known from earlier turns stay: an object that left the tree is still compared.
            todo = [(root, root)]
            seen = set()
            comparison.pairs[root] = root
            while todo and why is None:
                oid, counterpart = todo.pop()
                if oid in seen:
                    continue
                seen.add(oid)
                known = set(comparison.pairs)
                why = comparison.same(one.states[oid], other.states[counterpart])
                if why is not None:
                    others = [other.states[record.oid][1] for record in right if record.oid != counterpart]
                    is_twice = is_written_twice(other.states[counterpart][1], others)
                    break
                todo.extend((oid, comparison.pairs[oid]) for oid in references(one.states[oid]))
                todo.extend((oid, comparison.pairs[oid]) for oid in set(comparison.pairs) - known)
            stored = {record.oid for record in left}
            wanted = {record.oid for record in right}
            if is_twice:
                twice += 1
                continue
            # Leaves that left the tree refer to others that did.
            count = None
            while why is None and count != len(comparison.pairs):
                count = len(comparison.pairs)
                for oid in stored & set(comparison.pairs):
                    why = why or comparison.same(one.states[oid], other.states.get(comparison.pairs[oid]))
            paired = {comparison.pairs.get(oid, oid) for oid in stored}
            if why is None and paired != wanted:
                why = 'stored are other objects: %r, and %r' % (
                    [one.states[oid] for oid in stored if comparison.pairs.get(oid) not in wanted],
                    [other.states[oid] for oid in wanted - paired])
            if why is None and name in needed:
                # The records that a commit stores need no check of their own.
                left_needs, right_needs = ({oid.to_bytes(8, 'big') for oid in oids} for oids in needed[name])
                left_needs = {comparison.pairs.get(oid) for oid in left_needs - stored}
                if left_needs != right_needs - wanted:
                    why = 'it depends on %r, and the package on %r' % (left_needs, right_needs - wanted)
                needs += len(left_needs)
            if why is not None:
                print(json.dumps({'differs': '%s %s, program %d, turn %d of side %s: %s' % (
                    program['family'], program['kind'], number, turn, program['turns'][turn]['side'], why[:1500])}))
                return
            compared += 1
            records += len(left)
    print(json.dumps({'compared': compared, 'records': records, 'twice': twice, 'needs': needs}))


def references(state):
    found, todo = [], [state]
    while todo:
        value = todo.pop()
        if isinstance(value, Reference):
            found.append(value.oid)
        elif isinstance(value, tuple):
            todo.extend(value)
    return found


def main():
    mode, path, *rest = sys.argv[1:]
    with open(rest[1] if mode == 'compare' else rest[0]) as lines:
        programs = [json.loads(line) for line in lines]
    if mode == 'setup':
        setup(path, programs)
    elif mode == 'play':
        play(path, programs, int(rest[1]), rest[2])
    elif mode == 'read':
        read(path, programs)
    else:
        compare(path, rest[0], programs)


main()
