"""The same prompts answered by each, greedily, so many new tokens for each of them.

Ours picks its own batch size. transformers' `generate` is given each of several, its prompts sorted
by length, on one batch, up to all at once; the fastest then runs against ours on all prompts. The
book's loop computes everything anew for each token and has no batches, so it gets a few prompts,
and its time is that of as many tokens. All must write the same tokens: where rounding decides
between two equally likely ones, the difference of their scores is looked at.
"""

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from benchmarks.book_loop import PACKAGES as OF_THE_BOOK
from benchmarks.book_loop import book_model
from benchmarks.our_loop import synchronize
from benchmarks.rounds import Part, Plan, in_turn, missing
from benchmarks.work import Work
from benchmarks.workers import WayFailed, Worker
from gpt import product
from gpt.errors import UserError
from gpt.generate import generate
from gpt.hardware import choose_precision, features_of
from gpt.model import GPT
from gpt.weights import load_model

NEW_TOKENS = 64
BATCH_SIZES = (1, 8, 16, 32, 64)  # and all
TIE = 1e-4  # two scores this near are decided by rounding

Answer = tuple[float, list[list[int]]]  # seconds, and the new tokens of each prompt


class _Writer:
    """A model on the device, in fp32 where tokens are compared, and as it is used where not."""

    def __init__(self, work: Work) -> None:
        if work.threads:
            torch.set_num_threads(work.threads)
        self.work, self.device = work, torch.device(work.device)
        self.usual = choose_precision(work.precision, features_of(self.device)).dtype
        self.model: Any = None
        self.dtype: torch.dtype | None = None

    def answer(self, prompts: list[list[int]], n_new: int, how: Any, exact: bool) -> Answer:
        self._be(torch.float32 if exact else self.usual)
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
    def load(self) -> GPT:
        return load_model(self.work.folder, dtype=torch.float32)

    def write(self, prompts: list[list[int]], n_new: int, how: Any) -> list[list[int]]:
        how = dict(how or {})
        fewest = product._FEWEST
        if not how.pop("turned", True):
            product._FEWEST = 10**9  # rows that a product is turned for: none has so many
        try:
            found = generate(self.model, prompts, n_new, end_id=-1, **how)
        finally:
            product._FEWEST = fewest
        return [answer.ids for answer in found]


class TheirWriter(_Writer):
    """transformers' `generate`, with its cache. how: batch size, and whether prompts are sorted."""

    def load(self) -> Any:
        import transformers

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
    seconds: list[float] = field(default_factory=list)

    def rate(self, n_new: int) -> float:
        """New tokens a second."""
        return len(self.places) * n_new / median(self.seconds)


