"""Several processes train one model: who they are, what each does, what they tell each other.

                          ┌─ rank 0 ─> its examples ─> gradient ─┐
    torchrun ─> a step ─> ┼─ rank 1 ─> its examples ─> gradient ─┼─> sum ─> the same step on all
                          └─ rank 2 ─> its examples ─> gradient ─┘

A step is a number of examples, however many processes there are. Each takes its slice; the
gradient of a sum is the sum of gradients; so N ranks take the very step that one would. Two things
must be counted over all of them before anything is divided: the supervised tokens, for a share
with long answers has more of them than one with short ones, and the loss that is told.

One process is the usual case. It is `Ranks()`: rank 0 of 1, whose share is everything and whose sum
is its own number. So nobody else has to ask whether there are others.

The gradients are summed by torch's DistributedDataParallel, while the way back is still under way;
or, with --shard, by FSDP2 (sharding.py). What is told here are a few numbers a step.

    python -m gpt.parallel          # a step of seven examples on three ranks, and on one
    torchrun --nproc-per-node 8 scripts/train.py …

Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (2020).
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist

from gpt.cli import run
from gpt.errors import UserError, first_line
from gpt.meeting import Meeting, connect, fault_in, meet, n_asked, own_device, place
from gpt.ordering import share
from gpt.watching import Watch, flush, say

# What torch waits for a rank that says nothing. The watch knows sooner.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True, eq=False)
class Ranks:
    """This process among those that train one model."""

    rank: int = 0
    n: int = 1
    local_rank: int = 0  # on this machine
    group: Any = None  # for numbers that are on the CPU; None: the one of all work
    watch: Watch | None = None
    meeting: Meeting | None = None  # how they came together

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, examples: np.ndarray) -> np.ndarray:
        return share(examples, self.rank, self.n)

    def largest_share(self, n_examples: int) -> int:
        return -(-n_examples // self.n)

    def seed(self, seed: int, step: int) -> None:
        """So that no two ranks drop the same, and a resumed run drops what it would have."""
        if self.n > 1:
            torch.manual_seed((seed * 1_000_003 + step) * 65_537 + self.rank & 2**63 - 1)

    # ---- numbers, told by all to all ---------------------------------------------------------

    def gather(self, *numbers: float) -> list[list[float]]:
        """The numbers of every rank."""
        if self.n == 1:
            return [list(numbers)]
        own = torch.tensor(numbers, dtype=torch.float64)
        of_each = [torch.empty_like(own) for _ in range(self.n)]
        self.passed()  # who waits for the others is ahead of them
        dist.all_gather(of_each, own, group=self.group)
        self.passed()
        return [numbers.tolist() for numbers in of_each]

    def sum(self, number: float) -> float:
        """Over all ranks; to the last bit the same on each."""
        return sum(numbers[0] for numbers in self.gather(number))

    def most(self, number: float) -> float:
        return max(numbers[0] for numbers in self.gather(number))

    def told(self, what: Any) -> Any:
        """What the first rank says."""
        if self.n == 1:
            return what
        told = [what]
        self.passed()
        dist.broadcast_object_list(told, src=0, group=self.group, device=torch.device("cpu"))
        self.passed()
        return told[0]

    def collect(self, what: Any) -> list[Any]:
        """What each says, at the first rank; nothing at the others."""
        if self.n == 1:
            return [what]
        of_each = [None] * self.n if self.is_first else None
        self.passed()
        dist.gather_object(what, of_each, dst=0, group=self.group)
        self.passed()
        return of_each or []

    def wait(self) -> None:
        """Until all are here."""
        self.gather(0.0)

    def apart(self) -> "Ranks":
        """The same ranks for another thread, whose words are not mixed with the main one's."""
        if self.n == 1:
            return self
        return replace(self, group=dist.new_group(backend="gloo", timeout=_PATIENCE), watch=None)

    # ---- signs of life -----------------------------------------------------------------------

    def passed(self) -> None:
        """The main thread has come through something."""
        if self.watch is not None:
            self.watch.progress += 1

    def goes_on(self) -> None:
        """The same, of what each does by itself: none is behind for having less of it to do."""
        if self.watch is not None:
            self.watch.alone += 1

    def expect(self, seconds: float) -> None:
        """As long as this, a step may well stand still."""
        if self.watch is not None:
            self.watch.expect(seconds)

    def hurried(self, what: str) -> contextlib.AbstractContextManager[None]:
        """A block that is not to stand still. what: as `in …` says it."""
        return self.watch.hurried(what) if self.watch else contextlib.nullcontext()

    def patient(self, what: str) -> contextlib.AbstractContextManager[None]:
        """A block in which a slow disk, or a slow network, may be waited for."""
        return self.watch.patient(what) if self.watch else contextlib.nullcontext()

    def unhurried(self, what: str) -> contextlib.AbstractContextManager[None]:
        """A block that may take hours, if there is much to fetch."""
        return self.watch.unhurried(what) if self.watch else contextlib.nullcontext()

    def cause_of(self, error: BaseException) -> str:
        """What ended the run: this, or what happened to the rank from which this follows."""
        return self.watch.cause_of(error) if self.watch else first_line(error)

    # ---- who does it -------------------------------------------------------------------------

    def one_of_a_host_first(self, do: Callable[[], Any]) -> Any:
        """What all do, but for one of each machine first: the others find what it has fetched."""
        with self.unhurried("fetching a model"):
            result = do() if self.local_rank == 0 else None
            self.wait()
        return result if self.local_rank == 0 else do()

    def speaks(self, say: Callable[[str], object]) -> Callable[[str], object]:
        """say, at the first rank; at the others nothing."""
        return say if self.is_first else lambda line: None

    def only_first(self, make: Callable[[], Any]) -> Any:
        """What it makes; at the other ranks, what takes all calls and does nothing."""
        return make() if self.is_first else Mute()

    def device(self, found: torch.device) -> torch.device:
        """The one that is this rank's own."""
        if self.n == 1 or found.type == "cpu":
            return found
        return torch.device(found.type, self.local_rank)


