"""Folders that are whole or not there at all, whatever kills the process or fills the disk.

A model is several files that mean something only together: new weights beside an old vocabulary
would load and talk nonsense. So a folder is never changed file by file. It is written under another
name beside its place, forced onto the disk, and then put there by renaming:

    .model.new/  being written         a crash here: model/ is as it was
    model/       -> .model.old/        a crash here: readers take .model.old/, which is whole
    .model.new/  -> model/             a crash here: model/ is the new one
    .model.old/  its model files go    a crash here: the next save tidies up

One process at a time may write a folder. Whoever reads several files of it at that time may find
the first in the old folder and the next in the new: `identity` tells that this has happened.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def folder_to_read(folder: Path) -> Path:
    """The folder, or the one that a killed save had moved aside and not yet replaced."""
    folder = Path(folder)
    moved_aside = _beside(folder, "old")
    return moved_aside if not folder.exists() and moved_aside.is_dir() else folder


def identity(folder: Path) -> tuple[int, int] | None:
    """What a folder is told by from the one that takes its place; None while there is none."""
    try:
        about = folder_to_read(folder).stat()
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino


@contextmanager
def replacing_folder(folder: Path, replaces: Callable[[str], bool]) -> Iterator[Path]:
    """Yield an empty folder to fill. When the block ends well, it takes `folder`'s place.

    Of what `folder` held before, the files whose names `replaces` recognises are gone afterwards;
    everything else was somebody else's and is carried over. When the block raises, nothing has
    changed.
    """
    folder = Path(folder).resolve()  # a link stays a link to the folder that it names
    if folder in (Path.cwd(), *Path.cwd().parents):  # whoever stands in it would stand nowhere
        raise OSError(f"the current folder is {Path.cwd()}: start from outside of {folder}")
    new, old = _beside(folder, "new"), _beside(folder, "old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _tidy_up_after_a_killed_save(folder, new, old, replaces)
    new.mkdir()
    try:
        yield new
        for path in new.iterdir():
            force_to_disk(path)
        force_to_disk(new)
        if folder.is_dir():
            shutil.copymode(folder, new)  # who may read it is not ours to change
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        if old.is_dir() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
        raise
    force_to_disk(folder.parent)
    _empty_into(old, folder, replaces)


def replace_file(path: Path, data: bytes) -> None:
    """Give a file new content: readers, and whoever comes after a kill, find the old or the new."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(data)
        force_to_disk(new)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    force_to_disk(path.parent)


def add_whole(path: Path, data: bytes) -> None:
    """Add to a file's end in one write: all of it, or nothing and an OSError."""
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(end)
            raise


def _beside(folder: Path, what: str) -> Path:
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.{what}")


def _tidy_up_after_a_killed_save(
    folder: Path, new: Path, old: Path, replaces: Callable[[str], bool]
) -> None:
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    _empty_into(old, folder, replaces)
    if new.is_dir():
        shutil.rmtree(new)


def _empty_into(old: Path, folder: Path, replaces: Callable[[str], bool]) -> None:
    """Delete the replaced files of the old folder, carry the others over, and remove it."""
    if not old.is_dir():
        return
    for path in old.iterdir():
        if not replaces(path.name) and not (folder / path.name).exists():
            path.rename(folder / path.name)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    old.rmdir()


def force_to_disk(path: Path) -> None:
    """Come back only when the disk has it: a rename may otherwise arrive before the content."""
    if path.is_dir() and os.name == "nt":
        return  # Windows keeps directories in order by itself, and opens none of them
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
