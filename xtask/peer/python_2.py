"""Records as Python 2 pickles them, made by hand at protocols 0 to 2, and whether ZODB loads them in Python 3.

    python_2.py --random N --seed S   N records, a line of JSON each: the record, and the error, if there is one
"""
import argparse
import io
import json
import random
import struct

from ZODB._compat import PersistentUnpickler
from ZODB.broken import find_global


class Writer:
    """Writes opcodes, at random and yet so that they can be carried out."""

    def __init__(self, dice, protocol):
        self.dice, self.protocol, self.memo = dice, protocol, 0

    def native(self, data=None):
        dice = self.dice
        if data is None:
            odd = dice.random() < self.odd
            data = bytes(dice.choice([0x41, 0x27, 0x5c, 0x0a, 0x7f, *([0x80, 0xe9, 0xff] if odd else [])])
                         for _ in range(dice.randrange(5)))
        if self.protocol == 0 or dice.random() < .1:
            return b'S' + self.repr(data) + b'\n'
        if dice.random() < .2:
            return b'T' + struct.pack('<i', len(data)) + data
        return b'U' + bytes([len(data)]) + data

    def repr(self, data):
        """As Python 2 does it, or with octal escapes, which it reads too, or with the bytes as they are."""
        style = self.dice.choice(['hex', 'hex', 'octal', 'raw'])
        quote = self.dice.choice(["'", '"'])
        out = quote.encode()
        for byte in data:
            if byte in b'\n\r\\\0\x1a' or byte == ord(quote) or (byte > 0x7e and style == 'hex'):
                out += b'\\x%02x' % byte
            elif byte > 0x7e and style == 'octal':
                out += b'\\%03o' % byte
            else:
                out += bytes([byte])
        return out + quote.encode()

    def text(self):
        text = ''.join(self.dice.choice('ab\xe9\u2603') for _ in range(self.dice.randrange(4)))
        if self.protocol == 0:
            return b'V' + text.encode('raw-unicode-escape') + b'\n'
        return b'X' + struct.pack('<i', len(text.encode())) + text.encode()

    def put(self):
        """Keeps the top of the stack, now and then."""
        if self.dice.random() < .5:
            return b''
        self.memo += 1
        return b'p%d\n' % self.memo if self.protocol == 0 else b'q' + bytes([self.memo % 256])

    def value(self, depth=0):
        dice = self.dice
        kinds = ['native', 'native', 'native', 'text', 'int', 'none', 'float', 'date', 'datetime', 'reference', 'dropped',
                 'binary', 'bytes']
        if depth < 4:
            kinds += ['tuple', 'list', 'dict', 'dict', 'instance', 'object', 'set', 'reconstructed']
        return getattr(self, 'a_' + dice.choice(kinds))(depth + 1)

    def a_native(self, depth):
        return self.native() + self.put()

    def a_text(self, depth):
        return self.text() + self.put()

    def a_int(self, depth):
        return b'I%d\n' % self.dice.randrange(-5, 500)

    def a_none(self, depth):
        return b'N'

    def a_float(self, depth):
        return b'F1.5\n'

    def a_date(self, depth):
        packed = struct.pack('>HBB', self.dice.choice([1917, 1990, 2000, 2024]), 2, 3)
        return b'cdatetime\ndate\n(' + self.native(packed) + b'tR'

    def a_datetime(self, depth):
        packed = struct.pack('>HBBBBBBBB', self.dice.choice([1917, 2024]), 2, 3, 4, 5, 6, 0, self.dice.choice([0, 7, 200]), 9)
        return b'cdatetime\ndatetime\n(' + self.native(packed) + b'tR'

    def a_reference(self, depth):
        oid = struct.pack('>Q', self.dice.choice([1, 100, 128, 255, 2 ** 40]))
        if self.protocol == 0 and self.dice.random() < .3:
            return b'Pany\xe9\n'
        return b'(' + self.native(oid) + b'cshop\nItem\n' + b'tQ'

    def a_dropped(self, depth):
        return self.native() + self.put() + b'0N'

    def a_binary(self, depth):
        # `zodbpickle.binary` is written with its bytes, of which Python 2 knows only `str`.
        return b'cshop\nbinary\n(' + self.native() + b'tR'

    def a_bytes(self, depth):
        return b'c_codecs\nencode\n(' + self.text_of_latin_1() + self.text_named('latin1') + b'tR'

    def text_named(self, name):
        return b'V' + name.encode() + b'\n'

    def text_of_latin_1(self):
        return b'Va\xe9\n'

    def a_tuple(self, depth):
        return b'(' + b''.join(self.value(depth) for _ in range(self.dice.randrange(4))) + b't' + self.put()

    def a_list(self, depth):
        return b'(l' + self.put() + b''.join(self.value(depth) + b'a' for _ in range(self.dice.randrange(4)))

    def key(self):
        return self.dice.choice([self.native, self.text, lambda: self.a_int(0)])()

    def a_dict(self, depth):
        return b'(d' + self.put() + b''.join(self.key() + self.value(depth) + b's' for _ in range(self.dice.randrange(4)))

    def a_set(self, depth):
        return b'c__builtin__\nset\n((l' + b''.join(self.native() + b'a' for _ in range(self.dice.randrange(3))) + b'tR'

    def a_instance(self, depth):
        return b'(ishop\nPart\n' + self.put() + b'(d' + self.native() + self.value(depth) + b'sb'

    def a_object(self, depth):
        if self.protocol == 0:
            return self.a_instance(depth)
        return b'(cshop\nPart\no' + self.put() + b'}' + self.key() + self.value(depth) + b'sb'

    def a_reconstructed(self, depth):
        return b'ccopy_reg\n_reconstructor\n(cshop\nPart\nc__builtin__\nobject\nNtR' + b'(d' + self.key() + b'Ns' + b'b'

    def record(self):
        self.odd = self.dice.choice([0, 0, .1, .5, .5])
        start = b'\x80\x02' if self.protocol == 2 else b''
        meta = self.dice.choice([b'cshop\nItem\n', b'(cshop\nItem\nNt', b'(cshop\nItem\n(' + self.native() + b'tt',
                                 b"((S'shop'\nS'Item'\nt(tt"])
        return start + meta + b'.' + start + self.value() + b'.'


def error_of(record):
    unpickler = PersistentUnpickler(find_global, lambda reference: ('reference', reference), io.BytesIO(record))
    try:
        unpickler.load()
        unpickler.load()
    except Exception as error:
        return type(error).__name__
    return None


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument('--random', type=int, default=10)
    arguments.add_argument('--seed', type=int, default=1)
    arguments = arguments.parse_args()
    dice = random.Random(arguments.seed)
    for n in range(arguments.random):
        record = Writer(dice, n % 3).record()
        print(json.dumps({'data': record.hex(), 'error': error_of(record)}))


main()
