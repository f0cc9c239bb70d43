"""A lock beside a file: one writer at a time, whoever is killed, and nothing left behind."""

import os
from pathlib import Path

import pytest

from gpt import locks
from gpt.locks import LockedError, locked_file
from tests.holding import held_by_another

ROOT = Path(__file__).parents[1]


def test_a_file_that_another_process_writes_is_refused_until_that_ends(tmp_path):
    file = tmp_path / "new" / "r.jsonl"
    with held_by_another(locked_file, file):
        with pytest.raises(LockedError, match=r"r\.jsonl: another process"), locked_file(file):
            pytest.fail("two at once")
        with locked_file(tmp_path / "new" / "other.jsonl"):
            pass
    with locked_file(file):
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_the_lock_of_a_killed_process_locks_nobody_out(tmp_path):
    file = tmp_path / "r.jsonl"
    with held_by_another(locked_file, file) as process:
        process.kill()
        process.wait()
        with locked_file(file):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
def test_a_lock_that_was_removed_while_it_was_waited_for_is_no_lock(tmp_path, monkeypatch):
    """Between opening the file and locking it, the one who had it ended and removed it."""
    file, lock, really = tmp_path / "r.jsonl", tmp_path / ".r.jsonl.lock", locks._lock
    calls = []

    def late(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            lock.unlink()
        return really(descriptor)

    monkeypatch.setattr(locks, "_lock", late)
    with locked_file(file):
        assert len(calls) == 2 and lock.exists()
        with pytest.raises(LockedError), locked_file(file):
            pytest.fail("two at once")


def test_what_goes_wrong_inside_is_not_the_locks_matter(tmp_path):
    with pytest.raises(FileNotFoundError, match="inside"), locked_file(tmp_path / "r.jsonl"):
        raise FileNotFoundError("inside")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with (
        pytest.raises(LockedError, match="cannot be written"),
        locked_file(tmp_path / "file" / "r"),
    ):
        pytest.fail("locked")
