"""A run's folder: nobody's work is written over unasked, and no two runs work in one folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt import run_folder
from gpt.run_folder import (
    FILES,
    MODELS,
    RUN,
    RunFolderError,
    circumstances,
    claim,
    clear,
    locked,
    now,
    read,
    write,
)
from gpt.settings import TrainSettings
from tests.holding import held_by_another

ROOT = Path(__file__).parents[1]
FACTS = {"settings": TrainSettings().to_dict(), "ended": "finished"}


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "checkpoints" / "mine"


@pytest.fixture
def run(folder) -> Path:
    """A folder that a run has filled."""
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(name, encoding="utf-8")
    for name in ("best", "last"):
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_bytes(b"weights")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events.out.tfevents.1.x").write_bytes(b"points")
    write(folder, FACTS)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refusal(*arguments, **named) -> str:
    with pytest.raises(RunFolderError) as caught:
        claim(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- whose folder it is --------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_or_an_empty_folder_is_anybodys(folder, resume, overwrite):
    assert claim(folder, resume, overwrite) is None
    folder.mkdir(parents=True)
    assert claim(folder, resume, overwrite) is None and names(folder) == set()


def test_a_run_is_neither_written_over_nor_gone_on_with_unasked(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    message = refusal(run, resume=False, overwrite=False)
    assert str(run) in message and "--resume" in message and "--overwrite" in message
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("there", ["notes.txt", ".hidden", "best", "metrics.jsonl"])
@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (True, False), (False, True)])
def test_what_is_not_a_run_s_is_refused_whatever_is_asked(folder, there, resume, overwrite):
    folder.mkdir(parents=True)
    (folder / there).write_text("mine", encoding="utf-8")
    assert "another --out" in refusal(folder, resume=resume, overwrite=overwrite)
    assert (folder / there).read_text(encoding="utf-8") == "mine"


def test_what_a_killed_beginning_left_is_in_nobodys_way(folder):
    folder.mkdir(parents=True)
    (folder / ".run.json.new").write_text("{", encoding="utf-8")
    (folder / ".lock").write_text("", encoding="utf-8")
    assert claim(folder, resume=False, overwrite=False) is None


def test_a_run_that_is_to_be_replaced_stays_until_the_new_one_begins(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert claim(run, resume=False, overwrite=True) is None
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_overwriting_removes_what_a_run_makes_and_nothing_else(run):
    for name in ("notes.txt", "best.txt", "run.json.bak", "responses.csv", ".keep"):
        (run / name).write_text("mine", encoding="utf-8")
    (run / "mine").mkdir()
    (run / "mine" / RUN).write_text("{}", encoding="utf-8")
    for name in (".best.old", ".last.new"):  # of a save that was killed
        (run / name).mkdir()
    (run / ".metrics.jsonl.new").write_text("half", encoding="utf-8")
    clear(run)
    assert names(run) == {"notes.txt", "best.txt", "run.json.bak", "responses.csv", ".keep", "mine"}
    assert (run / "mine" / RUN).read_text(encoding="utf-8") == "{}"


def test_somebodys_file_beside_the_weights_stays(run):
    for name in MODELS:
        (run / name).mkdir(exist_ok=True)
        (run / name / "model.safetensors").write_bytes(b"weights")
        (run / name / "notes.txt").write_text("mine", encoding="utf-8")
    clear(run)
    assert {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} == {
        f"{name}/notes.txt" for name in MODELS
    }


def test_run_json_is_the_last_to_go(run, monkeypatch):
    gone = []
    unlink = Path.unlink
    monkeypatch.setattr(
        run_folder.Path, "unlink", lambda p, **named: (gone.append(p.name), unlink(p, **named))
    )
    clear(run)
    assert gone[-1] == RUN


def test_overwriting_removes_a_link_and_not_what_it_leads_to(run, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "model.safetensors").write_bytes(b"years of work")
    (run / "best" / "model.safetensors").unlink()
    (run / "best").rmdir()
    try:
        (run / "best").symlink_to(precious, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets this user make no links")
    clear(run)
    assert names(run) == set() and (precious / "model.safetensors").read_bytes() == b"years of work"


def test_what_cannot_be_removed_is_named(run, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(run_folder.Path, "unlink", refuse)
    with pytest.raises(RunFolderError, match="best: cannot be removed: "):
        clear(run)


def test_a_run_is_resumed_as_it_stands(run):
    before = names(run)
    assert claim(run, resume=True, overwrite=False) == FACTS
    assert names(run) == before


# ---- run.json ------------------------------------------------------------------------------


def test_what_is_written_is_read_again(folder):
    folder.mkdir(parents=True)
    told = {"settings": {"out": "ğ/ü", "lr": 5e-05, "max_steps": None}, "command": ["bad \udcff"]}
    for facts in (told, FACTS, told):
        write(folder, facts)
        assert read(folder) == facts and names(folder) == {RUN}
    assert "ğ/ü" in (folder / RUN).read_text(encoding="utf-8")  # for a person, too
    assert TrainSettings(**FACTS["settings"]) == TrainSettings()


def test_a_failed_write_leaves_the_old_one(run, monkeypatch):
    with pytest.raises(TypeError):
        write(run, {"settings": object()})
    with monkeypatch.context() as patch, pytest.raises(RunFolderError, match="No space"):
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
        write(run, {"settings": {}})
    assert read(run) == FACTS and ".run.json.new" not in names(run)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"null", b"{}", b'{"settings": 3}', b"\xff\xfe", b"[" * 10**5],
)
def test_a_run_json_that_is_none_is_named(run, content):
    (run / RUN).write_bytes(content)
    assert refusal(run, resume=True, overwrite=False).startswith(f"{run / RUN}: not readable")


def test_a_run_json_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="run.json: not readable"):
        read(tmp_path)


# ---- the lock ------------------------------------------------------------------------------


def test_a_folder_that_another_process_works_in_is_refused_until_that_ends(folder):
    with held_by_another(locked, folder):
        with (
            pytest.raises(RunFolderError, match="another process is at work in it"),
            locked(folder),
        ):
            pytest.fail("two at once")
        assert folder.is_dir()  # the other's; not cleared away
    with locked(folder):
        pass


def test_the_lock_of_a_killed_process_is_forgotten(folder):
    with held_by_another(locked, folder) as process:
        process.kill()
        process.wait()
        assert ".lock" in names(folder)
        with locked(folder):
            assert claim(folder, resume=False, overwrite=False) is None
    assert names(folder) == set()


def test_one_process_cannot_lock_a_folder_twice_and_can_lock_two(folder, tmp_path):
    with locked(folder), locked(tmp_path / "other"):
        with pytest.raises(RunFolderError, match="another process"), locked(folder):
            pytest.fail("two at once")
        assert ".lock" in names(folder)  # the first one's lock stands


@pytest.mark.skipif(os.name == "nt", reason="fcntl")
def test_a_disk_that_knows_no_locks_is_no_reason_not_to_work(folder, monkeypatch):
    import errno
    import fcntl

    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with locked(folder):
        assert folder.is_dir()


def test_a_run_that_never_began_leaves_no_empty_folder(folder):
    with pytest.raises(ZeroDivisionError), locked(folder):
        claim(folder, resume=False, overwrite=False)
        raise ZeroDivisionError
    assert not folder.exists()


def test_a_folder_that_was_there_or_that_holds_something_stays(folder):
    folder.mkdir(parents=True)
    with locked(folder):
        pass
    assert folder.is_dir() and names(folder) == set()
    folder.rmdir()
    with locked(folder):
        write(folder, FACTS)
    assert names(folder) == {RUN}


def test_a_file_in_the_way_is_named(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("mine", encoding="utf-8")
    for folder, said in ((in_the_way, "is a file"), (in_the_way / "run", "cannot be written")):
        with pytest.raises(RunFolderError, match=said) as caught, locked(folder):
            pytest.fail("locked")
        assert str(folder) in str(caught.value)
    assert in_the_way.read_text(encoding="utf-8") == "mine"


def test_a_name_that_the_disk_does_not_take_is_one_line(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be written"), locked(tmp_path / ("x" * 400)):
        pytest.fail("locked")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_folder_that_may_not_be_written_is_one_line(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "mine").mkdir()
    for mode, path in ((0o500, tmp_path / "mine"), (0o500, tmp_path / "mine" / "new"),
                       (0o000, tmp_path / "mine" / "new")):  # fmt: skip
        (tmp_path / "mine").chmod(mode)
        try:
            with pytest.raises(RunFolderError, match="cannot be written"), locked(path):
                pytest.fail("locked")
        finally:
            (tmp_path / "mine").chmod(0o700)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="a disk that nobody may write")
def test_a_disk_that_nobody_may_write_is_one_line():
    with pytest.raises(RunFolderError, match="cannot be written"), locked(Path("/proc/a-run")):
        pytest.fail("locked")


# ---- what it was made with -----------------------------------------------------------------


def test_the_circumstances_are_those_of_this_process_and_json(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/train.py", "--lr", "1"])
    told = circumstances()
    assert json.loads(json.dumps(told)) == told
    assert told["command"] == ["train.py", "--lr", "1"]
    assert told["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "numpy", "tiktoken"} <= set(told["versions"])
    assert told["started"].endswith("+00:00") and abs(_seconds(told["started"]) - time.time()) < 60


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


def test_now_can_be_sorted_as_text():
    assert now() <= now() and len(now()) == 25


def git(*arguments, cwd):
    made = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@example.com", *arguments],
        cwd=cwd, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_the_commit_is_that_of_the_code_with_a_plus_where_files_have_changed(tmp_path, monkeypatch):
    try:
        git("--version", cwd=tmp_path)
    except OSError:
        pytest.skip("no git here")
    (tmp_path / "gpt").mkdir()
    code = tmp_path / "gpt" / "run_folder.py"
    code.write_text("1", encoding="utf-8")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(run_folder, "__file__", str(code))
    assert circumstances()["commit"] is None  # no repository
    git("init", "-q", cwd=tmp_path)
    assert circumstances()["commit"] is None  # no commit in it
    git("add", ".", cwd=tmp_path)
    git("commit", "-q", "-m", "x", cwd=tmp_path)
    head = git("rev-parse", "HEAD", cwd=tmp_path)
    (tmp_path / "data.txt").write_text("not of the code", encoding="utf-8")
    assert circumstances()["commit"] == head
    code.write_text("2", encoding="utf-8")
    assert circumstances()["commit"] == head + "+"


def test_a_machine_without_git_has_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert circumstances()["commit"] is None


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_killed_at_any_moment_of_a_write_the_old_or_the_new_one_is_read(run):
    code = """
import itertools, os, signal, sys
from pathlib import Path
from gpt import run_folder
left = int(sys.argv[2])
def step(real):
    def before(*arguments, **named):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments, **named)
    return before
for name in ("fsync", "replace"):
    setattr(os, name, step(getattr(os, name)))
Path.write_bytes = step(Path.write_bytes)
run_folder.write(Path(sys.argv[1]), {"settings": {"new": True}})
"""
    for n_steps in range(10):
        ended = subprocess.run([sys.executable, "-c", code, str(run), str(n_steps)], cwd=ROOT)
        if ended.returncode == 0:
            break
        assert read(run) in (FACTS, {"settings": {"new": True}})
    assert ended.returncode == 0 and n_steps >= 3
    assert read(run) == {"settings": {"new": True}} and ".run.json.new" not in names(run)
