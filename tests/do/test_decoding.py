"""Values are decoded in several threads at once; each file is run by a process of its own, for it may crash."""

from __future__ import annotations

import subprocess
import sys

TWO_THREADS_MEET_A_TYPE = """
import threading
from typing import NamedTuple
import msgspec
from pointsman.model import from_json

begun, seen = threading.Event(), threading.Event()

class Slow:
    @property
    def word(self):  # while msgspec takes the type apart, another thread comes by
        begun.set()
        seen.wait(0.2)
        return str

slow = Slow()

class Entry(NamedTuple):
    name: "slow.word"

class Note(msgspec.Struct):
    entries: list[Entry]

found = []

def read():
    found.append(from_json('{"entries": [["a"]]}', Note))

first = threading.Thread(target=read)
first.start()
begun.wait()
read()
first.join()
assert found == [Note([Entry("a")])] * 2, found
"""


def test_threads_that_meet_a_type_together_do_not_crash() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_THREADS_MEET_A_TYPE], capture_output=True, text=True, check=False)

    assert done.returncode == 0, (done.returncode, done.stderr)
