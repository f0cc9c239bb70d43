"""Prompts in, answers out: many at once, each row on its own clock, nothing computed twice.

    prompts ─> longest ─> read: whole prompts in one ─┐
               first      pass, keys and values into  │
                          the cache                   ├─> logits ─> choose ─> ended? ─> Generated
                      ┌─> write: the newest token of ─┘            sampling.py  │ no
                      │   every row in one pass                                 │
                      └─────────────────────────────────────────────────────────┘

Each row has a slot of the cache. It writes behind its own last token and looks no further, so rows
of all lengths share a pass, and none is padded while it writes. When a row ends, the last row moves
into its slot: those at work always stand side by side, and no pass computes one that has ended.
(Some rows of nobody's there may be, as a CPU multiplies so many faster than fewer: product.py.)
Prompts that wait take the places that come free. What all prompts begin with, a template's preamble
mostly, is read once for all; on a CPU, what some of them go on with, once for these. A GPU computes
a pass sooner than it is launched: there decoding.py does `write`, and the rest is the same.

A row ends by itself (`stop`), when it has enough tokens (`length`), or when the model's places are
full (`context`): see rows.py.

    python -m gpt.generate      # greedy, sampled, stopped, streamed; alone and in a batch
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.cli import run
from gpt.decoding import Decoder, are_wanted, can_be_recorded, knows_by_heart
from gpt.hardware import to_device
from gpt.loss import logits_of, most_likely, surprise
from gpt.model import GPT, evaluating
from gpt.preamble import n_alike
from gpt.product import n_computed
from gpt.rows import Ending, Generated, Row, checked_ending, checked_rows
from gpt.sampling import GenerateError, Sampling, check, choose, log_probability, penalised
from gpt.slots import Slots, read_into, rows_that_fit
from gpt.tokenizer import Tokenizer, tiny_vocabulary

_READ_AT_ONCE = {"cpu": 512}  # tokens of prompts in one pass: more no longer fit its caches


def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    end_id: int | None = None,
    seed: int = 0,
    *,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
    logprobs: bool = False,
    batch_size: int | None = None,
    use_cache: bool = True,
    graphs: bool | None = None,
    row_numbers: Sequence[int] | None = None,
    references: Sequence[Sequence[int] | None] | None = None,
    on_text: Callable[[int, str], None] | None = None,
    on_finished: Callable[[int, Generated], None] | None = None,
) -> list[Generated]:
    """Write on from each prompt, a list of ids; one `Generated` for each, in their order.

    temperature, top_k, top_p, min_p, repetition_penalty: see `Sampling`.
    end_id: the token that ends a row. None: the one that the model's config names, if any; -1: none
    seed: row i draws from what (seed, i) starts, whatever its neighbours and the batch size are.
    row_numbers: the i of each row, where it is not its place: with those that its remaining prompts
        had, a caller that was interrupted gets the answers that they would have had.
    stop: one or more strings that end a row once its text holds one, however many tokens spell it.
        `text` is all before the first; `ids` are the tokens that lie before it whole (a token that
        spells the last of the text and the first of the stop string is not among them).
    tokenizer: for `stop`, `on_text`, and `Generated.text`.
    logprobs: fill `Generated.logprobs`, from the model's own logits before any control.
    batch_size: rows at once. None: as many as serve the device and fit into its memory.
    use_cache: False computes everything anew for each token: it is there to prove the cache.
    graphs: whether tokens after the first come of passes of fixed sizes, which a GPU does at one
        launch each. None: on CUDA; False: nowhere; True: on other devices, too, to prove them.
    references: for each prompt ids that might follow it, or None: `Generated.reference_nats` says
        how surprising they would be. They are read with the prompt, and nothing depends on them.
    on_text: is called with a prompt's place and each new piece of its text: whole characters, and
        no part of a stop string. All pieces of a row are its `text`.
    on_finished: is called with a prompt's place and its result as soon as that is there.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    if batch_size is not None:
        check("batch_size", batch_size, Integral, lambda n: n >= 1, "a whole number from 1 up")
    if on_text is not None and tokenizer is None:
        raise GenerateError("on_text needs a tokenizer: only that knows what ids spell")
    ending = checked_ending(model.config, max_new_tokens, end_id, tokenizer, stop, logprobs)
    rows = checked_rows(prompts, seed, row_numbers, references, model.config)
    results: list[Generated | None] = [None] * len(rows)

    def tell(row: Row, reason: str | None) -> None:
        if on_text is not None and (news := row.news(ending, is_last=reason is not None)):
            on_text(row.number, news)
        if reason is not None:
            results[row.number] = row.result(reason, ending)
            if on_finished is not None:
                on_finished(row.number, results[row.number])

    begin = []
    for row in rows:
        reason = row.reason_not_to_begin(ending)
        if reason:
            tell(row, reason)
        else:
            begin.append(row)
    passes = _Passes(model, begin, sampling, ending, batch_size, use_cache, graphs)
    with evaluating(model), closing(passes):
        while passes.rows or passes.waiting:
            for row, reason in passes.next():
                tell(row, reason)
    return results


