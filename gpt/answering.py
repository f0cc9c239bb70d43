"""Test records in, answers out: the tuned model's and its base's, kept one by one as they end.

    a run ─> its test records ─> prompts ─┬─> tuned ─┐
                                          └─> base  ─┴─> responses.jsonl ─> metrics.py, review.py

Both are asked the same, in the template that the one was tuned with. What is answered is on the
disk at once, and a run that was stopped or killed goes on from there: see responses.py. Whether an
answer is drawn or always the likeliest, it is the one that an uninterrupted run would have given.

While a model is at it, it reads the references, too: how surprised it is by the right answers is
told beside its own, and becomes the perplexity of the report.

Several ranks (parallel.py) answer every nth row each, and the first of them writes.

Two small models take turns, some rows at a time. Two that are large are never in memory at once:
the base is loaded when the tuned one has answered all.

    python -m gpt.answering     # two records, a stop in the middle, and what goes on from there
    python scripts/respond.py --model checkpoints/gpt2-mine
"""

import contextlib
import hashlib
import io
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from gpt.adapter_config import read_adapter
from gpt.adapters import base_folder, template_folder
from gpt.cli import run
from gpt.config import GPTConfig
from gpt.counting import Counting
from gpt.download import find_model
from gpt.generate import Generated, generate
from gpt.hardware import choose_precision, features_of, find_device, is_out_of_memory
from gpt.held_back import base_of, run_of, test_records
from gpt.hub import DownloadError
from gpt.model import GPT
from gpt.parallel import ALONE, Ranks
from gpt.records import Record, Turn
from gpt.responses import (
    SIDES,
    Answer,
    AnsweringError,
    Responses,
    prompt_turns,
    reference_of,
    row_of,
)
from gpt.speaking import Controls, Speaker, load_speaker
from gpt.stopping import StopRequested, StopRequests
from gpt.template import Template, template_of
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from gpt.weights import is_adapter, save_model

__all__ = ["answer_test", "base_of", "run_of", "test_records"]

TOGETHER = 2 * 2**30  # bytes of two models' weights up to which both stay in memory
_ROWS = {"cpu": 32}  # answered by one model before the other's turn; 256 on other devices


def prompts_of(speaker: Speaker, records: Sequence[Record]) -> list[list[int]]:
    template, tokenizer = speaker.template, speaker.tokenizer
    return [template.prompt_ids(tokenizer, prompt_turns(record)) for record in records]


def references_of(speaker: Speaker, records: Sequence[Record]) -> list[list[int] | None]:
    """The right answers with their ends, as ids; None where a record has none."""
    tokenizer, texts = speaker.tokenizer, map(reference_of, records)
    return [None if t is None else [*tokenizer.encode(t), tokenizer.end_id] for t in texts]


# ---- asking ---------------------------------------------------------------------------------


def answer_test(
    model: str | Path,
    records: Sequence[Record],
    out: Path,
    base: str | Path | None = None,
    controls: Controls | None = None,
    *,
    adapter: str | Path | None = None,
    template: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    replace_other: bool = False,
    stop: StopRequests | None = None,
    say: Callable[[str], object] = print,
    ranks: Ranks = ALONE,
) -> list[dict]:
    """Answer the records into `out`, going on from what it has; the rows that it then holds.

    base: the model that answers beside it, in its own template or, as it mostly has none, the same.
    adapter: is put on the model; the base, which answers beside it, is always as it is.
    limit: only the first records; further ones that `out` has answered already stay in it.
    overwrite: begin anew. replace_other: only where what is there was made by something else.
    stop: where a request is noted, StopRequested is raised, with all on the disk that is finished.
    """
    controls, stop = controls or Controls(), stop or StopRequests(ranks)
    say = ranks.speaks(say)
    folders = {"response": find_model(adapter or model)}
    under = {"response": model if adapter else None}  # the base of an adapter, where it was given
    if base is not None:
        try:
            folders["base_response"] = find_model(base)
        except DownloadError as error:
            raise AnsweringError(f"{error}; --base none answers without it") from None
    asked_in = {side: template_folder(folder, under.get(side)) for side, folder in folders.items()}
    templates = {"response": template_of(asked_in["response"], template)}
    for side in folders:
        templates[side] = Template.load(asked_in[side]) or templates["response"]
    parts = {side: _parts_of(folder, under.get(side)) for side, folder in folders.items()}
    made_by = {
        **{f"{SIDES[side]} model": " on ".join(map(fingerprint, parts[side])) for side in folders},
        **{f"{SIDES[side]} template": words.hash for side, words in templates.items()},
        **{k: v for k, v in asdict(controls).items() if k != "lookup"},  # which changes no answer
        "precision": precision,
    }
    made_by.setdefault("base model", None)
    speakers = _Speakers(parts, under, templates, device, precision, say)
    rows = [row_of(record, list(folders)) for record in records]
    responses = Responses(out, rows, list(folders), limit)
    if ranks.is_first:
        responses.begin(made_by, overwrite, replace_other)
    known = responses.n, responses.n_whole, set(responses.answers)
    n, n_whole, answered = ranks.told(known)
    if not ranks.is_first:
        responses.begin_beside(ranks.rank, made_by, n)
    missing = [
        (i, side) for side in folders for i in range(n_whole, n) if (i, side) not in answered
    ]
    if responses.n_whole:
        say(f"{out}: has {responses.n_whole:,} of {len(rows):,} rows already")
    counting = partial(Counting, responses.n * len(folders), responses.n_answers)
    with ranks.only_first(counting) as count:
        _answer(speakers, records, responses, missing, controls, batch_size, stop, count, ranks)
    if ranks.is_first:
        responses.end()
    return rows[: responses.n]


