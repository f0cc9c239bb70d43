"""One row: a prompt, what is written behind it, when that ends, and what a listener may hear.

    next token ─> Row.add ─> a reason to end, or none
                     └─> Row.news ─> text for a listener: whole characters, no half of a stop string

A row ends for one of three reasons, its `finish_reason`:

    stop       the end token came, which is not among its ids; or a stop string, not in its text
    length     it has `max_new_tokens`
    context    the model's n_ctx places are full. The token at the last place still has a successor:
               a prompt of n_ctx tokens gets one token, a longer one none. No prompt is ever cut.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral

from gpt.config import GPTConfig
from gpt.sampling import Draws, GenerateError, check
from gpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Ending:
    """What ends a row: whichever comes first."""

    max_new_tokens: int
    n_ctx: int  # places of the model
    end_id: int | None = None  # of the token that ends a text; None: only the rest ends it
    tokenizer: Tokenizer | None = None  # knows what ids spell
    stop: tuple[bytes, ...] = ()  # stop strings, as tokens spell them
    logprobs: bool = False  # whether they are wanted


@dataclass
class Generated:
    """What became of one prompt."""

    ids: list[int]  # the new ones, without the end token
    finish_reason: str  # stop, length or context
    n_prompt: int  # tokens
    text: str | None = None  # of the ids, if there was a tokenizer; up to the stop string
    logprobs: list[float] | None = None  # of each id under the model itself, if asked for
    note: str = ""  # for a person: the numbers, where the context was too short
    reference_nats: float | None = None  # -log p of the reference, where one was given and fits


def _utf8_decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")


@dataclass(eq=False)
class Row:
    """A prompt and what is written behind it."""

    number: int  # its place among the prompts
    prompt: list[int]
    draws: Draws
    reference: list[int] = field(default_factory=list)  # what might follow, to be weighed
    reference_nats: float | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    spelled: bytearray = field(default_factory=bytearray)  # by ids, if there is a tokenizer
    _n_told: int = 0  # of these bytes, those that a listener has
    _utf8: codecs.IncrementalDecoder = field(default_factory=_utf8_decoder)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.ids)

    @property
    def n_to_read(self) -> int:
        """Before its first token: the prompt, and of the reference all but the last."""
        return len(self.prompt) + max(0, len(self.reference) - 1)

    def to_read(self) -> list[int]:
        return self.prompt + (self.ids or self.reference[:-1])

    def reason_not_to_begin(self, ending: Ending) -> str | None:
        if len(self.prompt) > ending.n_ctx:
            return "context"
        return "length" if ending.max_new_tokens == 0 else None

    def add(self, id: int, ending: Ending) -> str | None:
        """One more token. If it is the last, the reason to end: stop, length or context."""
        if id == ending.end_id:
            return "stop"
        self.ids.append(id)
        if ending.tokenizer is not None:
            self.spelled += ending.tokenizer.token_bytes(id)
            if ending.stop and self._cut_at_stop(ending):
                return "stop"
        if len(self.ids) == ending.max_new_tokens:
            return "length"
        return "context" if len(self) > ending.n_ctx else None

    def goes_on(self, ending: Ending) -> bool:
        """Whether there may be another token after its next, whatever that is."""
        return len(self.ids) + 1 < ending.max_new_tokens and len(self) + 1 <= ending.n_ctx

    def _cut_at_stop(self, ending: Ending) -> bool:
        """Is a stop string complete? Then the text ends before the first, and of the ids those
        stay that lie before it whole.
        """
        token_bytes, size = ending.tokenizer.token_bytes, len(self.spelled)
        old = size - len(token_bytes(self.ids[-1]))  # up to here, there was none
        found = [self.spelled.find(s, max(0, old - len(s) + 1)) for s in ending.stop]
        at = min((i for i in found if i >= 0), default=None)
        if at is None:
            return False
        while size > at:
            size -= len(token_bytes(self.ids.pop()))
        del self.spelled[at:]
        return True

    def news(self, ending: Ending, is_last: bool) -> str:
        """What a listener has not been told of the text: whole characters, and nothing that may
        turn out to be the beginning of a stop string. All news together are the text.
        """
        end = len(self.spelled) if is_last else len(self.spelled) - self._held_back(ending.stop)
        new = self._utf8.decode(self.spelled[self._n_told : end], final=is_last)
        self._n_told = end
        return new

    def _held_back(self, stop: tuple[bytes, ...]) -> int:
        begun = (n for s in stop for n in range(1, len(s)) if self.spelled.endswith(s[:n]))
        return max(begun, default=0)

    def result(self, reason: str, ending: Ending) -> Generated:
        note = ""
        if reason == "context":
            answer = f" and its answer {len(self.ids):,}" if self.ids else ""
            note = (
                f"the prompt has {len(self.prompt):,} tokens{answer}, "
                f"and the model sees {ending.n_ctx:,} at once"
            )
        text = self.spelled.decode(errors="replace") if ending.tokenizer is not None else None
        # There may be more log-probabilities than ids: the end token's, those of what was cut off.
        logprobs = self.logprobs[: len(self.ids)] if ending.logprobs else None
        of = self.reference_nats
        return Generated(self.ids, reason, len(self.prompt), text, logprobs, note, of)


def checked_rows(
    prompts: Sequence[Sequence[int]],
    seed: int,
    numbers: Sequence[int] | None,
    references: Sequence[Sequence[int] | None] | None,
    config: GPTConfig,
) -> list[Row]:
    """numbers: by which rows draw; None: their places."""
    check("seed", seed, Integral, lambda n: n >= 0, "a whole number from 0 up")
    numbers = range(len(prompts)) if numbers is None else numbers
    references = [None] * len(prompts) if references is None else references
    rows = []
    for i, (prompt, number, reference) in enumerate(zip(prompts, numbers, references, strict=True)):
        ids = checked_prompt(prompt, i, config.vocab_size)
        beside = reference_that_fits(prompt, reference, config.n_ctx)
        rows.append(Row(i, ids, Draws(seed, number), beside))
    return rows


def checked_prompt(prompt: Sequence[int], i: int, V: int) -> list[int]:
    ids = prompt.tolist() if hasattr(prompt, "tolist") else prompt  # of torch or numpy
    if not isinstance(ids, Sequence) or isinstance(ids, str):
        raise GenerateError(f"prompt {i} must be a list of ids, not {prompt!r:.60}")
    if not len(ids):
        raise GenerateError(f"prompt {i} is empty: the end token's id alone begins a new text")
    for id in ids:
        check(f"prompt {i}: an id", id, Integral, lambda id: 0 <= id < V, f"from 0 to {V - 1}")
    return list(map(int, ids))


def reference_that_fits(
    prompt: Sequence[int], reference: Sequence[int] | None, n_ctx: int
) -> list[int]:
    """As a list of ids; empty where there is none, or the model could not see it whole."""
    ids = list(reference or ())
    return ids if len(prompt) + len(ids) - 1 <= n_ctx else []


def checked_ending(
    config: GPTConfig,
    max_new_tokens: int,
    end_id: int | None,
    tokenizer: Tokenizer | None,
    stop: str | Sequence[str] | None,
    logprobs: bool,
) -> Ending:
    """end_id: None for the one that the model's config names, if any."""
    if end_id is not None:
        one_of = f"below the model's vocab_size ({config.vocab_size}), or -1 for none"
        check("end_id", end_id, Integral, lambda id: -1 <= id < config.vocab_size, one_of)
    check("max_new_tokens", max_new_tokens, Integral, lambda n: n >= 0, "a whole number from 0 up")
    end_id = config.end_id if end_id is None else end_id
    stops = checked_stop(stop, tokenizer)
    return Ending(int(max_new_tokens), config.n_ctx, end_id, tokenizer, stops, logprobs)


def checked_stop(
    stop: str | Sequence[str] | None, tokenizer: Tokenizer | None
) -> tuple[bytes, ...]:
    strings = [stop] if isinstance(stop, str) else list(stop or ())
    for one in strings:
        check("stop", one, str, lambda text: text != "", "a text, or several, none of them empty")
    if strings and tokenizer is None:
        raise GenerateError("stop needs a tokenizer: only that knows what ids spell")
    return tuple(one.encode(errors="replace") for one in strings)
