"""The same prompts answered by each, greedily, so many new tokens for each of them.

In fp32, in which answers are written unless they are asked for in less; and in the precision that a
run on the device is given, where that is less.

Ours picks its own batch size. transformers' `generate` is given each of several, its prompts sorted
by length, on one batch, up to all at once; the fastest then runs against ours on all prompts. The
book's loop computes everything anew for each token and has no batches, so it gets a few prompts,
and its time is that of as many tokens. In fp32 all must write the same tokens: where rounding
decides between two equally likely ones, the difference of their scores is looked at.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.book_loop import PACKAGES as OF_THE_BOOK
from benchmarks.book_loop import book_model
from benchmarks.our_loop import synchronize
from benchmarks.rounds import Part, Plan, in_turn, missing
from benchmarks.work import Work
from benchmarks.workers import WayFailed, Worker, as_torch_comes
from gpt import laid_out, passes, product, screening, slots
from gpt.errors import UserError
from gpt.generate import generate
from gpt.hardware import choose_precision, features_of, has_amx
from gpt.model import GPT
from gpt.slots import read_filled_up
from gpt.weights import load_model

FP32 = "fp32"
NEW_TOKENS = 64
BATCH_SIZES = (1, 8, 16, 32, 64)  # and all
TIE = 1e-4  # two scores this near are decided by rounding

Answer = tuple[float, list[list[int]]]  # seconds, and the new tokens of each prompt


class _Writer:
    """A model on the device, in the precision that is asked for."""

    def __init__(self, work: Work) -> None:
        if work.threads:
            torch.set_num_threads(work.threads)
        self.work, self.device = work, torch.device(work.device)
        self.model: Any = None
        self.dtype: torch.dtype | None = None

    def answer(self, prompts: list[list[int]], n_new: int, how: Any, precision: str) -> Answer:
        self._be(choose_precision(precision, features_of(self.device)).dtype)
        synchronize(self.device)
        start = time.perf_counter()
        new = self.write(prompts, n_new, how)
        synchronize(self.device)
        return time.perf_counter() - start, new

    def _be(self, dtype: torch.dtype) -> None:
        """Weights that were rounded once do not come back by themselves: loaded, then rounded."""
        if self.dtype is not dtype:
            self.model = None
            self.model, self.dtype = self.load().to(self.device, dtype).eval(), dtype


class OurWriter(_Writer):
    """how: settings of `generate`, and by its name a lever that is off."""

    def load(self) -> GPT:
        return load_model(self.work.folder, dtype=torch.float32)

    def write(self, prompts: list[list[int]], n_new: int, how: Any) -> list[list[int]]:
        how = dict(how or {})
        name = how.pop("without", None)
        with LEVERS[name].off() if name else nullcontext():
            found = generate(self.model, prompts, n_new, end_id=-1, **how)
        return [answer.ids for answer in found]


@dataclass(frozen=True)
class _Lever:
    """What is done on a CPU to be sooner, and can be left."""

    off: Callable[[], AbstractContextManager]
    precision: str = "fp32"  # in which it is shown
    is_here: Callable[[], bool] = lambda: True  # whether it does anything on this CPU


LEVERS = {
    # So many rows that nobody has them.
    "turned products": _Lever(
        lambda: patch.object(product, "_FEWEST", 10**9), is_here=lambda: product.pays_here()
    ),
    "what prompts share": _Lever(
        lambda: patch.multiple(passes, n_alike=lambda prompts: 0, read_into=read_filled_up)
    ),
    "a screened head": _Lever(
        lambda: patch.object(screening, "is_worth_it", lambda head: False),
        is_here=lambda: has_amx(),
    ),
    "weights laid out": _Lever(
        lambda: patch.object(laid_out, "is_laid_out_here", lambda weight: False),
        "bf16",
        lambda: has_amx(),
    ),
    "keys kept in bf16": _Lever(
        lambda: patch.object(slots, "has_amx", lambda: False), "bf16", lambda: has_amx()
    ),
}


class TheirWriter(_Writer):
    """transformers' `generate`, with its cache. how: batch size, and whether prompts are sorted."""

    def load(self) -> Any:
        import transformers

        as_torch_comes()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        folder = self.work.folder
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        for config in (model.config, model.generation_config):
            config.eos_token_id = None  # all answers have as many tokens
        return model

    def write(self, prompts: list[list[int]], n_new: int, how: Any) -> list[list[int]]:
        size, is_sorted = how
        order = list(range(len(prompts)))
        if is_sorted:
            order.sort(key=lambda i: len(prompts[i]))
        new: dict[int, list[int]] = {}
        for start in range(0, len(order), size):
            some = order[start : start + size]
            width, end = max(len(prompts[i]) for i in some), self.work.end_id
            padded = [(width - len(prompts[i]), prompts[i]) for i in some]
            ids = [[end] * n + prompt for n, prompt in padded]
            mask = [[0] * n + [1] * len(prompt) for n, prompt in padded]
            written = self.model.generate(
                input_ids=torch.tensor(ids, device=self.device),
                attention_mask=torch.tensor(mask, device=self.device),
                max_new_tokens=n_new,
                do_sample=False,
                pad_token_id=end,
            )
            new |= zip(some, written[:, width:].tolist(), strict=True)
        return [new[i] for i in range(len(prompts))]


