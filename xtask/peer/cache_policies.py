"""The misses of libcachesim, and the counts of ZEO's cache_simul.

    cache_policies.py misses FILE SIZE COUNT...

FILE has an object's number in each line; all have SIZE bytes, and the caches have room for COUNT of them.  Prints a line
of JSON: for each policy the misses at each count.

    cache_policies.py simul FILE BYTES...

prints a line of JSON: for each size the loads, hits, invalidations, writes and evictions of the last line of cache_simul.
"""

import contextlib
import io
import json
import sys

POLICIES = ["LRU", "FIFO", "Clock", "Sieve", "S3FIFO", "WTinyLFU"]


def misses(path, size, counts):
    import libcachesim

    with open(path) as lines:
        objects = [int(line) for line in lines]
    request = libcachesim.Request()
    request.obj_size = size
    found = {}
    for name in POLICIES:
        found[name] = []
        for count in counts:
            cache = getattr(libcachesim, name)(cache_size=size * count)
            missed = 0
            for number in objects:
                request.obj_id = number
                missed += not cache.get(request)
            found[name].append(missed)
    return found


def simul(path, sizes):
    from ZEO.scripts import cache_simul

    found = []
    for size in sizes:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            # Its argument is in MB, and need not be whole.
            cache_simul.main(["-s", repr(size / (1 << 20)), "-i", "60", path])
        last = out.getvalue().splitlines()[-1].split()
        # The time has three words: month, day and clock; a rate comes before the evictions.
        assert len(last) == 11, last
        found.append([int(last[at]) for at in (4, 5, 6, 7, 9)])
    return found


if __name__ == "__main__":
    what, path, *numbers = sys.argv[1:]
    numbers = [int(number) for number in numbers]
    print(json.dumps(misses(path, numbers[0], numbers[1:]) if what == "misses" else simul(path, numbers)))
