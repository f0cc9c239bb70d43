"""Another process that holds a lock, for tests of who is refused meanwhile."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
_HOLDS = """
import sys
from importlib import import_module
from pathlib import Path
module, name, path = sys.argv[1:]
with getattr(import_module(module), name)(Path(path)):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(lock, path: Path) -> Iterator[subprocess.Popen]:
    """lock: locked_file of locks.py, or locked of run_folder.py."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, lock.__module__, lock.__name__, str(path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()
