"""One process at a time: a lock that ends with the process that holds it, however that ends.

Two processes that add lines to one file would each write what the other has, and a line that breaks
off is cut away by one while the other writes it. So whoever writes holds a lock: an empty file
beside what it writes, which the system unlocks. What a killed process leaves locks nobody out.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from gpt.errors import UserError


class LockedError(UserError):
    """Something that another process is at work on, or that cannot be locked."""


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """For whoever writes this file, which need not exist yet."""
    path, held = Path(path), contextlib.ExitStack()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_ours = held.enter_context(locked(path.with_name(f".{path.name}.lock")))
    except OSError as error:
        raise LockedError(f"{path}: cannot be written: {error.strerror or error}") from None
    with held:
        if not is_ours:
            raise LockedError(f"{path}: another process is writing it: wait until that ends")
        yield


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[bool]:
    """Whether the lock is ours. It is given back, and its file removed, at the end."""
    while True:
        file = lock.open("a", encoding="utf-8")
        is_ours = _lock(file.fileno())
        if not is_ours or _is_that(file.fileno(), lock):
            break
        file.close()  # whoever had it removed it between our two looks
    with file:
        try:
            yield is_ours
        finally:
            if is_ours:
                with contextlib.suppress(OSError):  # Windows removes no open file
                    lock.unlink()


def _is_that(descriptor: int, path: Path) -> bool:
    if os.name == "nt":
        return True  # there, nobody removes what is open
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Whether no other process has it. However this one ends, the system then unlocks it."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network disks know no locks at all, and work is to go on there, too.
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
