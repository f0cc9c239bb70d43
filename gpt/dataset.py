"""Everything that a run reads, ready to be asked for batches; and what it says about it.

    --data ─> records ─> train / validation / test ─> template + tokenizer ─> InstructionSet
           └> plain text, with --objective pretrain ──────────────────────> pretraining.Rows

`train.py` asks three things of either: `lengths` (for the order), `batch(indices)` (for a step) and
how many tokens of it are supervised. What would train on something else than was meant ends here:
faulty records, records that do not fit, ids that the model has no row for, an empty validation set.

The fingerprint covers all ids, which of them are supervised, and who is on which side. A run is
resumed on the same data or not at all.
"""

import hashlib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from gpt.batching import Batch, collate_weighted
from gpt.config import GPTConfig
from gpt.encoding import encode_all, report
from gpt.errors import UserError
from gpt.packing import pack
from gpt.pretraining import load_text
from gpt.records import DataError, Record, load_records, parse_fields
from gpt.segments import Examples
from gpt.settings import SettingsError, TrainSettings, flag
from gpt.splitting import SIDES, Split, overlaps, split_as_book, split_by_prompt
from gpt.template import Template
from gpt.textfile import brief
from gpt.tokenizer import Tokenizer


class Batches(Protocol):
    """What the loop needs of data, instructions or plain text."""

    @property
    def lengths(self) -> np.ndarray: ...

    def n_supervised(self, indices: np.ndarray) -> int: ...

    def batch(self, indices: Sequence[int]) -> Batch: ...


@dataclass
class InstructionSet:
    examples: Examples
    pad_id: int
    prompt_loss_weight: float = 0.0
    row_length: int | None = None  # of packed rows; None: padded to the longest

    @property
    def lengths(self) -> np.ndarray:
        return self.examples.lengths

    def n_supervised(self, indices: np.ndarray) -> int:
        """Tokens in the loss: of the answers and an end for each; or all but the first, and the
        end, where prompts are in it, too.
        """
        if self.prompt_loss_weight > 0:
            return int(self.lengths[indices].sum())
        parts = [self.examples[i].supervised for i in indices]
        return sum(int(of_each.sum()) for of_each in parts) + len(indices)

    def batch(self, indices: Sequence[int]) -> Batch:
        examples = [self.examples[i] for i in indices]
        pairs = [(example.ids, example.supervised) for example in examples]
        if self.row_length is None:
            return collate_weighted(pairs, self.pad_id, self.prompt_loss_weight)
        n_tokens = sum(len(ids) for ids, _ in pairs)
        return pack(pairs, self.pad_id, min(self.row_length, n_tokens), self.prompt_loss_weight)


class Sample(NamedTuple):
    """A validation prompt that is answered now and then, for a person to watch."""

    shown: str  # what was asked
    ids: list[int]
    reference: str


@dataclass
class Data:
    train: Batches
    validation: Batches
    fingerprint: str
    samples: list[Sample]
    lines: list[str]  # for a person
    test: list[Record] = field(default_factory=list)
    records: Split | None = None  # of instructions: where each example came from


def load_data(
    settings: TrainSettings,
    tokenizer: Tokenizer,
    template: Template,
    config: GPTConfig,
    given: Container[str] = (),
) -> Data:
    """given: settings that were set by hand, and are refused where the data leaves them no say."""
    lines: list[str] = []
    refuse_other_vocabulary(tokenizer, config)
    length = settings.max_length or config.n_ctx
    if length > config.n_ctx:
        raise DataError(
            f"--max-length {length} is more than this model's context of {config.n_ctx} tokens"
        )
    if settings.objective == "pretrain":
        data = _load_text(settings, tokenizer, length, lines.append)
    else:
        data = _load_instructions(settings, tokenizer, template, length, given, lines.append)
    data.lines = lines
    return data


def refuse_other_vocabulary(tokenizer: Tokenizer, config: GPTConfig) -> None:
    if tokenizer.n_vocab > config.vocab_size:
        raise DataError(
            f"the vocabulary has {tokenizer.n_vocab:,} tokens, and the model has rows for "
            f"{config.vocab_size:,}: they do not belong together"
        )


