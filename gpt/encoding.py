"""A whole data set through a template: flat arrays, and a word on every record that is too long.

    records ─> template.segments ─> Encoder ─> Examples ─> ordering, batching

A model sees `n_ctx` tokens at once. An example fits if its ids, prompt and answer, are no more than
that: the end token after the last answer is only ever a target, never read, and needs no place.
What to do with a record that does not fit is for a person to say, and nothing is cut in silence:

    error            refuse, and name each of them (the default)
    drop             leave them out, and count them
    truncate-input   shorten their `input` from its end until they fit. The instruction and the
                     answer are never touched, for a model that learns cut answers learns to stop
                     in the middle of a sentence. What still does not fit is refused.

    python -m gpt.encoding      # three records, 24 places, and the three ways
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from tqdm import tqdm

from gpt.cli import run
from gpt.errors import UserError
from gpt.records import Record, Turn
from gpt.segments import Encoder, Examples, Overlong
from gpt.template import Template
from gpt.tokenizer import Tokenizer, tiny_vocabulary

OVERLONG = ("error", "drop", "truncate-input")
_LISTED = 20  # over-long records named one by one in an error; the rest are counted


class OverlongError(UserError):
    """Records that the model could not see whole, and nobody has said what to do with."""


def encode_all(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    template: Template,
    max_length: int,
    overlong: str = "error",
) -> Examples:
    """Every record as an example of at most `max_length` ids, in the order of the records."""
    if overlong not in OVERLONG:
        raise ValueError(f"overlong is {overlong!r}, and must be one of {OVERLONG}")
    encoder = Encoder(tokenizer, template.constants)
    starts, kept = array("q", [0]), array("q")
    dropped, shortened = [], []
    for i, record in enumerate(tqdm(records, "tokenizing", unit=" records", delay=2, disable=None)):
        n_tokens = encoder.add(template.segments(record.turns)[:-1])
        if n_tokens > max_length:
            found = Overlong(record.where, n_tokens, n_tokens - encoder.n_last_answer)
            encoder.undo()
            turns = None
            if overlong == "truncate-input":
                turns = _shorten_input(record.turns, tokenizer, template, max_length)
            if turns is None:
                dropped.append(found)
                continue
            shortened.append(found)
            encoder.add(template.segments(turns)[:-1])
        starts.append(len(encoder.ids))
        kept.append(i)
    if dropped and overlong != "drop":
        raise OverlongError(_complaint(dropped, len(records), max_length, overlong))
    ids, parts = encoder.arrays()
    return Examples(ids, parts, np.asarray(starts), np.asarray(kept), dropped, shortened)


def _shorten_input(
    turns: Sequence[Turn], tokenizer: Tokenizer, template: Template, max_length: int
) -> list[Turn] | None:
    """The turns with the longest input cut from its end; None if that leaves nothing of it.

    (An instruction whose input is gone asks about nothing.) Tokens are taken off and counted
    again, as what is left of a word, or of a character, may have other tokens than it had.
    """
    turns = list(turns)
    at = max(range(len(turns)), key=lambda i: len(turns[i].input))
    ids = tokenizer.encode(turns[at].input)
    while (excess := _length(turns, tokenizer, template) - max_length) > 0:
        ids = ids[: max(0, len(ids) - excess)]
        text = b"".join(map(tokenizer.token_bytes, ids)).decode(errors="ignore")
        if not text.strip():  # blanks alone are no input
            return None
        turns[at] = turns[at]._replace(input=text)
    return turns


def _length(turns: Sequence[Turn], tokenizer: Tokenizer, template: Template) -> int:
    return Encoder(tokenizer).add(template.segments(turns)[:-1])


# ---- what is said about them ----------------------------------------------------------------


def describe(overlong: Overlong, max_length: int) -> str:
    fills = f", {overlong.n_prompt} of them the prompt: no room for an answer"
    alone = fills if overlong.n_prompt >= max_length else ""
    return f"{overlong.where}: {overlong.n_tokens} tokens{alone}"


def listed(overlong: Iterable[Overlong], max_length: int, at_most: int = _LISTED) -> list[str]:
    overlong = list(overlong)
    lines = [f"  {describe(one, max_length)}" for one in islice(overlong, at_most)]
    more = len(overlong) - len(lines)
    return [*lines, f"  … and {more:,} more"] if more else lines


def report(examples: Examples, max_length: int) -> list[str]:
    """Lines for a person: what was left out or shortened, which, and how large a share."""
    lines = []
    n_records = len(examples) + len(examples.dropped)
    for what, which in (("left out", examples.dropped), ("shortened", examples.shortened)):
        if which:
            share = f"{len(which):,} of {n_records:,} records ({len(which) / n_records:.1%})"
            lines.append(f"{what}: {share} with more than {max_length} tokens")
            lines += listed(which, max_length)
    return lines


def _complaint(found: list[Overlong], n_records: int, max_length: int, policy: str) -> str:
    tried = " even with the input shortened" if policy == "truncate-input" else ""
    ways = "--overlong drop leaves them out"
    if policy == "error":
        ways += ", --overlong truncate-input shortens their input"
    return "\n".join(
        (
            f"{len(found):,} of {n_records:,} records do not fit into {max_length} tokens{tried}:",
            *listed(found, max_length),
            f"{ways}; a shorter --template, or a model that sees more tokens, may fit them",
        )
    )


def _demo() -> None:
    template = Template("demo", "{instruction}", "\n#\n", input=" {input}")
    tokenizer = Tokenizer(tiny_vocabulary([]))  # no merges: a token is a byte
    rows = (("Say", "hi", "hi"), ("Upper case:", "abcdefgh", "ABCDEFGH"), ("Copy", "x", "x" * 20))
    records = [
        Record((Turn("user", instruction, input), Turn("assistant", answer)), "demo.json", i, {})
        for i, (instruction, input, answer) in enumerate(rows, 1)
    ]
    for policy, some in (("error", records), ("drop", records), ("truncate-input", records[:2])):
        print(f"--overlong {policy}")
        try:
            examples = encode_all(some, tokenizer, template, max_length=24, overlong=policy)
            for ids, _ in examples:
                print(f"  {len(ids)} tokens: {tokenizer.decode(ids.tolist())!r}")
            for line in report(examples, 24):
                print(f"  {line}")
        except OverlongError as error:
            print(f"  error: {str(error).replace(chr(10), chr(10) + '  ')}")


if __name__ == "__main__":
    run(_demo)
