"""How processes that were started apart find each other, and agree on what this start is.

    rank 2 ─ hello 2: "I am 8c41, and my device is cuda" ─> the store ─> rank 0
           <─ welcome 8c41: "this is start 57e0"        ─
           ─ 57e0 2: "I am in"                           ─>
           <─ 57e0: what all have said                   ─     or: only 5 of 8 ranks came

All that they know at first is one address, where a store of words is. torchrun's store outlives its
processes: after a restart, the words of those that were killed are still in it. So a process is not
known by its rank but by a name that it has just thought of, and whoever was not welcomed by that
name is not in. What is said later is said under the name of the start, which nobody used before.

No process waits for ever, and each brings what may speak against beginning at all. So the first can
tell of all of them what was wrong, once.
"""

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from gpt.errors import UserError
from gpt.hardware import find_device

PATIENCE = 120.0  # seconds for all to come: they have been started, and import torch
_AGAIN = 0.1  # seconds between two looks


class RanksError(UserError):
    """Processes that cannot train together."""


@dataclass(frozen=True)
class Place:
    """What the environment says: torchrun's words for who this process is."""

    rank: int
    n: int
    local_rank: int  # on this machine
    address: str
    port: int
    has_store: bool  # torchrun serves the store; else rank 0 is to

    @property
    def name(self) -> str:
        return f"rank {self.rank} on {socket.gethostname()}"


@dataclass(frozen=True)
class Meeting:
    """What all of them know once they have met."""

    start: str  # a name that no other start had
    launch: str  # of the torchrun, whose restarts have it too
    is_restart: bool
    words: list[dict[str, Any]]  # what each rank brought
    missing: str  # what to say if they are not all here


def n_asked() -> int:
    """How many processes torchrun has started."""
    asked = os.environ.get("WORLD_SIZE") or "1"
    if not asked.isdecimal() or int(asked) < 1:
        raise RanksError(f"WORLD_SIZE={asked}, in the environment, is no number: unset it")
    return int(asked)


def place() -> Place:
    """This process among those that torchrun has started."""
    try:
        rank, local_rank, port = (
            int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "MASTER_PORT")
        )
        address = os.environ["MASTER_ADDR"]
    except (KeyError, ValueError) as error:
        raise RanksError(
            f"WORLD_SIZE is set, but {error} is not as torchrun sets it: start several processes "
            "with torchrun --nproc-per-node N scripts/train.py …, or unset WORLD_SIZE for one"
        ) from None
    has_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Place(rank, n_asked(), local_rank, address, port, has_store)


def connect(place: Place, seconds: float = PATIENCE, may_serve: bool = True) -> dist.Store:
    """A connection of its own to the store of words. may_serve: it may have to be made first."""
    serves = may_serve and place.rank == 0 and not place.has_store
    # As torch has it: its builds for Windows have no libuv.
    use_libuv = os.environ.get("USE_LIBUV", "0" if sys.platform == "win32" else "1") == "1"
    try:
        store = dist.TCPStore(
            place.address, place.port, is_master=serves, wait_for_workers=False,
            timeout=timedelta(seconds=seconds), use_libuv=use_libuv,
        )  # fmt: skip
        return dist.PrefixStore("talimat", store)  # torchrun has words of its own in it
    except (RuntimeError, ValueError) as error:
        told = str(error).partition("\n")[0][:200]
        raise RanksError(
            f"{place.name}: {place.address}:{place.port}, where the ranks are to meet, cannot be "
            f"{'served' if serves else 'reached'}: {told}"
        ) from None


def meet(
    store: dist.Store, place: Place, word: dict[str, Any], seconds: float = PATIENCE
) -> Meeting:
    """Come together with the others, each of which brings a word: something that JSON can hold."""
    own, until = secrets.token_hex(8), time.monotonic() + seconds
    store.set(f"hello {place.rank}", json.dumps([own, word]))
    if place.rank == 0:
        _welcome_all(store, place, own, until)
        start = own
    else:
        _wait(store, f"welcome {own}", until, lambda: _nobody_there(place, seconds))
        start = store.get(f"welcome {own}").decode()
        store.set(f"{start} {place.rank}", "in")
        until = time.monotonic() + seconds + 2  # rank 0 may have come later, and waits as long
        _wait(store, start, until, lambda: _nobody_there(place, seconds))
    return Meeting(start, **json.loads(store.get(start)))


