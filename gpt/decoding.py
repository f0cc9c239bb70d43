"""One more token for every row, in passes whose sizes and addresses never change: CUDA graphs.

    ids, places ─> embeddings ─> blocks ─> hidden ─┬─> most likely ─┐      all of it one launch
         ^         behind what each row has        └─> choose       │      choose: sampling.py
         └──────────── on the device ───────────────────────────────┘

A pass of GPT-2 for one token a row is some 150 small kernels. The GPU is done with each in a few
microseconds, and Python takes longer to ask for it. A CUDA graph is what a pass launched, recorded
once and launched again as a whole. It is the same to the last address and the last size. So

    what changes    lies in tensors that stay: the newest token of each row, and its place
    rows            are a power of two, or all slots there are. What is too many computes in a slot
                    where nobody is at work, behind what all rows share
    tokens in sight are a multiple of 128; those that a row has not are masked, as ever
    a size          is recorded when it came several times: recording costs some passes itself

Where the next token is the most likely one, it becomes the next input and never sees the CPU:
the next pass is launched before the tokens of the last are looked at, and the GPU never waits to be
told. A row that turns out to have ended was computed once in vain. Where tokens are drawn, a pass
ends with `hidden`, and sampling.py chooses. What is recorded lasts as long as one call.

The first replays of each recording are compared with the same pass, launched kernel by kernel.
Where they differ, or where nothing can be recorded, a line says so, all rows are read anew, and
passes.py goes on as without. (With TALIMAT_CUDA_GRAPHS=0 in the environment, from the start.) On
a CPU nothing is recorded and all else is the same, for tests.

    python -m gpt.decoding      # which sizes are recorded, when, and what becomes of rows that end

Source: the notes on CUDA graphs in PyTorch's documentation.
"""

import contextlib
import math
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial
from itertools import groupby

import torch
from torch import Tensor

from gpt.cli import run
from gpt.config import GPTConfig
from gpt.errors import first_line
from gpt.hardware import to_device
from gpt.loss import in_tiles, most_likely
from gpt.model import GPT
from gpt.rows import Ending, Row
from gpt.slots import Slots
from gpt.tokenizer import Tokenizer, tiny_vocabulary

Size = tuple[int, int]  # of a pass: its rows, and how many tokens they see (B, S)
Recorder = Callable[[Callable[[], object]], Callable[[], object]]  # work -> what does it again

_SEEN = 128  # tokens in sight: in steps of so many
_FIRST = 4  # passes of a size before it is recorded
_TIGHTER = 32  # the same, where a larger one is recorded and does as well
_CHECKS = 2  # replays that are compared: at the second, tokens and places are not those recorded
_WARM_UPS = 3  # passes ahead of a recording, for what libraries set up when they are first called


def are_wanted(device: torch.device) -> bool:
    """Where nobody says. Should a GPU or its driver ever choke on them: TALIMAT_CUDA_GRAPHS=0."""
    return device.type == "cuda" and os.environ.get("TALIMAT_CUDA_GRAPHS") != "0"


