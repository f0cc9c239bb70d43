"""A run's folder: whose it is, what it was made with, and what may be replaced in it.

    checkpoints/gpt2-mine/
        run.json           settings, versions, hardware, commit, data, counts, and how it ended
        metrics.jsonl      a line for each logged step
        loss.png, .svg     the curves
        samples.md         answers to a few validation prompts, epoch by epoch
        best/, last/       models
        responses.jsonl, report.html, …   the answers and the review

A folder that holds anything is never written into unasked. `--overwrite` removes the files above,
by name, and nothing else; `--resume` goes on in it.
"""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpt import locks
from gpt.errors import UserError
from gpt.files import replace_file
from gpt.weights import is_of_a_saved_model

RUN = "run.json"
FILES = (
    "metrics.jsonl", "loss.png", "loss.svg", "samples.md", "responses.jsonl",
    "responses.journal", "report.html", "report.md",
)  # fmt: skip
MODELS = ("best", "last", ".preflight")
_LOCK = ".lock"
_PACKAGES = ("torch", "tiktoken", "numpy", "safetensors", "huggingface_hub")


class RunFolderError(UserError):
    """A folder that this run may not write, or cannot go on in."""


def claim(folder: Path, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """Refuse a folder that is not to be written; what run.json says of a run to resume, or None.

    Nothing is removed here: an earlier run that is to be replaced stays until the new one begins.
    """
    names = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    there = sorted(names - {_LOCK, f".{RUN}.new"})  # a lock, or what a killed `write` left
    has_run = (folder / RUN).is_file()
    if there and not (resume or overwrite):
        ways = "--resume goes on with it, --overwrite replaces it" if has_run else "it is no run's"
        raise RunFolderError(f"{folder}: is not empty: give another --out ({ways})")
    if there and not has_run:
        shown = ", ".join(there[:5]) + (", …" if len(there) > 5 else "")
        raise RunFolderError(f"{folder}: holds no run ({shown}): give another --out")
    if resume and has_run:
        return read(folder)
    return None


def clear(folder: Path) -> None:
    """Remove what a run made, and what was left half made. Anything else is somebody's.

    run.json goes last: a folder without it is nobody's run, and would be refused ever after.
    """
    for name in MODELS:
        for path in (folder / name, folder / f".{name}.old", folder / f".{name}.new"):
            _remove(path, is_of_a_saved_model)
    for path in folder.glob("responses.journal.*"):  # of ranks that were killed
        _remove(path, lambda name: False)
    _remove(folder / "tensorboard", lambda name: name.startswith("events.out.tfevents."))
    for name in (*FILES, RUN):
        for path in (folder / f".{name}.new", folder / name):
            _remove(path, lambda name: False)


def _remove(path: Path, is_ours: Callable[[str], bool]) -> None:
    """A file or a link; of a folder the files that are ours, and the folder if nothing is left."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        for inside in path.iterdir():
            if is_ours(inside.name):
                inside.unlink()
        with contextlib.suppress(OSError):  # something of somebody's is in it
            path.rmdir()
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be removed: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two runs in one folder would each write half of it. A killed one's lock is forgotten."""
    try:
        if folder.exists() and not folder.is_dir():
            raise RunFolderError(f"{folder}: is a file: give another --out")
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        held = contextlib.ExitStack()
        is_ours = held.enter_context(locks.locked(folder / _LOCK))
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        with held:
            if not is_ours:
                raise RunFolderError(f"{folder}: another process is at work in it")
            yield
    finally:
        if is_new and is_ours:
            with contextlib.suppress(OSError):  # a run that never began leaves no empty folder
                folder.rmdir()


def read(folder: Path) -> dict[str, Any]:
    path = Path(folder) / RUN
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(told["settings"], dict):
            raise TypeError("settings is no object")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(f"{path}: not readable as a run's: {error}") from None
    return told


def write(folder: Path, told: dict[str, Any]) -> None:
    """Whole or not at all. A file's name that is no text stays readable: as JSON's own \\udc80."""
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    try:
        replace_file(folder / RUN, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise RunFolderError(f"{folder / RUN}: not written: {error.strerror or error}") from None


def circumstances() -> dict[str, Any]:
    """What a person needs who wants the same numbers, or wonders why theirs differ."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "started": now(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": _commit(),
        "versions": versions,
        "system": platform.platform(),
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """The commit of this code, with a + if files have changed since; None outside of git."""
    root = Path(__file__).parents[1]
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