def _load_text(
    settings: TrainSettings, tokenizer: Tokenizer, length: int, say: Callable[[str], object]
) -> Data:
    paths = [Path(path) for path in settings.data]
    for path in paths:
        if path.suffix.lower() in (".json", ".jsonl", ".csv", ".tsv"):
            raise SettingsError(f"--data {path}: holds records; --objective pretrain reads text")
    train, validation = load_text(paths, tokenizer, length, settings.val_fraction, say)
    n_shown = max(1, min(12, length // 2))
    samples = []
    for row in validation.ids[:: max(1, len(validation.ids) // max(1, settings.samples))]:
        ids = row.tolist()
        shown = tokenizer.decode(ids[:n_shown])
        samples.append(Sample(shown, ids[:n_shown], tokenizer.decode(ids[n_shown:])))
    fingerprint = _hash(train.ids, validation.ids)
    return Data(train, validation, fingerprint, samples[: settings.samples], [])


def _load_instructions(
    settings: TrainSettings,
    tokenizer: Tokenizer,
    template: Template,
    length: int,
    given: Container[str],
    say: Callable[[str], object],
) -> Data:
    split = read_split(settings, say, given)
    sides = {}
    for side in ("train", "validation"):
        records = getattr(split, side)
        examples = encode_all(records, tokenizer, template, length, settings.overlong)
        for line in report(examples, length):
            say(f"{side}: {line}")
        if records and not len(examples):
            raise DataError(f"{side}: all {len(records):,} records have more than {length} tokens")
        if not records:
            raise DataError(
                f"{side} has no examples: give more data, or a larger --val-fraction"
                if side == "validation"
                else "nothing is left to train on"
            )
        row_length = length if settings.packed else None
        sides[side] = InstructionSet(
            examples, tokenizer.end_id, settings.prompt_loss_weight, row_length
        )
    train, validation = sides["train"], sides["validation"]
    n_tokens = int(train.lengths.sum())
    n_learnt = train.n_supervised(np.arange(len(train.examples)))
    say(
        f"train {len(train.examples):,}, validation {len(validation.examples):,}, test "
        f"{len(split.test):,} records"
    )
    say(
        f"to train on: {n_tokens:,} tokens, mean {train.lengths.mean():.1f}, max "
        f"{train.lengths.max():,}; {n_learnt:,} in the loss "
        f"({n_learnt / (n_tokens + len(train.examples)):.1%} with the ends)"
    )
    parts = [a for s in (train, validation) for a in (s.examples.ids, s.examples.starts)]
    supervised = [s.examples.parts for s in (train, validation)]
    return Data(
        train,
        validation,
        _hash(*parts, *supervised),
        [_sample(split.validation[validation.examples.records[i]], tokenizer, template)
         for i in range(min(settings.samples, len(validation.examples)))],
        [],
        split.test,
        split,
    )  # fmt: skip


def _sample(record: Record, tokenizer: Tokenizer, template: Template) -> Sample:
    *turns, answer = record.turns
    asked = turns[-1]
    shown = asked.text + (f"\n{asked.input}" if asked.input else "")
    return Sample(shown, template.prompt_ids(tokenizer, turns), answer.text)


def read_split(
    settings: TrainSettings, say: Callable[[str], object], given: Container[str] = ()
) -> Split:
    """The records of each side: as the data says, where it does, and else as the settings do."""
    fields = parse_fields(settings.fields) if settings.fields else None
    files = _prepared_files(settings.data)
    if files:
        _refuse_idle(given, f"{settings.data[0]} is split already")
        say(f"{settings.data[0]}: split by prepare.py")
        split = Split(*(load_records([path], fields, settings.skip_bad) if path else []
                        for path in files))  # fmt: skip
        if not split.validation:
            raise DataError(
                f"{settings.data[0]}: no validation.json in it: give prepare.py a --val-fraction"
            )
    else:
        records = load_records(settings.data, fields, settings.skip_bad)
        if _are_marked(records, say):
            _refuse_idle(given, "each record says in its `split` which side it is on")
            split = Split(*([r for r in records if r.extra["split"] == side] for side in SIDES))
        elif settings.split == "book":
            split = split_as_book(records)
        else:
            split = split_by_prompt(records, settings.val_fraction, settings.test_fraction)
    if leaks := overlaps(split):
        say(f"{len(leaks)} prompts stand on two sides, {leaks[0]} first: their loss is recall")
    return split


def _refuse_idle(given: Container[str], why: str) -> None:
    for name in ("split", "val_fraction", "test_fraction"):
        if name in given:
            raise SettingsError(f"{flag(name)} would be ignored: {why}")


def _are_marked(records: Sequence[Record], say: Callable[[str], object]) -> bool:
    """Whether each record says in its `split` which side it is on. If only some do, none can be
    trusted: where the others belong, a test record may be among them.
    """
    marks = [record.extra.get("split") for record in records]
    strange = next((i for i, mark in enumerate(marks) if mark not in SIDES), None)
    if strange is None:
        say("each record says in its `split` which side it is on")
        if "validation" not in marks:
            raise DataError(
                f"{records[0].file}: no record's `split` is validation: mark some, or take the key "
                "away from all"
            )
    elif any(mark in SIDES for mark in marks):
        raise DataError(
            f"{records[strange].where}: `split` is {brief(marks[strange])}, where others have "
            "train, validation or test: give it to all records, or to none"
        )
    elif found := [mark for mark in marks if mark is not None]:
        say(f"`split` says nothing that is known here ({brief(found[0])}), and is not used")
    return strange is None


def _prepared_files(data: Sequence[str]) -> list[Path | None] | None:
    """The three files of a folder that prepare.py made."""
    folder = Path(data[0])
    if not folder.is_dir():
        return None
    if len(data) > 1:
        raise UserError(f"--data {folder}: a folder of prepare.py's stands alone")
    files = [folder / f"{side}.json" for side in SIDES]
    if not files[0].is_file():
        raise UserError(f"--data {folder}: no train.json in it, so prepare.py did not make it")
    return [path if path.is_file() else None for path in files]


def _hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(f"{values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()[:16]