def can_be_recorded(model: GPT) -> bool:
    """Hooks are Python, which a recording has not; and with them the parts of a sharded model are
    gathered. Adapters and weights in 4 bits are kernels like all others.
    """
    return not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Graphs:
    """In which size work is done, and how: plainly, recorded, or replayed."""

    def __init__(
        self,
        work: Callable[[int, int], tuple[Tensor, ...]],
        most: Size,
        record: Recorder | None,
    ) -> None:
        """work: for a size; twice does no harm. It returns the tensors that it wrote, row by row,
        the same ones each time. record: None where nothing can be.
        """
        self.failed = False
        self._work, self._most, self._record = work, most, record
        self._replays: dict[Size, Callable[[], object]] = {}
        self._n_wanted: Counter[Size] = Counter()
        self._n_checked: Counter[Size] = Counter()

    def run(self, n_rows: int, n_seen: int) -> None:
        """The work for so many rows, of which none sees more than n_seen tokens."""
        size = self._size_for(n_rows, n_seen)
        if size not in self._replays:
            self._work(*size)
        elif self._n_checked[size] < _CHECKS:
            self._n_checked[size] += 1
            self._compare(size, n_rows)
        else:
            self._replays[size]()

    def _size_for(self, n_rows: int, n_seen: int) -> Size:
        """The smallest, or the smallest of those that are recorded and larger."""
        power, steps = 2 ** (n_rows - 1).bit_length(), -(-n_seen // _SEEN)
        tight = min(power, self._most[0]), min(steps * _SEEN, self._most[1])
        if self._record is None or tight in self._replays:
            return tight
        fits = [(B, S) for B, S in self._replays if n_rows <= B and n_seen <= S]
        self._n_wanted[tight] += 1
        if self._n_wanted[tight] <= (_TIGHTER if fits else _FIRST):
            return min(fits, key=math.prod, default=tight)
        try:
            self._replays[tight] = self._record(partial(self._work, *tight))
        except RuntimeError as error:  # torch's errors are; a lack of memory, too
            self._give_up(f"cannot be recorded ({first_line(error)})")
        return tight

    def _compare(self, size: Size, n_rows: int) -> None:
        wrote = [tensor[:n_rows] for tensor in self._work(*size)]
        right = [tensor.clone() for tensor in wrote]
        for tensor in wrote:
            tensor.zero_()  # so that a replay which does nothing is seen
        self._replays[size]()
        if not all(map(_agree, wrote, right)):
            for tensor, as_it_was in zip(wrote, right, strict=True):
                tensor.copy_(as_it_was)
            self._give_up("does not do what was recorded")

    def _give_up(self, why: str) -> None:
        print(f"warning: CUDA graphs: a pass {why}: goes on without them", file=sys.stderr)
        self.failed, self._record = True, None
        self._replays.clear()


def _agree(found: Tensor, right: Tensor) -> bool:
    if not right.is_floating_point():
        return torch.equal(found, right)
    half_of_the_digits = math.sqrt(torch.finfo(right.dtype).eps)
    return torch.allclose(found, right, half_of_the_digits, half_of_the_digits, equal_nan=True)


class CudaRecorder:
    """Work on a GPU, recorded as a graph. All graphs take their memory from one pool."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, _aside(device, threading.get_ident())
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], object]) -> Callable[[], object]:
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        # Into `here` again when all is over: of a recording that fails, torch does not come back.
        with torch.cuda.device(self._device), torch.cuda.stream(here):
            self._stream.wait_stream(here)
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    work()
            here.wait_stream(self._stream)
            # What other threads do with the GPU meanwhile, saving for one, is their own affair.
            with torch.cuda.graph(graph, self._pool, self._stream, "thread_local"):
                work()
        return graph.replay


@cache
def _aside(device: torch.device, thread: int) -> torch.cuda.Stream:
    """A stream to record on, the same in all calls: for each that a matrix product was ever
    launched on, torch keeps some memory beside it, on an H100 32 MB.
    """
    return torch.cuda.Stream(device)


def recorder_for(device: torch.device) -> Recorder | None:
    return CudaRecorder(device) if device.type == "cuda" else None


class Decoder:
    """Rows that have begun, token by token. The one place that knows what lies on the device."""

    def __init__(
        self,
        model: GPT,
        slots: Slots,
        n_slots: int,
        n_places: int,
        n_shared: int,
        n_tokens: int | None,
    ) -> None:
        """n_places: of a row, at most. n_tokens: how many the most likely is chosen from; None:
        whoever calls chooses.
        """
        self._model, self._slots = model, slots
        self._n_places, self._n_tokens = n_places, n_tokens
        head = model.wte.weight
        self._device = head.device
        self._inputs = torch.zeros(2, n_slots, dtype=torch.int64, device=head.device)  # ids, places
        self._inputs[1] = n_shared
        self._whose: list[Row | None] = [None] * n_slots  # the row that each input is of
        self._chosen = torch.zeros(n_slots, dtype=torch.int64, device=head.device)
        self._hidden: Tensor | None = None  # (n_slots, C)
        self._head = None if n_tokens is None else in_tiles(head)
        self._graphs = Graphs(self._pass, (n_slots, slots.max_len), recorder_for(head.device))
        self._ahead: _Launched | None = None

    @property
    def is_over(self) -> bool:
        """Whether it gave up, and nothing is on its way any more."""
        return self._graphs.failed and self._ahead is None

    def next_ids(self, rows: list[Row], ending: Ending) -> list[tuple[Row, int]]:
        """Rows, each in the slot of its place, and the next token of those that had one before."""
        launched = self._ahead or self._launch(rows, n_ahead=0)
        self._ahead, known = None, set(launched.rows)
        go_on = (row not in known or row.goes_on(ending) for row in rows)
        if not self._graphs.failed and any(go_on):
            self._ahead = self._launch(rows, n_ahead=1)
        at_work = set(rows)  # others ended after it was launched
        ids = zip(launched.rows, launched.ids(), strict=True)
        return [(row, id) for row, id in ids if row in at_work]

    def hidden(self, rows: list[Row]) -> Tensor:
        """(B, C) at the newest token of each row. Only until the next pass: it writes over this."""
        self._whose = [None] * len(self._whose)  # somebody else chose the tokens
        self._bring_in(rows)
        self._graphs.run(len(rows), max(map(len, rows)))
        return self._hidden[: len(rows)]

    def move(self, source: int, target: int) -> None:
        """A row goes into another slot."""
        self._inputs[:, target] = self._inputs[:, source]
        self._whose[target], self._whose[source] = self._whose[source], None

    def close(self) -> None:
        """Nothing may be on its way any more when graphs and their memory go. And go they must, and
        the cache with them: what refers to itself stays until Python looks for such.
        """
        if self._ahead is not None:
            self._ahead.ids()
        self._graphs = None

    def _launch(self, rows: list[Row], n_ahead: int) -> "_Launched":
        """n_ahead: tokens of rows that are on the device, and not yet among their ids."""
        self._bring_in(rows)
        n = len(rows)
        self._graphs.run(n, min(max(map(len, rows)) + n_ahead, self._n_places))
        ids, places = self._inputs[:, :n]
        torch.clamp(self._chosen[:n], min=0, out=ids)  # -1 is for the caller, who ends it all
        places.add_(1).clamp_(max=self._n_places - 1)  # at the last place, a row has ended
        return _Launched(rows, self._chosen[:n])

    def _bring_in(self, rows: list[Row]) -> None:
        """The newest tokens and their places of rows that are not on the device yet."""
        slots = [slot for slot, row in enumerate(rows) if self._whose[slot] is not row]
        if slots:
            new = [(slot, rows[slot].ids[-1], len(rows[slot]) - 1) for slot in slots]
            new = to_device(torch.tensor(new).T.contiguous(), self._device)  # (3, new)
            self._inputs.index_copy_(1, new[0], new[1:])
            self._whose[: len(rows)] = rows

    def _pass(self, B: int, S: int) -> tuple[Tensor, ...]:
        """What is recorded: from tensors that stay, into tensors that stay. Nothing asks Python."""
        ids, places = self._inputs[:, :B]
        with _nothing_kept_of_casts(self._device):
            mask = self._slots.write_within(places[:, None], S)
            hidden = self._model.hidden(ids[:, None], places[:, None], mask, self._slots)[:, 0]
            if self._hidden is None:  # the first pass, which is never a recording
                self._hidden = hidden.new_zeros(len(self._chosen), hidden.size(1))
            self._hidden[:B] = hidden
            if self._n_tokens is None:
                return (self._hidden,)
            self._chosen[:B] = most_likely(hidden, self._head, self._n_tokens)
            return self._hidden, self._chosen


class _Launched:
    """A pass, and the tokens that will come of it."""

    def __init__(self, rows: list[Row], ids: Tensor) -> None:
        self.rows = list(rows)  # as they stood
        self._ids = torch.empty(len(rows), dtype=ids.dtype, pin_memory=ids.is_cuda)
        self._ids.copy_(ids, non_blocking=True)
        self._event = None
        if ids.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(ids.device))

    def ids(self) -> list[int]:
        if self._event is not None:
            self._event.synchronize()  # for this pass, and not for the next, which is launched
        return self._ids.tolist()


def _nothing_kept_of_casts(device: torch.device) -> AbstractContextManager:
    """Autocast keeps what it has cast, for as long as its own block lasts. A graph casts anew."""
    if not torch.is_autocast_enabled(device.type):
        return contextlib.nullcontext()
    dtype = torch.get_autocast_dtype(device.type)
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)


def knows_by_heart(ids: list[int], V: int) -> GPT:
    """A model made by hand: the embedding of place t is that of the token that comes after it."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(V, n_ctx=33, n_layer=2, n_head=2, n_embd=64, end_id=ids[-1]))
    with torch.no_grad():
        model.wte.weight[sorted(set(ids))] *= 6  # tokens of this text are likelier than others
        model.wpe.weight[: len(ids) - 1] = 4 * model.wte.weight[ids[1:]]
    return model


def _demo() -> None:
    from gpt.generate import generate  # stands after this chapter, and calls it

    done: list[tuple[Size, str]] = []

    def pretended(work: partial) -> Callable[[], object]:
        done.append((work.args, "recorded"))
        return lambda: done.append((work.args, "replayed"))

    def plainly(B: int, S: int) -> tuple[Tensor, ...]:
        done.append(((B, S), "by itself"))
        return ()

    print("12 rows write from their 101st token on. Seven end after 20 tokens, the others go on.")
    print("What is done of a pass, in sizes of some rows that see some tokens:")
    graphs = Graphs(plainly, (12, 1024), pretended)
    for n in range(101, 201):
        graphs.run(12 if n <= 120 else 5, n)
    for ((B, S), how), same in groupby(done):
        print(f"  {B:>4} x {S:<4} {how:<10} {len(list(same)):>3}")
    print("(A recording goes beside the pass by itself twice, and is compared with it.)\n")

    tokenizer = Tokenizer(tiny_vocabulary([]))  # no merges: a token is a byte
    text = "Rows end one by one. 🐈 Bye."
    model = knows_by_heart([*tokenizer.encode(text), tokenizer.end_id], tokenizer.n_vocab)
    prompts = [tokenizer.encode(text[:n]) for n in range(1, 14)]
    for name, controls in (("greedy", {}), ("drawn", {"temperature": 0.8, "seed": 1})):
        plain, fixed = (
            generate(model, prompts, 30, batch_size=5, graphs=graphs, **controls)
            for graphs in (False, True)
        )
        print(f"13 prompts, {name}: the same answers in passes of fixed sizes: {fixed == plain}")


if __name__ == "__main__":
    run(_demo)
