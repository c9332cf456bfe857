#!/usr/bin/env bash
# ZEO 6.2. `cache_simul` moves a record that is far behind the writing forward, as the client does, and each time makes it 43 bytes
# larger: it adds the bytes beside the data to a size that has them already. So a file in which records are moved often seems to hold
# fewer of them than it does, and the hit rate is too small.
#
# Expected: a record of 1000 bytes takes 1043 bytes after each move.
# Seen: bytes after each move: 1043, 1086, 1129, 1172
. "$(dirname "$0")/common.inc"
install ZEO==6.2
output=$(cd "$folder" && "$python" - <<'PYTHON'
from ZEO.scripts.cache_simul import CircularCacheSimulation
from ZODB.utils import p64, z64

simulation = CircularCacheSimulation(20_000, 0.8)
kept = p64(1)
simulation.write(kept, 1000, p64(1), z64)
sizes = []
for oid in range(2, 60):
    entry = simulation.key2entry[kept, p64(1)]
    size = simulation.filemap[entry.offset][0]
    if size not in sizes:
        sizes.append(size)
    # A use moves it, once enough others were written behind it.
    simulation.load(kept, 1000, p64(1), 0x22)
    simulation.write(p64(oid), 1000, p64(1), z64)
print("bytes after each move:", ", ".join(map(str, sizes[:4])))
PYTHON
)
saw "cache_simul makes a record larger with each move" "$output" "1043, 1086, 1129, 1172"