def _welcome_all(store: dist.Store, place: Place, start: str, until: float) -> None:
    """As the first rank: answer whoever says hello, until each of the others is in."""
    welcomed: set[str] = set()
    words: dict[int, dict[str, Any]] = {}
    missing = set(range(place.n))
    began = time.monotonic()
    while missing and time.monotonic() < until:
        for rank in sorted(missing):
            if not store.check([f"hello {rank}"]):
                continue
            name, words[rank] = json.loads(store.get(f"hello {rank}"))
            if name not in welcomed:  # else it was killed before this start, or is about to enter
                store.set(f"welcome {name}", start)
                welcomed.add(name)
        store.set(f"{start} 0", "in")
        missing = {rank for rank in missing if not store.check([f"{start} {rank}"])}
        if missing:
            time.sleep(_AGAIN)
    # The name of the first start that torchrun's store has seen. (Rank 0's own store is of today.)
    launch = store.compare_set("launch", "", start).decode() if place.has_store else start
    told = {
        "launch": launch,
        "is_restart": launch != start,
        "words": [words.get(rank, {}) for rank in range(place.n)],
        "missing": _missing(place, missing, time.monotonic() - began) if missing else "",
    }
    store.set(start, json.dumps(told))


def _missing(place: Place, missing: set[int], seconds: float) -> str:
    names = ", ".join(map(str, sorted(missing)[:8])) + (", …" if len(missing) > 8 else "")
    return (
        f"only {place.n - len(missing)} of {place.n} ranks came within {seconds:.0f} seconds, and "
        f"not {names}: did they fail, or can they not reach {place.address}:{place.port}? (If this "
        "was to be one process: unset WORLD_SIZE)"
    )


def _nobody_there(place: Place, seconds: float) -> str:
    return (
        f"{place.name}: rank 0 did not answer at {place.address}:{place.port} within "
        f"{seconds:.0f} seconds: was it started?"
    )


def _wait(store: dist.Store, key: str, until: float, fault: Callable[[], str]) -> None:
    """In short looks, so that a signal may come between."""
    while not store.check([key]):
        if time.monotonic() > until:
            raise RanksError(fault())
        time.sleep(_AGAIN)


# ---- what speaks against beginning ----------------------------------------------------------


def own_device(device: str, here: Place) -> torch.device:
    """The one that this process is to have, of the kind that is asked for."""
    found = find_device(device)
    if found.index is not None:
        raise RanksError(f"--device {device}: of several processes each takes its own: give cuda")
    if found.type == "mps":
        raise RanksError("several processes cannot share this GPU: --device cpu, or no torchrun")
    if found.type == "cuda":
        there = torch.cuda.device_count()
        if here.local_rank >= there:
            raise RanksError(
                f"{here.name} has no GPU of its own, for there are {there}: give torchrun "
                f"--nproc-per-node {there}"
            )
        torch.cuda.set_device(here.local_rank)
    return found


def fault_in(words: list[dict[str, Any]]) -> str:
    """What speaks against beginning, of what the ranks brought; nothing, if nothing does."""
    faults = [word["fault"] for word in words if "fault" in word]
    if faults:
        more = len(set(faults)) - 1
        return faults[0] + (f" (and {more} more such faults)" if more else "")
    kinds = {word["device"]: f"rank {r} on {word['host']}" for r, word in enumerate(words)}
    if len(kinds) > 1:
        has = " and ".join(f"{who} has {kind}" for kind, who in sorted(kinds.items()))
        return f"{has}: all ranks must have the same kind of device; give --device"
    return ""