class Mute:
    """Takes any call, and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None

    def __enter__(self) -> "Mute":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, *args: Any) -> None:
        pass


ALONE = Ranks()


# ---- coming together ------------------------------------------------------------------------


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """This process among the others that torchrun has started; `Ranks()` if it has started none.

    Whatever ends the block, ends the block of every rank; and one of them says what it was.
    """
    if n_asked() == 1:
        yield _alone()
        return
    with _quiet_unless_first():
        ranks, kind, words = _met(device)
        watch = ranks.watch
        try:
            with watch.hurried("making connections to the other ranks"):
                ranks = replace(ranks, group=_connected(ranks, kind, words))
                ranks.wait()
            yield ranks
            ranks.wait()  # nobody leaves, and is missed, before all have done their part
        except (Exception, KeyboardInterrupt) as error:
            leave(watch.fail(error))
        finally:
            watch.end()


def leave(code: int) -> NoReturn:
    """End the process; one of several at once, and with nothing taken down.

    Taking leave of ranks that are gone could take for ever. So could it of others: a group of
    gloo's that Python lets go waits for a thread, which may be waiting for Python.
    """
    if n_asked() == 1:
        sys.exit(code)
    flush()
    os._exit(code)


def _alone() -> Ranks:
    """One process; one of torchrun's may be what goes on where another failed."""
    with contextlib.suppress(UserError, RuntimeError):  # words that an ended one left behind
        if os.environ.get("WORLD_SIZE") and (here := place()).has_store:
            return Ranks(meeting=meet(connect(here, seconds=5), here, {}))
    return ALONE


def _met(device: str) -> tuple[Ranks, str, dist.Store]:
    """This rank, all others having come; the kind of their devices; and the store, which may live
    in this process. Of what speaks against beginning, one tells the others' part, too.
    """
    here = place()
    try:
        try:
            word = {"device": own_device(device, here).type}
        except UserError as error:
            word = {"fault": str(error)}
        words = connect(here)
        meeting = meet(words, here, word | {"host": socket.gethostname()})
        store = connect(here, seconds=20, may_serve=False)
    except (UserError, RuntimeError) as error:
        if here.local_rank == 0:  # nobody can be asked who speaks: one on each machine
            say(str(error) if isinstance(error, UserError) else f"{here.name}: {first_line(error)}")
        leave(1)
    except KeyboardInterrupt:
        leave(130)
    if fault := meeting.missing or fault_in(meeting.words):
        if here.rank == 0:
            say(fault)
            time.sleep(1)  # the others hear of it by a store that may end with this process
        leave(1)
    # Without the store nobody can be asked who speaks: one on each machine does. (Where it was rank
    # 0 that served it, that rank is gone.)
    speaks_alone = here.local_rank == 0 or (here.rank == 1 and not here.has_store)
    watch = Watch(dist.PrefixStore(meeting.start, store), here.rank, here.n, speaks_alone)
    watch.begin()
    ranks = Ranks(here.rank, here.n, here.local_rank, None, watch, meeting)
    return ranks, word["device"], words


def _connected(ranks: Ranks, kind: str, words: dist.Store) -> Any:
    """Let torch make the group of all ranks; the one for numbers on the CPU, if that is another."""
    words.set_timeout(_PATIENCE)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo",
        store=dist.PrefixStore(f"{ranks.meeting.start} group", words),
        rank=ranks.rank,
        world_size=ranks.n,
        timeout=_PATIENCE,
    )
    return dist.new_group(backend="gloo", timeout=_PATIENCE) if kind == "cuda" else None


@contextlib.contextmanager
def _quiet_unless_first() -> Iterator[None]:
    """Only the first rank prints, warns and has bars; `say` goes another way, to what was stderr
    at first.
    """
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        yield


def _demo() -> None:
    from gpt.batching import collate_weighted
    from gpt.config import GPTConfig
    from gpt.loss import summed_loss
    from gpt.model import GPT

    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, n_ctx=16, n_layer=2, n_head=2, n_embd=16, dropout=0.0))
    n_answers = (1, 9, 2, 1, 8, 2, 1)
    examples = [
        ([7, 3, *range(10, 10 + n)], [False, False] + [True] * n) for n in n_answers
    ]  # an end is supervised, too
    step = np.arange(len(examples))

    def gradient_of(of_ranks: list[np.ndarray], divided_by: Callable[[int], int]) -> torch.Tensor:
        model.zero_grad()
        for i, part in enumerate(of_ranks):
            batch = collate_weighted([examples[j] for j in part], 0, 0.0)
            (summed_loss(model, batch) / divided_by(i)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    shares = [share(step, rank, 3) for rank in range(3)]
    counts = [sum(n_answers[i] + 1 for i in part) for part in shares]
    for rank, (part, count) in enumerate(zip(shares, counts, strict=True)):
        print(f"rank {rank}: examples {part.tolist()!s:<10} {count:>2} supervised tokens")
    one = gradient_of([step], lambda rank: sum(counts))
    for how, divided_by in (
        (f"each divided by the step's {sum(counts)} tokens", lambda rank: sum(counts)),
        ("each divided by its own, then averaged", lambda rank: 3 * counts[rank]),
    ):
        gap = ((gradient_of(shares, divided_by) - one).norm() / one.norm()).item()
        told = "the gradient of one process" if gap < 1e-5 else f"another one, {gap:.0%} off"
        print(f"  {how}: {told}")


if __name__ == "__main__":
    run(_demo)