def _answer(
    speakers: "_Speakers",
    records: Sequence[Record],
    responses: Responses,
    missing: Sequence[tuple[int, str]],
    controls: Controls,
    batch_size: int | None,
    stop: StopRequests,
    count: Counting,
    ranks: Ranks,
) -> None:
    size = ranks.n * max(speakers.rows_at_once, batch_size or 1)
    first = min((i for i, _ in missing), default=responses.n)

    def look() -> None:
        ranks.goes_on()
        (stop.check if ranks.n == 1 else stop.check_here)()

    for start in range(first, responses.n, size):
        for side in responses.sides:
            chunk = [i for i, of in missing if of == side and start <= i < start + size]
            if not chunk:
                continue
            stop.check()
            own = chunk[ranks.rank :: ranks.n]

            def keep(i: int, answer: Answer, side=side) -> None:
                responses.add(i, side, answer)
                count(responses.n_answers)

            settings = controls.for_generate() | {"batch_size": batch_size}
            settings |= {"row_numbers": own, "on_text": lambda place, piece: look()}
            try:
                if own:
                    _ask(speakers.get(side, count.leave_out), records, settings, keep)  # see below
            except StopRequested:
                if ranks.n == 1:
                    raise
            for of_rank in ranks.collect(responses.handed_over()):
                for i, of_side, answer in of_rank:
                    keep(i, answer, of_side)
            if ranks.n > 1:
                stop.check()


def _ask(
    speaker: Speaker,
    records: Sequence[Record],
    settings: dict,
    keep: Callable[[int, Answer], object],
) -> None:
    """Have these rows answered. (Nothing that outlives this call may hold the model.)"""
    tokenizer, places = speaker.tokenizer, settings["row_numbers"]
    asked = [records[i] for i in places]
    prompts, references = prompts_of(speaker, asked), references_of(speaker, asked)

    def on_finished(place: int, answer: Generated) -> None:
        told = answer.text, answer.finish_reason, len(answer.ids), answer.note
        nats = answer.reference_nats
        if nats is not None and math.isfinite(nats):  # JSON has no other numbers
            # Further digits depend on which rows shared a pass, and so on where a run was stopped.
            told += round(nats, 2), len(references[place])
        keep(places[place], Answer(*told))

    settings = settings | {"on_finished": on_finished, "references": references}
    try:
        generate(speaker.model, prompts, end_id=tokenizer.end_id, tokenizer=tokenizer, **settings)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise AnsweringError(
            "out of memory: give a smaller --batch-size (or --precision bf16); what is answered is "
            "kept, and the same command goes on from it"
        ) from None