class _Passes:
    """All rows of a call on their way, one pass through the model at a time."""

    def __init__(
        self,
        model: GPT,
        rows: list[Row],
        sampling: Sampling,
        ending: Ending,
        batch_size: int | None,
        use_cache: bool,
        graphs: bool | None,
    ) -> None:
        self.model, self.sampling, self.ending = model, sampling, ending
        self.device = model.wte.weight.device
        # Taken from the end: the longest first, and of equals the first.
        self.waiting = sorted(rows, key=lambda row: (row.n_to_read, -row.number))
        self.rows: list[Row] = []  # those at work, each in the slot of its place here
        new = ending.max_new_tokens
        longest = max((max(len(row) + new, row.n_to_read) for row in rows), default=1)
        self.max_len = min(longest, ending.n_ctx)
        self.n_slots = min(batch_size or rows_that_fit(model, self.max_len), len(rows))
        self.slots = Slots(model.config.n_layer, self.n_slots, self.max_len) if use_cache else None
        self.n_read = _READ_AT_ONCE.get(self.device.type, 8192)
        self.n_shared: int | None = None  # tokens that each slot begins with; None: not yet read
        self.seen: Tensor | None = None  # (n_slots, V), tokens that the penalty is for
        # Of which the next may be one: there may be more rows of the head than tokens.
        self.n_tokens = ending.tokenizer.n_vocab if ending.tokenizer else len(model.wte.weight)
        self.is_plain = sampling.is_greedy and sampling.repetition_penalty == 1
        self.is_plain &= not ending.logprobs  # the most likely token is all that is wanted
        graphs = are_wanted(self.device) if graphs is None else graphs
        self.uses_decoder = graphs and can_be_recorded(model)
        self.decoder: Decoder | None = None  # there from the first pass on that it does

    def close(self) -> None:
        if self.decoder is not None:
            self.decoder.close()

    @torch.inference_mode()
    def next(self) -> list[tuple[Row, str | None]]:
        """One pass. Each row of it has a token more, or has ended for the reason beside it."""
        if self.n_shared is None:
            self._read_what_all_begin_with()
        first = self._take_in()
        if self.slots is None or not self.rows[first].ids:
            hidden = self._read(first)
        elif self.uses_decoder:
            return self._add(self._decoded())
        else:
            hidden = self._write()
        return self._add(self._chosen(first, hidden))

    # ---- through the model ------------------------------------------------------------------

    def _read_what_all_begin_with(self) -> None:
        prompts = [row.prompt for row in self.waiting]
        self.n_shared = n_alike(prompts) if self.slots is not None and len(prompts) > 1 else 0
        if self.n_shared:
            shared = [prompts[0][: self.n_shared]]
            read_into(self.slots, 0, self.model, shared, 0, self._tensor([[0]])[0])
            self.slots.share(self.n_shared)

    def _take_in(self) -> int:
        """Rows that wait take free slots, once enough are free; the first slot so taken, or 0."""
        first = len(self.rows)
        room = min(self.n_slots - first, len(self.waiting))
        if room >= min(len(self.waiting), max(1, self.n_slots // 8)) > 0:
            width = self.waiting[-1].n_to_read - self.n_shared  # to which attention fills up all
            for _ in range(max(1, min(room, self.n_read // width))):
                self.rows.append(self.waiting.pop())
        return first if first < len(self.rows) else 0

    def _read(self, first: int, stop: int | None = None) -> Tensor:
        """All tokens of the rows from slot `first` on: (B, C) at the last of each.

        Behind the end of a short row stands what no token of its own looks at. What this leaves in
        the cache is masked until the row writes over it.
        """
        rows, past = self.rows[first:stop], self.n_shared
        texts = [row.to_read()[past:] for row in rows]
        T = max(map(len, texts))
        lasts = [at * T + len(row) - past - 1 for at, row in enumerate(rows)]
        weighed = [(at, row) for at, row in enumerate(rows) if row.reference and not row.ids]
        # A reference stands behind its prompt.
        behind = [lasts[at] + i for at, row in weighed for i in range(len(row.reference))]
        places = to_device(torch.tensor(lasts + behind), self.device)
        if self.slots is None:
            hidden = self.model.hidden(self._tensor(texts), places=places)[0]  # (N, C)
        else:
            hidden = read_into(self.slots, first, self.model, texts, past, places)
        if weighed:
            ids = self._tensor([[id for _, row in weighed for id in row.reference]])[0]
            nats = iter(surprise(hidden[len(rows) :], self.model.wte.weight, ids))
            for _, row in weighed:
                row.reference_nats = sum(islice(nats, len(row.reference)))
        return hidden[: len(rows)]

    def _write(self) -> Tensor:
        """The newest token of every row, behind all that it has: (B, C), and some rows in vain."""
        places = [len(row) - 1 for row in self.rows]
        new = self._tensor([[row.ids[-1] for row in self.rows], places])
        mask = self.slots.write(new[1], places)
        n_vain = n_computed(len(places), self.model.wte.weight) - len(places)
        ids, positions = F.pad(new, (0, n_vain))[:, :, None]  # (B, 1)
        return self.model.hidden(ids, positions, mask, self.slots)[:, 0]

    def _tensor(self, rows: list[list[int]]) -> Tensor:
        width = max(map(len, rows))
        rows = [row + [0] * (width - len(row)) for row in rows]
        return to_device(torch.tensor(rows), self.device)

    def _decoded(self) -> list[tuple[Row, int]]:
        """What `_write` and `_chosen` do, on a GPU at one launch."""
        if self.decoder is None:
            n_tokens = self.n_tokens if self.is_plain else None
            sizes = self.n_slots, self.max_len, self.n_shared, n_tokens
            self.decoder = Decoder(self.model, self.slots, *sizes)
        if self.decoder.is_over:
            self.uses_decoder = False
            at_once = max(1, self.n_read // max(map(len, self.rows)))
            starts = range(0, len(self.rows), at_once)
            return self._chosen(0, torch.cat([self._read(i, i + at_once) for i in starts]))
        if self.is_plain:
            return self.decoder.next_ids(self.rows, self.ending)
        return self._chosen(0, self.decoder.hidden(self.rows))

    # ---- the next tokens --------------------------------------------------------------------

    def _add(self, chosen: list[tuple[Row, int]]) -> list[tuple[Row, str | None]]:
        for row, id in chosen:
            if id == -1:
                raise GenerateError(
                    f"prompt {row.number}: the model's scores are no numbers: its weights are "
                    "broken, or too large for this precision"
                )
        told = [(row, row.add(id, self.ending)) for row, id in chosen]
        ended = {row for row, reason in told if reason}
        self._leave([slot for slot, row in enumerate(self.rows) if row in ended])
        return told

    def _chosen(self, first: int, hidden: Tensor) -> list[tuple[Row, int]]:
        rows = self.rows[first:]
        return list(zip(rows, self._choose(rows, first, hidden).tolist(), strict=True))

    def _choose(self, rows: list[Row], first: int, hidden: Tensor) -> Tensor:
        """(B, C) -> the next token of each row, (B)."""
        head, n, penalty = self.model.wte.weight, self.n_tokens, self.sampling.repetition_penalty
        if self.is_plain:
            return most_likely(hidden, head, n)[: len(rows)]
        seen, logits = None, logits_of(hidden[: len(rows)], head).float()
        scores = logits[:, :n]
        if penalty != 1:
            seen = self._seen(first, len(head))
            scores = penalised(scores, seen[:, :n], penalty)
        tokens = choose(scores, self.sampling, [row.draws for row in rows])
        if seen is not None:
            seen[torch.arange(len(rows), device=self.device), tokens] = True
        if self.ending.logprobs:
            for row, logprob in zip(rows, log_probability(logits, tokens).tolist(), strict=True):
                row.logprobs.append(logprob)
        return tokens

    def _seen(self, first: int, V: int) -> Tensor:
        """(B, V): which tokens the rows from slot `first` on have."""
        if self.seen is None:
            self.seen = torch.zeros(self.n_slots, V, dtype=torch.bool, device=self.device)
        for slot, row in enumerate(self.rows[first:], first):
            if not row.ids:  # new in this slot
                self.seen[slot] = False
                self.seen[slot, row.prompt] = True
        return self.seen[first : len(self.rows)]

    def _leave(self, ended: list[int]) -> None:
        """The last rows move into the slots of those that ended."""
        n = len(self.rows) - len(ended)
        targets = [slot for slot in ended if slot < n]
        sources = [slot for slot in range(n, len(self.rows)) if slot not in ended]
        for source, target in zip(sources, targets, strict=True):
            if self.slots is not None:
                self.slots.move(source, target, len(self.rows[source]))
            if self.decoder is not None:
                self.decoder.move(source, target)
            if self.seen is not None:
                self.seen[target] = self.seen[source]
            self.rows[target] = self.rows[source]
        del self.rows[n:]


def _demo() -> None:
    tokenizer = Tokenizer(tiny_vocabulary([]))  # no merges: a token is a byte
    text = "Rows end one by one. 🐈 Bye."
    model = knows_by_heart([*tokenizer.encode(text), tokenizer.end_id], tokenizer.n_vocab)
    prompts = [tokenizer.encode(text[:n]) for n in (1, 14, 5)]

    def show(title: str, prompts: list[list[int]], **settings: object) -> None:
        print(f"\n{title}")
        answers = generate(model, prompts, tokenizer=tokenizer, **settings)
        for a in answers:
            print(f"  {text[: a.n_prompt]!r:<16} {a.finish_reason:<8} {len(a.ids):>2}  {a.text!r}")
        others = {**settings, "batch_size": 2}, {**settings, "use_cache": False}
        same = [generate(model, prompts, tokenizer=tokenizer, **o) == answers for o in others]
        print("  by twos: {}; without a cache: {}".format(*(("OTHERS", "same")[s] for s in same)))

    print(f"A model that knows one text by heart: {text!r}")
    print("Of each prompt: why its row ended, how many tokens it wrote, and its text.")
    show("greedy", prompts, max_new_tokens=30)
    show("at most 7 tokens", prompts, max_new_tokens=7)
    show(
        "until 'one. ' or '🐈', of 5 and 4 tokens", prompts, max_new_tokens=30, stop=["one. ", "🐈"]
    )
    show("no end token: on to the end of the context", prompts[1:2], max_new_tokens=99, end_id=-1)
    show(
        "temperature 0.8, seed 1: each row draws on its own",
        [prompts[1]] * 4,
        max_new_tokens=30,
        temperature=0.8,
        seed=1,
    )
    print("\nStreamed, in whole characters:", end="")
    heard = {"on_text": lambda i, piece: print("", repr(piece), end="")}
    generate(model, [tokenizer.encode(text[:18])], 30, tokenizer=tokenizer, **heard)
    print()


if __name__ == "__main__":
    run(_demo)