class BookWriter(_Writer):
    """Its `generate`: one prompt at a time, all of it computed for each token."""

    def load(self) -> Any:
        as_torch_comes()
        return book_model(self.work)

    def write(self, prompts: list[list[int]], n_new: int, _: Any) -> list[list[int]]:
        from llms_from_scratch.ch05 import generate as write_on

        size = self.work.config.n_ctx
        texts = [torch.tensor([prompt], device=self.device) for prompt in prompts]
        return [
            write_on(self.model, text, n_new, size)[0, text.size(1) :].tolist() for text in texts
        ]


@dataclass
class Writing:
    """One way that takes its turn on some of the prompts."""

    name: str
    worker: Worker
    places: list[int]  # of its prompts
    how: Any = None
    precisions: tuple[str, ...] | None = None  # None: all
    seconds: list[float] = field(default_factory=list)

    def rate(self, n_new: int) -> float:
        """New tokens a second."""
        return len(self.places) * n_new / median(self.seconds)


def bench_generation(work: Work, plan: Plan) -> Part:
    """The test prompts, answered by ours, transformers and the book's loop."""
    began, part = time.perf_counter(), Part()
    n_new = min(NEW_TOKENS, work.config.n_ctx - max(map(len, work.prompts)))
    everything = list(range(len(work.prompts)))
    few = everything[:: max(1, len(everything) // 2)][:2]
    workers: list[Worker] = []
    left_out: list[str] = []
    try:
        workers.append(Worker(OurWriter, work))
        ways = [Writing("ours", workers[0], everything)]
        if torch.device(work.device).type == "cuda":
            without = {"graphs": False}
            ways.append(Writing("ours, without CUDA graphs", workers[0], everything, without))
        elif work.device == "cpu":
            for name, lever in LEVERS.items():
                if lever.is_here():
                    how, shown = {"without": name}, (lever.precision,)
                    way = Writing(f"ours, without {name}", workers[0], everything, how, shown)
                    ways.append(way)
        theirs = None
        if absent := missing("transformers"):
            left_out.append(f"transformers: left out, as {absent[0]} is not installed")
        else:
            workers.append(theirs := Worker(TheirWriter, work))
            ways.append(Writing("transformers", theirs, everything, (BATCH_SIZES[-1], True)))
        if absent := missing(*OF_THE_BOOK):
            left_out.append(f"the book: left out, as {', '.join(absent)} is not installed")
        else:
            workers.append(Worker(BookWriter, work))
            ways.append(Writing("LLMs-from-scratch, one by one", workers[-1], few))
        ways, unequal = _that_agree(work, ways, n_new)
        precisions = list(dict.fromkeys((FP32, work.precision)))  # answers are written in fp32,
        for i, precision in enumerate(precisions):  # unless they are asked for in less
            at_it = [
                replace(way, seconds=[])
                for way in ways
                if precision in (way.precisions or precisions)
            ]
            search: list[list[str]] = []
            for way in at_it:
                if way.worker is theirs:
                    way.how, search = _best_batch(theirs, work, n_new, precision)
                    sorted_so = {True: "by length", False: "as they come"}[way.how[1]]
                    way.name += f", {way.how[0]} at once, {sorted_so}"
            seconds = (plan.seconds - time.perf_counter() + began) / (len(precisions) - i)
            timed = Plan(seconds, plan.rounds, plan.tiny)
            n_rounds = _take_turns(work, at_it, n_new, precision, timed)
            title = f"Generation, {precision}"
            _show(part, title, at_it, n_new, n_rounds, search, left_out + unequal)
    except WayFailed as error:
        raise UserError(f"generation: {error}") from error
    finally:
        for worker in workers:
            worker.close()
    return part


def _take_turns(work: Work, ways: list[Writing], n_new: int, precision: str, plan: Plan) -> int:
    """How many rounds there were."""
    began = time.perf_counter()
    for way in ways:  # to warm up; in a precision that was not there before, weights are loaded
        way.worker.call("answer", [work.prompts[0]] * 8, 4, way.how, precision)
    n_rounds, counted = plan.rounds or 0, 0
    while not counted or counted < n_rounds:
        start = time.perf_counter()
        for way in ways:
            some = [work.prompts[i] for i in way.places]
            way.seconds.append(way.worker.call("answer", some, n_new, way.how, precision)[0])
        counted += 1
        cost = time.perf_counter() - start
        n_rounds = n_rounds or counted + plan.rounds_of(cost, time.perf_counter() - began)
    return counted


def _best_batch(
    worker: Worker, work: Work, n_new: int, precision: str
) -> tuple[Any, list[list[str]]]:
    """The fastest batch size, each tried on one batch: neighbours by length, or as they come."""
    by_length = sorted(work.prompts, key=len)
    rates: dict[tuple[int, bool], float] = {}
    n_prompts = len(work.prompts)
    for size in [size for size in BATCH_SIZES if size < n_prompts] + [n_prompts]:
        middle = (len(by_length) - size) // 2
        tried = {True: by_length[middle : middle + size], False: work.prompts[:size]}
        for is_sorted, prompts in tried.items():
            if is_sorted or 1 < size < n_prompts:
                seconds, _ = worker.call("answer", prompts, n_new, (size, is_sorted), precision)
                rates[size, is_sorted] = size * n_new / seconds
    rows = [
        [f"{size}", "by length" if is_sorted else "as they come", f"{rate:.0f}"]
        for (size, is_sorted), rate in rates.items()
    ]
    return max(rates, key=lambda how: rates[how]), rows


def _that_agree(work: Work, ways: list[Writing], n_new: int) -> tuple[list[Writing], list[str]]:
    """Those that write in fp32 what the first does, which is ours; and the others, in words."""
    kept, left_out = ways[:1], []
    model, right = load_model(work.folder), None
    for way in ways:
        prompts = [work.prompts[i] for i in way.places]
        _, new = way.worker.call("answer", prompts, n_new, way.how, FP32)
        right = right or new
        others = [
            i
            for i, ids in zip(way.places, new, strict=True)
            if not same_but_for_ties(model, work.prompts[i], right[i], ids)
        ]
        if others:
            left_out.append(f"{way.name}: not shown, as it answers prompt {others[0]} otherwise")
        elif way is not ways[0]:
            kept.append(way)
    return kept, left_out


@torch.inference_mode()
def same_but_for_ties(model: GPT, prompt: list[int], one: list[int], other: list[int]) -> bool:
    """Whether two answers are equal up to a place where the next two tokens are equally likely."""
    pairs = enumerate(zip(one, other, strict=True))
    first = next((i for i, (a, b) in pairs if a != b), None)
    if first is None:
        return True
    scores = model(torch.tensor([prompt + one[:first]]))[0, -1]
    return abs(scores[one[first]] - scores[other[first]]).item() <= TIE


def _show(
    part: Part,
    title: str,
    ways: list[Writing],
    n_new: int,
    n_rounds: int,
    search: list[list[str]],
    left_out: list[str],
) -> None:
    ours, rows = ways[0].rate(n_new), []
    for way in ways:
        rate = way.rate(n_new)
        compared = "" if way is ways[0] else f"{ours / rate:.2f} times as fast"
        rows.append([way.name, f"{len(way.places)}", f"{rate:.1f}", compared])
    notes = [
        f"{in_turn(n_rounds)}; {n_new} new tokens for each prompt, greedily; in fp32 all write the "
        "same.",
        *left_out,
    ]
    part.table(title, ["", "prompts", "new tokens/s", "ours is"], rows, notes)
    if search:
        note = "One batch of each, once: it is only there to find the best."
        head = ["at once", "prompts", "new tokens/s"]
        part.table(f"{title}: batch sizes of transformers", head, search, [note])
    part.bars.append(
        {"title": f"{title}: new tokens a second", "names": [way.name for way in ways],
         "values": [way.rate(n_new) for way in ways]}
    )  # fmt: skip
    part.rounds[title] = {way.name: way.seconds for way in ways}