class _Speakers:
    """The models, loaded when they are first asked; two large ones never at once."""

    def __init__(
        self,
        parts: dict[str, list[Path]],
        under: dict[str, str | Path | None],
        templates: dict[str, Template],
        device: str,
        precision: str,
        say: Callable[[str], object],
    ) -> None:
        self._folders, self._under = {side: of[0] for side, of in parts.items()}, under
        self._templates, self._say = templates, say
        self._device, self._precision = find_device(device), precision
        choose_precision(precision, features_of(self._device))  # refused now, or never
        files = [path for of in parts.values() for folder in of for path in _weights_in(folder)]
        n_bytes = sum(path.stat().st_size for path in files)
        self._keeps_both = n_bytes <= TOGETHER
        self._loaded: dict[str, Speaker] = {}

    @property
    def rows_at_once(self) -> int:
        if len(self._folders) > 1 and not self._keeps_both:
            return sys.maxsize
        return _ROWS.get(self._device.type, 256)

    def get(self, side: str, took: Callable[[float], object]) -> Speaker:
        """took: is told the seconds that loading it took."""
        if side not in self._loaded:
            began = time.monotonic()
            if not self._keeps_both:
                self._loaded.clear()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            folder, base = self._folders[side], self._under.get(side)
            adapter = folder if base else None
            device = str(self._device)
            speaker = load_speaker(base or folder, None, device, self._precision, adapter)
            speaker.template = self._templates[side]
            self._say(f"{SIDES[side]}: {speaker.introduction()}")
            self._loaded[side] = speaker
            took(time.monotonic() - began)
        return self._loaded[side]


def _parts_of(folder: Path, base: str | Path | None) -> list[Path]:
    """The folders that a model's weights are in: its own, and of an adapter its base's."""
    return [folder, base_folder(folder, base)] if is_adapter(folder) else [folder]


def _weights_in(folder: Path) -> list[Path]:
    names = ("*.safetensors", "model.ckpt.data*")
    return sorted(path for name in names for path in folder.glob(name))


def fingerprint(folder: Path) -> str:
    """Tells a model's weights from others: of each file, 64 stretches. (Training changes all.)"""
    digest = hashlib.sha256()
    if is_adapter(folder):  # whose scale is as much a part of it as its weights
        digest.update(repr(read_adapter(folder)[0]).encode())
    for path in _weights_in(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for i in range(64):
                file.seek(size * i // 64)
                digest.update(file.read(1 << 16))
    return digest.hexdigest()[:16]


def _demo() -> None:
    torch.set_num_threads(1)  # so small a model gains nothing by more, and would wait for them
    vocabulary = tiny_vocabulary(learn_merges("Bot: The capital of Peru, of Chad, of Cuba", 40))
    tokenizer = Tokenizer(vocabulary)
    template = Template("demo", "{instruction}", "\nBot:\n")
    records = [
        Record((Turn("user", f"The capital of {land}"), Turn("assistant", city)), "demo", i, {})
        for i, (land, city) in enumerate((("Peru", "Lima"), ("Chad", "N'Djamena")), 1)
    ]
    with TemporaryDirectory() as folder:
        for seed, name in enumerate(("base", "tuned")):
            torch.manual_seed(seed)
            model = GPT(GPTConfig(tokenizer.n_vocab, 64, n_layer=1, n_head=2, n_embd=16))
            model.vocabulary = template.add_to(vocabulary) if name == "tuned" else vocabulary
            save_model(model, Path(folder, name))

        def answer(name: str, stop: StopRequests) -> bytes:
            out = Path(folder, name)
            controls, base = Controls(max_new_tokens=6, temperature=1.0), Path(folder, "base")
            with contextlib.suppress(StopRequested), contextlib.redirect_stderr(io.StringIO()):
                answer_test(Path(folder, "tuned"), records, out, base, controls, stop=stop,
                            say=lambda line: None, device="cpu")  # fmt: skip
            journal = out.with_suffix(".journal").read_bytes().splitlines()[1:]
            n_rows = len(out.read_bytes().splitlines()) if out.exists() else 0
            print(
                f"  {n_rows} of {len(records)} rows written, and {len(journal)} answers of others"
            )
            return out.read_bytes() if out.exists() else b""

        class AfterSome(StopRequests):
            n_left = 16

            def check(self) -> None:
                self.n_left -= 1
                if self.n_left < 0:
                    raise StopRequested

        print("Two models that have learnt nothing answer two records. Stopped in the middle:")
        answer("one.jsonl", AfterSome())
        print("and begun again:")
        resumed = answer("one.jsonl", StopRequests())
        print("Never stopped:")
        same = answer("other.jsonl", StopRequests()) == resumed
        print(f"The same file, byte for byte: {same}")


if __name__ == "__main__":
    run(_demo)
