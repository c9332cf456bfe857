"""BTrees of many families, whole and damaged, and what the BTrees package says of them.

    trees.py FILE --random N --seed S   makes a database with N trees of each family and kind; a line of JSON each

Of each tree it is said what `BTrees.check.check` names, node by node and rule by rule, what `_check` says, and whether the
walk along the children, as docs/operating.md has it, gives back all items.
"""
import argparse
import json
import random
import re

import BTrees
import transaction
from BTrees.check import Walker, check
from persistent.mapping import PersistentMapping
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

WORDS = [('< lower bound', 'below'), ('>= upper bound', 'above'), (' >= key ', 'order')]


class Collect(Walker):
    """All keys below the root, bucket by bucket."""

    def __init__(self, tree):
        super().__init__(tree)
        self.found = []
        self.walk()

    def visit_btree(self, *rest):
        pass

    def visit_bucket(self, obj, path, parent, is_mapping, keys, values, lo, hi):
        self.found.extend(keys)


class Maker:
    """A family's trees, keys and values."""

    def __init__(self, dice, letters, kind):
        self.dice, self.letters, self.kind = dice, letters, kind
        module = getattr(BTrees, letters + 'BTree')
        self.tree = getattr(module, letters + kind)
        self.is_mapping = kind == 'BTree'
        self.bucket = getattr(module, letters + ('Bucket' if self.is_mapping else 'Set'))
        self.style = dice.choice(['int', 'text', 'bytes', 'float', 'tuple', 'none'])

    def key(self, number):
        if self.letters == 'fs':
            return number.to_bytes(2, 'big')
        if self.letters[0] != 'O':
            return number + (2 ** 30 if self.letters[0] in 'UQ' else -500)
        return {
            'int': lambda: number * 2 ** 70 - 9, 'text': lambda: 'k\xe9\U0001f40d%06d' % number,
            'bytes': lambda: b'\xff%06d' % number, 'float': lambda: number / 4 if number % 2 else number // 4 + 1 / 8,
            'tuple': lambda: (number // 10, None if number % 10 == 0 and number < 0 else 'x%d' % (number % 10)),
            'none': lambda: None if number == 0 else number,
        }[self.style]()

    def value(self):
        return {'O': 'v', 'F': .5, 's': b'sixsix'}.get(self.letters[1], 7)

    def keys(self, count):
        numbers = sorted(self.dice.sample(range(0, 4 * count + 9), count))
        return sorted({self.key(number) for number in numbers}, key=lambda key: (key is not None, key))

    def grown(self):
        """A tree as the package itself grows it."""
        tree = self.tree()
        keys = self.keys(self.dice.choice([0, 1, 5, 40, 300, 900]))
        if self.style == 'none':
            keys = [key for key in keys if key is not None]
        for key in self.dice.sample(keys, len(keys)):
            if self.is_mapping:
                tree[key] = self.value()
            else:
                tree.add(key)
        for key in self.dice.sample(keys, self.dice.choice([0, len(keys) // 3, len(keys) * 9 // 10])):
            if self.is_mapping:
                del tree[key]
            else:
                tree.remove(key)
        return tree

    def built(self):
        """A tree with small nodes and many levels, as the package never grows it but reads it."""
        keys = self.keys(self.dice.randrange(30, 90))
        level, at = [], 0
        while at < len(keys):
            some = keys[at:at + self.dice.randrange(1, 5)]
            at += len(some)
            level.append((some[0], self.leaf(some, None)))
        for (_, one), (_, other) in zip(level, level[1:]):
            one.__setstate__((one.__getstate__()[0], other))
        firsts = {id(leaf): leaf for _, leaf in level}
        while len(level) > 1:
            above, at = [], 0
            while at < len(level):
                some = level[at:at + self.dice.randrange(2, 5)]
                at += len(some)
                first = firsts[id(some[0][1])]
                node = self.node([child for _, child in some], [low for low, _ in some[1:]], first)
                firsts[id(node)] = first
                above.append((some[0][0], node))
            level = above
        return level[0][1]

    def leaf(self, keys, following):
        leaf = self.bucket()
        flat = tuple(part for key in keys for part in ((key, self.value()) if self.is_mapping else (key,)))
        leaf.__setstate__((flat,) if following is None else (flat, following))
        return leaf

    def node(self, children, separators, first):
        items = [children[0]]
        for separator, child in zip(separators, children[1:]):
            items += [separator, child]
        node = self.tree()
        node.__setstate__((tuple(items), first))
        return node


class Parts:
    """The nodes of a tree that are objects."""

    def __init__(self, tree):
        self.inner, self.leaves = [], []
        self.add(tree)

    def add(self, node):
        state = node.__getstate__()
        if state is None or len(state) == 1:
            return
        self.inner.append(node)
        for child in state[0][::2]:
            if type(child) is type(node):
                self.add(child)
            else:
                self.leaves.append(child)


def damage(dice, maker, tree, others):
    """Breaks one rule, and says which; None if this tree has no place for it."""
    parts = Parts(tree)
    leaves, inner = parts.leaves, parts.inner
    if len(leaves) < 3:
        return None
    name = dice.choice(['swap', 'twice', 'key-moved', 'next-none', 'next-skips', 'next-back', 'next-itself', 'next-other',
                        'tail', 'empty-bucket', 'separator', 'separators-swapped', 'first', 'empty-node', 'shared', 'mixed'])
    width = 2 if maker.is_mapping else 1
    at = dice.randrange(len(leaves) - 1)
    leaf = leaves[at]
    items, *following = leaf.__getstate__()
    pairs = [items[n:n + width] for n in range(0, len(items), width)]

    def put(pairs, following):
        leaf.__setstate__((tuple(part for pair in pairs for part in pair), *following))
        leaf._p_changed = True

    if name in ('swap', 'twice'):
        if len(pairs) < 2:
            return None
        one = dice.randrange(len(pairs) - 1)
        pairs[one:one + 2] = [pairs[one + 1], pairs[one]] if name == 'swap' else [pairs[one], pairs[one]]
        put(pairs, following)
    elif name == 'key-moved':
        key = maker.key(dice.randrange(400))
        pairs[dice.randrange(len(pairs))] = (key, maker.value())[:width]
        put(pairs, following)
    elif name.startswith('next-'):
        other = {'next-none': [], 'next-skips': leaves[at + 2:at + 3], 'next-back': leaves[:1], 'next-itself': [leaf],
                 'next-other': others[:1]}[name]
        put(pairs, other)
    elif name == 'tail':
        leaf = leaves[-1]
        put([leaf.__getstate__()[0]], [dice.choice(leaves + others[:1])])
    elif name == 'empty-bucket':
        put([], following)
    else:
        node = dice.choice(inner)
        items, first = node.__getstate__()
        items = list(items)
        if name == 'separator':
            if len(items) < 3:
                return None
            # Not None: `check` takes that for no bound.
            items[dice.randrange(len(items) // 2) * 2 + 1] = maker.key(dice.choice([1, dice.randrange(1, 400), 40000]))
        elif name == 'separators-swapped':
            if len(items) < 5:
                return None
            items[1], items[3] = items[3], items[1]
        elif name == 'first':
            first = dice.choice(leaves)
        elif name == 'empty-node':
            if node is tree:
                return None
            node.__setstate__(None)
            node._p_changed = True
            return name
        elif name == 'shared':
            items[-1] = items[0]
        elif name == 'mixed':
            if type(items[0]) is not type(node):
                return None
            items[-1] = leaves[-1]
        node.__setstate__((tuple(items), first))
        node._p_changed = True
    return name


def complaints(tree):
    """The complaints of `check`: the node's oid, or the root's if the node is no object, and the rule."""
    try:
        check(tree)
    except AssertionError as error:
        found = set()
        for line in str(error).splitlines()[1:]:
            word = next(word for text, word in WORDS if text in line)
            oid = re.findall(r"oid=(?:b?'?)(0x[0-9a-f]+)'?\), path from root", line)
            found.add((int(oid[-1], 16) if oid else int.from_bytes(tree._p_oid, 'big'), word))
        return sorted(found)
    return []


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument('file')
    arguments.add_argument('--random', type=int, default=6)
    arguments.add_argument('--seed', type=int, default=1)
    arguments = arguments.parse_args()
    dice = random.Random(arguments.seed)
    db = DB(FileStorage(arguments.file))
    connection = db.open()
    made = []
    for letters in BTrees._FAMILIES:
        for kind in ('BTree', 'TreeSet'):
            # Another tree's bucket, for chains that lead astray.
            other = Maker(dice, letters, kind).built()
            connection.root()['%s%s' % (letters, kind)] = PersistentMapping({'other': other})
            others = Parts(other).leaves
            for n in range(arguments.random):
                maker = Maker(dice, letters, kind)
                tree = maker.grown() if n % 3 == 0 else maker.built()
                connection.root()['%s%s' % (letters, kind)][n] = tree
                made.append((letters + kind, n, maker, tree, others))
    transaction.commit()
    names = []
    for name, n, maker, tree, others in made:
        before = Collect(tree).found
        names.append((name, n, damage(dice, maker, tree, others) if n % 2 else None, before))
    transaction.commit()
    connection.cacheMinimize()
    connection.close()
    connection = db.open()
    for name, n, how, before in names:
        tree = connection.root()[name][n]
        found = complaints(tree)
        try:
            tree._check()
            said = None
        except AssertionError as error:
            said = str(error)
        is_whole = how is None or how.startswith('next-') or how in ('tail', 'first')
        collected = Collect(tree).found == before if is_whole else None
        print(json.dumps({'name': name, 'oid': int.from_bytes(tree._p_oid, 'big'), 'damage': how, 'check': found,
                          'pointers': said, 'collected': collected}))
    db.close()


main()
