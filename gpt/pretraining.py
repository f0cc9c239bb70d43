"""Plain text to learn a language from: documents, end to end, cut into rows of equal length.

    text files ─> documents ─> ids, with an end token after each ─> rows of T + 1 ─> batches

A base model is made by the loop that tunes it later; only what it reads differs. Every token is
supervised, and no row has padding: the documents are laid one after another, and a row begins and
ends where it happens to. It may so begin in the middle of a document, and look back over an end
into the one before. GPT-2 was trained like that. It learns that an end means: forget.

A line that holds nothing but <|endoftext|> ends a document in a file, and the file's end does, too.
That line alone is read so. Anywhere else the same characters are ordinary text.

    python -m gpt.pretraining   # three documents in rows of 8
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from gpt.batching import Batch, show
from gpt.cli import run
from gpt.errors import UserError
from gpt.textfile import Text, Unreadable, bytes_of
from gpt.tokenizer import END, Tokenizer, tiny_vocabulary


class TextError(UserError):
    """A file that is no text, or too little of it."""


@dataclass
class Rows:
    """What `train.py` asks of data: how long each example is, and batches of them."""

    ids: np.ndarray  # (N, T + 1) int32; a row's last id is the first of the next

    @property
    def lengths(self) -> np.ndarray:
        return np.full(len(self.ids), self.ids.shape[1] - 1)

    def n_supervised(self, indices: np.ndarray) -> int:
        return len(indices) * (self.ids.shape[1] - 1)

    def batch(self, indices: Sequence[int]) -> Batch:
        rows = torch.from_numpy(self.ids[np.asarray(indices)].astype(np.int64))  # (B, T + 1)
        inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        return Batch(inputs, targets, torch.ones(targets.shape))


def documents(path: Path) -> Iterator[str]:
    """The documents of a text file, gzipped or not. Blank ones are none."""
    path, lines = Path(path), []
    try:
        with path.open("rb") as file:
            for line in _lines(Text(bytes_of(file))):
                if line != END:
                    lines.append(line)
                    continue
                if text := "\n".join(lines).strip():
                    yield text
                lines = []
        if text := "\n".join(lines).strip():
            yield text
    except (OSError, Unreadable) as error:
        raise TextError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _lines(text: Text) -> Iterator[str]:
    """A file's lines without their ends; Unreadable where there is no telling what they say."""
    while text.at < len(text.window) or text.more():
        place = text.line_end()
        if place is None:
            raise Unreadable(f"line {text.line_at(text.at)} has no end: is this a text file?")
        end, after = place
        if fault := text.bad_byte(text.at, end):
            raise Unreadable(fault)
        yield text.window[text.at : end]
        text.at = after
    if text.broken:
        raise Unreadable(text.broken)


def encode_documents(texts: Iterable[str], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """All ids end to end, each document with its end token; and where each document begins."""
    ids, starts = array("i"), array("q", [0])
    bar = tqdm(texts, "tokenizing", unit=" documents", delay=2, disable=None)
    for text in bar:
        ids.extend(tokenizer.encode(text))
        ids.append(tokenizer.end_id)
        starts.append(len(ids))
    return np.array(ids, np.int32), np.array(starts, np.int64)


def split_and_cut(
    ids: np.ndarray, starts: np.ndarray, length: int, val_fraction: float
) -> tuple[Rows, Rows]:
    """Rows to train on and rows to validate with, from different documents.

    Which document is held out depends on its number alone. A single document is cut in two. Of
    several, each side has one at least, unless the fraction is 0.
    """
    n = len(starts) - 1
    if n == 1:
        at = round(len(ids) * (1 - val_fraction))
        return cut(ids[:at], length), cut(ids[at:], length)
    order = np.argsort(np.random.PCG64(0).random_raw(n), kind="stable")
    held_out = np.zeros(n, bool)
    held_out[order[: min(max(val_fraction > 0, round(n * val_fraction)), n - 1)]] = True
    of_token = np.repeat(held_out, np.diff(starts))
    return cut(ids[~of_token], length), cut(ids[of_token], length)


def cut(ids: np.ndarray, length: int) -> Rows:
    """Rows that overlap by one id: the last target of one is the first input of the next."""
    n = max(0, (len(ids) - 1) // length)
    places = np.arange(n)[:, None] * length + np.arange(length + 1)
    return Rows(ids[places])


def load_text(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    length: int,
    val_fraction: float,
    say: Callable[[str], object] = lambda line: None,
) -> tuple[Rows, Rows]:
    ids, starts = encode_documents((text for path in paths for text in documents(path)), tokenizer)
    n = len(starts) - 1
    names = ", ".join(map(str, paths))
    say(f"{names}: {n:,} document{'s' * (n != 1)}, {len(ids):,} tokens with an end after each")
    train, validation = split_and_cut(ids, starts, length, val_fraction) if n else (Rows(
        np.empty((0, length + 1), np.int32)),) * 2  # fmt: skip
    if not len(train.ids) or not len(validation.ids):
        what = "validation" if len(train.ids) else "training"
        raise TextError(
            f"{names}: {len(ids):,} tokens leave {what} without one row of {length}: give more "
            "text, a shorter --max-length or another --val-fraction"
        )
    say(f"rows of {length}: {len(train.ids):,} to train on, {len(validation.ids):,} to validate")
    return train, validation


def _demo() -> None:
    tokenizer = Tokenizer(tiny_vocabulary([]))  # a token is a byte
    texts = ["a cat sat", "the end", "more of it"]
    ids, _ = encode_documents(texts, tokenizer)
    print(f"{len(texts)} documents, {len(ids)} tokens; E ends each, and learns to be one")
    rows = cut(ids, 8)
    batch = rows.batch(range(len(rows.ids)))
    for inputs, targets in zip(
        show(batch.inputs, tokenizer.end_id), show(batch.targets, tokenizer.end_id), strict=True
    ):
        print(f"  read {inputs}      learn {targets}")


if __name__ == "__main__":
    run(_demo)
