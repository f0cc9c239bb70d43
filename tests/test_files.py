"""A folder is the old one or the new one, wherever the process dies and whatever fails."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gpt import files
from gpt.files import folder_to_read, replacing_folder

MODEL = ("a.bin", "b.bin")


def fill(folder: Path, content: str, names=MODEL) -> None:
    for name in names:
        (folder / name).write_text(content, encoding="utf-8")


def save(folder: Path, content: str, names=MODEL) -> None:
    with replacing_folder(folder, replaces=lambda name: name.endswith(".bin")) as new:
        fill(new, content, names)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in folder.iterdir() if p.is_file()}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_new_an_empty_and_a_used_folder_all_take_the_new_content(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "deep/er/still", "new"):
        save(tmp_path / name, name)
        assert contents(tmp_path / name) == dict.fromkeys(MODEL, name)
    assert hidden(tmp_path) == []


def test_what_is_replaced_goes_and_what_was_somebody_elses_stays(tmp_path):
    folder = tmp_path / "model"
    save(folder, "old", ["a.bin", "stale.bin"])
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "one.png").write_text("png", encoding="utf-8")
    save(folder, "new")
    assert contents(folder) == {"a.bin": "new", "b.bin": "new", "notes.txt": "mine"}
    assert contents(folder / "pictures") == {"one.png": "png"}
    assert hidden(tmp_path) == []


def test_a_failure_half_way_changes_nothing(tmp_path):
    folder = tmp_path / "model"
    save(folder, "old")
    with pytest.raises(ZeroDivisionError), replacing_folder(folder, lambda name: True) as new:
        fill(new, "half", ["a.bin"])
        raise ZeroDivisionError
    assert contents(folder) == dict.fromkeys(MODEL, "old")
    assert hidden(tmp_path) == []


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    save(tmp_path / "real", "old")
    try:
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets this user make no links")
    save(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == dict.fromkeys(MODEL, "new")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_who_may_read_a_folder_stays_who_may_read_it(tmp_path):
    save(tmp_path / "model", "old")
    for mode in (0o700, 0o750):
        (tmp_path / "model").chmod(mode)
        save(tmp_path / "model", "new")
        assert (tmp_path / "model").stat().st_mode & 0o777 == mode


def test_the_folder_that_one_stands_in_is_not_moved_away(tmp_path, monkeypatch):
    save(tmp_path / "model", "old")
    (tmp_path / "model" / "inner").mkdir()
    for here in (tmp_path / "model", tmp_path / "model" / "inner"):
        monkeypatch.chdir(here)
        with pytest.raises(OSError, match="the current folder is"):
            save(tmp_path / "model", "new")
        assert contents(tmp_path / "model") == dict.fromkeys(MODEL, "old")


def test_all_is_on_the_disk_before_a_rename_makes_it_visible(tmp_path, monkeypatch):
    steps = []
    force, rename = files.force_to_disk, Path.rename
    monkeypatch.setattr(files, "force_to_disk", lambda p: (steps.append(p.name), force(p)))
    monkeypatch.setattr(Path, "rename", lambda p, to: (steps.append("rename"), rename(p, to)))
    save(tmp_path / "model", "new")
    assert sorted(steps[:2]) == ["a.bin", "b.bin"]
    assert steps[2:] == [".model.new", "rename", tmp_path.name]


DIES_AT_STEP = textwrap.dedent(
    """
    import os, pathlib, signal, sys
    from tests.test_files import save
    folder, steps_left = pathlib.Path(sys.argv[1]), int(sys.argv[2])

    def step(real):
        def before(*arguments, **named):
            global steps_left
            if steps_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            steps_left -= 1
            return real(*arguments, **named)
        return before

    for name in ("rename", "unlink", "mkdir", "rmdir", "write_text"):
        setattr(pathlib.Path, name, step(getattr(pathlib.Path, name)))
    os.fsync = step(os.fsync)
    save(folder, "new")
    """
)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_killed_before_any_step_a_reader_finds_one_whole_model_and_the_next_save_works(tmp_path):
    seen = []
    for steps in range(100):
        folder = tmp_path / str(steps) / "model"
        save(folder, "old")
        (folder / "notes.txt").write_text("mine", encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-c", DIES_AT_STEP, folder, str(steps)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        )
        found = contents(folder_to_read(folder))
        found.pop("notes.txt", None)
        seen.append(found["a.bin"])
        assert found in (dict.fromkeys(MODEL, "old"), dict.fromkeys(MODEL, "new")), steps

        save(folder, "newer")
        assert contents(folder) == {**dict.fromkeys(MODEL, "newer"), "notes.txt": "mine"}
        assert hidden(folder.parent) == []
        if ended.returncode == 0:
            break
    assert ended.returncode == 0, "the save has fewer than 100 steps"
    assert steps >= 10 and seen[0] == "old" and seen[-1] == "new"
