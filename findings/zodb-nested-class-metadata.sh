#!/usr/bin/env bash
# ZODB 6.4. An object of a class in a class can be stored at protocol 3 by a pickler that writes such a class as a call of
# getattr, as Python's own does. ZODB.utils.get_pickle_metadata, which tools show as the object's class, answers with
# ('builtins', 'getattr'); the object loads all the same.
#
# Seen: metadata ('builtins', 'getattr')
#       loads as Outer.Inner
. "$(dirname "$0")/common.inc"
install ZODB==6.4
output=$("$python" - <<'PYTHON'
import io, pickle, sys, types
from ZODB.utils import get_pickle_metadata
import persistent

site = types.ModuleType("site_of_classes")
class Outer:
    class Inner(persistent.Persistent):
        pass
Outer.__module__ = Outer.Inner.__module__ = "site_of_classes"
Outer.__qualname__, Outer.Inner.__qualname__ = "Outer", "Outer.Inner"
site.Outer = Outer
sys.modules["site_of_classes"] = site

record = pickle.dumps(Outer.Inner, 3) + pickle.dumps({"a": 1}, 3)
print("metadata", get_pickle_metadata(record))
print("loads as", pickle.load(io.BytesIO(record)).__qualname__)
PYTHON
)
saw "the class is reported as getattr" "$output" "metadata \('builtins', 'getattr'\)" "loads as Outer.Inner"
