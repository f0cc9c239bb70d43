"""Rows on their way to their answers, one pass through the model at a time.

    prompts ─> longest ─> read: whole prompts in one ─┐
               first      pass, keys and values into  │
                          the cache                   ├─> logits ─> choose ─> ended? ─> next()
                      ┌─> write: the newest token of ─┘            sampling.py  │ no
                      │   every row in one pass                                 │
                      └─────────────────────────────────────────────────────────┘

Each row has a slot of the cache. It writes behind its own last token and looks no further, so rows
of all lengths share a pass, and none is padded while it writes. When a row ends, the last row moves
into its slot: those at work always stand side by side, and no pass computes one that has ended.
(Some rows of nobody's there may be, as a CPU multiplies so many faster than fewer: product.py.)
Prompts that wait take the places that come free. What all prompts begin with, a template's preamble
mostly, is read once for all; on a CPU, what some of them go on with, once for these. A GPU computes
a pass sooner than it is launched: there decoding.py does `write`, and the rest is the same. Who
asks for it has a few tokens guessed and checked in a pass, and not one written (lookup.py).
"""

from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt import screening
from gpt.decoding import Decoder, are_wanted, can_be_recorded
from gpt.hardware import to_device
from gpt.laid_out import SOON
from gpt.lookup import MOST_ROWS, believed, guesses
from gpt.loss import logits_of, most_likely, surprise
from gpt.model import GPT, Projection
from gpt.preamble import n_alike
from gpt.product import n_computed
from gpt.rows import Ending, Row
from gpt.sampling import GenerateError, Sampling, choose, log_probability, penalised
from gpt.slots import Slots, read_into, rows_that_fit

_READ_AT_ONCE = {"cpu": 512}  # tokens of prompts in one pass: more no longer fit its caches


class Passes:
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
        lookup: int,
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
        # The most likely token is all that is wanted.
        self.is_plain = sampling.is_plain and not ending.logprobs
        self.lookup = lookup
        self.goes_on = new >= SOON  # what is made ready once pays for itself, pass by pass
        head = model.wte.weight
        screened = self.is_plain and self.goes_on and screening.is_worth_it(head)
        self.screen = screening.Screen(head, self.n_tokens) if screened else None
        if graphs is None:
            graphs = are_wanted(self.device) and (not lookup or self.n_slots > MOST_ROWS)
        self.uses_decoder = graphs and can_be_recorded(model)
        self.decoder: Decoder | None = None  # there from the first pass on that it does

    def weights(self) -> list[Tensor]:
        """What is multiplied by, pass after pass, each (in, out)."""
        if not self.goes_on:
            return []
        head = self.screen.rounded if self.screen else self.model.wte.weight
        projections = (m for m in self.model.modules() if isinstance(m, Projection))
        return [head.T, *(projection.weight for projection in projections)]

    def close(self) -> None:
        if self.decoder is not None:
            self.decoder.close()

    @torch.inference_mode()
    def next(self) -> list[tuple[Row, str | None]]:
        """One pass. Each row of it has tokens more, or has ended for the reason beside it."""
        if self.n_shared is None:
            self._read_what_all_begin_with()
        first = self._take_in()
        if self.slots is None or not self.rows[first].ids:
            hidden = self._read(first)
        elif self.uses_decoder:
            return self._add(self._decoded())
        else:
            guessed = self._guessed()
            hidden = self._write(guessed)  # (B, T, C)
            if any(guessed):
                return self._add(self._believed(guessed, hidden))
            hidden = hidden[:, 0]
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

    def _write(self, guessed: list[list[int]]) -> Tensor:
        """The newest token of every row, behind all that it has, and what is guessed to follow:
        (B, T, C). Where nothing is, T is 1, and some rows are in vain.
        """
        B, T = len(self.rows), 1 + max(map(len, guessed))
        texts = [[row.ids[-1], *ids] for row, ids in zip(self.rows, guessed, strict=True)]
        places = [list(range(len(row) - 1, len(row) - 1 + T)) for row in self.rows]
        ids, places = self._tensor(texts + places).view(2, B, T)
        mask = self.slots.write(places, [len(row) + T - 2 for row in self.rows])
        n_vain = n_computed(B, self.model.wte.weight) - B if T == 1 else 0
        ids, positions = F.pad(torch.stack([ids, places]), (0, 0, 0, n_vain))
        return self.model.hidden(ids, positions, mask, self.slots)

    def _guessed(self) -> list[list[int]]:
        """What is to be checked behind the newest token of each row, in places that it may have."""
        most = min(self.lookup, self.max_len - max(map(len, self.rows)))
        if most < 1 or len(self.rows) > MOST_ROWS:
            return [[] for _ in self.rows]
        new = self.ending.max_new_tokens  # the last of them needs no guess
        return [guesses([*r.prompt, *r.ids], min(most, new - len(r.ids) - 1)) for r in self.rows]

    def _believed(self, guessed: list[list[int]], hidden: Tensor) -> list[tuple[Row, int]]:
        tokens = self._most_likely(hidden.flatten(0, 1))
        likeliest = tokens.view(hidden.shape[:2]).tolist()
        of_each = zip(self.rows, map(believed, guessed, likeliest), strict=True)
        return [(row, id) for row, ids in of_each for id in ids]

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
        told: dict[Row, str | None] = {}  # of each row: why it has ended, if it has
        for row, id in chosen:
            if told.get(row):  # guesses may have gone on behind the end
                continue
            if id == -1:
                raise GenerateError(
                    f"prompt {row.number}: the model's scores are no numbers: its weights are "
                    "broken, or too large for this precision"
                )
            told[row] = row.add(id, self.ending)
        self._leave([slot for slot, row in enumerate(self.rows) if told.get(row)])
        return list(told.items())

    def _chosen(self, first: int, hidden: Tensor) -> list[tuple[Row, int]]:
        rows = self.rows[first:]
        return list(zip(rows, self._choose(rows, first, hidden).tolist(), strict=True))

    def _choose(self, rows: list[Row], first: int, hidden: Tensor) -> Tensor:
        """(B, C) -> the next token of each row, (B)."""
        head, n, penalty = self.model.wte.weight, self.n_tokens, self.sampling.repetition_penalty
        if self.is_plain:
            return self._most_likely(hidden)[: len(rows)]
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

    def _most_likely(self, hidden: Tensor) -> Tensor:
        if self.screen:
            return self.screen.most_likely(hidden)
        return most_likely(hidden, self.model.wte.weight, self.n_tokens)

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