def bench_generation(work: Work, plan: Plan) -> Part:
    """The test prompts, answered by ours, transformers and the book's loop."""
    began = time.perf_counter()
    n_new = min(NEW_TOKENS, work.config.n_ctx - max(map(len, work.prompts)))
    everything = list(range(len(work.prompts)))
    few = everything[:: max(1, len(everything) // 2)][:2]
    workers, ways, left_out = [], [], []
    search: list[list[str]] = []
    try:
        workers.append(Worker(OurWriter, work))
        ways.append(Writing("ours", workers[0], everything))
        if torch.device(work.device).type == "cuda":
            without = {"graphs": False}
            ways.append(Writing("ours, without CUDA graphs", workers[0], everything, without))
        elif work.device == "cpu" and work.precision == "fp32":
            without = {"turned": False}
            ways.append(Writing("ours, products the usual way", workers[0], everything, without))
        _, right = workers[0].call("answer", work.prompts, n_new, None, True)
        if absent := missing("transformers"):
            left_out.append(f"transformers: left out, as {absent[0]} is not installed")
        else:
            workers.append(Worker(TheirWriter, work))
            how, search = _best_batch(workers[-1], work, n_new)
            sorted_so = {True: "by length", False: "as they come"}[how[1]]
            name = f"transformers, {how[0]} at once, {sorted_so}"
            ways.append(Writing(name, workers[-1], everything, how))
        if absent := missing(*OF_THE_BOOK):
            left_out.append(f"the book: left out, as {', '.join(absent)} is not installed")
        else:
            workers.append(Worker(BookWriter, work))
            ways.append(Writing("LLMs-from-scratch, one by one", workers[-1], few))
        ways, unequal = _that_agree(work, ways, right, n_new)
        spent = time.perf_counter() - began
        n_rounds, counted = plan.rounds or 0, 0
        while not counted or counted < n_rounds:
            start = time.perf_counter()
            for way in ways:
                some = [work.prompts[i] for i in way.places]
                way.seconds.append(way.worker.call("answer", some, n_new, way.how, False)[0])
            counted += 1
            n_rounds = n_rounds or plan.rounds_of(time.perf_counter() - start, spent)
    except WayFailed as error:
        raise UserError(f"generation: {error}") from error
    finally:
        for worker in workers:
            worker.close()
    return _shown(ways, n_new, counted, search, left_out + unequal)


def _best_batch(worker: Worker, work: Work, n_new: int) -> tuple[Any, list[list[str]]]:
    """The fastest batch size, each tried on one batch: neighbours by length, or as they come."""
    by_length = sorted(work.prompts, key=len)
    rates: dict[tuple[int, bool], float] = {}
    n_prompts = len(work.prompts)
    for size in [size for size in BATCH_SIZES if size < n_prompts] + [n_prompts]:
        middle = (len(by_length) - size) // 2
        tried = {True: by_length[middle : middle + size], False: work.prompts[:size]}
        for is_sorted, prompts in tried.items():
            if is_sorted or 1 < size < n_prompts:
                seconds, _ = worker.call("answer", prompts, n_new, (size, is_sorted), False)
                rates[size, is_sorted] = size * n_new / seconds
    rows = [
        [f"{size}", "by length" if is_sorted else "as they come", f"{rate:.0f}"]
        for (size, is_sorted), rate in rates.items()
    ]
    return max(rates, key=lambda how: rates[how]), rows


def _that_agree(
    work: Work, ways: list[Writing], right: list[list[int]], n_new: int
) -> tuple[list[Writing], list[str]]:
    kept, left_out = [], []
    for way in ways:
        prompts = [work.prompts[i] for i in way.places]
        _, new = way.worker.call("answer", prompts, n_new, way.how, True)
        model = load_model(work.folder)
        others = [
            i
            for i, ids in zip(way.places, new, strict=True)
            if not same_but_for_ties(model, work.prompts[i], right[i], ids)
        ]
        if others:
            left_out.append(f"{way.name}: not shown, as it answers prompt {others[0]} otherwise")
        else:
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


def _shown(
    ways: list[Writing], n_new: int, n_rounds: int, search: list[list[str]], left_out: list[str]
) -> Part:
    part, ours = Part(), ways[0].rate(n_new)
    rows = []
    for way in ways:
        rate = way.rate(n_new)
        compared = "" if way is ways[0] else f"{ours / rate:.1f} times as fast"
        rows.append([way.name, f"{len(way.places)}", f"{rate:.1f}", compared])
    notes = [
        f"{in_turn(n_rounds)}; {n_new} new tokens for each prompt, greedily; all write the same.",
        *left_out,
    ]
    title = "Generation"
    part.table(title, ["", "prompts", "new tokens/s", "ours is"], rows, notes)
    if search:
        note = "One batch of each, once: it is only there to find the best."
        head = ["at once", "prompts", "new tokens/s"]
        part.table("Batch sizes of transformers", head, search, [note])
    part.bars.append(
        {"title": "Generation: new tokens a second", "names": [way.name for way in ways],
         "values": [way.rate(n_new) for way in ways]}
    )  # fmt: skip
    part.rounds[title] = {way.name: way.seconds for way in ways}
    return part
