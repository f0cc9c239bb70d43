"""Test records in, answers out: the tuned model's and its base's, kept one by one as they end.

    a run ─> its test records ─> prompts ─┬─> tuned ─┐
                                          └─> base  ─┴─> responses.jsonl ─> metrics.py, review.py

Both are asked the same, in the template that the one was tuned with. What is answered is on the
disk at once, and a run that was stopped or killed goes on from there: see responses.py. Whether an
answer is drawn or always the likeliest, it is the one that an uninterrupted run would have given.

Two small models take turns, some rows at a time. Two that are large are never in memory at once:
the base is loaded when the tuned one has answered all.

    python -m gpt.answering     # two records, a stop in the middle, and what goes on from there
    python scripts/respond.py --model checkpoints/gpt2-mine
"""

import contextlib
import hashlib
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

import torch
from tqdm import tqdm

from gpt.cli import run
from gpt.config import GPTConfig, read_config
from gpt.dataset import load_data
from gpt.download import find_model
from gpt.generate import Generated, generate
from gpt.hardware import choose_precision, features_of, find_device, is_out_of_memory
from gpt.hub import DownloadError
from gpt.model import GPT
from gpt.records import Record, Turn
from gpt.responses import SIDES, Answer, AnsweringError, Responses, prompt_turns, row_of
from gpt.run_folder import RUN, RunFolderError, read
from gpt.settings import TrainSettings
from gpt.speaking import Controls, Speaker, load_speaker
from gpt.stopping import StopRequested, StopRequests
from gpt.template import Template, template_of
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from gpt.weights import save_model

TOGETHER = 2 * 2**30  # bytes of two models' weights up to which both stay in memory
_ROWS = {"cpu": 32}  # answered by one model before the other's turn; 256 on other devices


# ---- what is asked --------------------------------------------------------------------------


def run_of(name_or_folder: str | Path) -> Path | None:
    """The run's folder, given that or one of its models; None of what is no run's."""
    folder = Path(name_or_folder).expanduser()
    near = (folder, folder.parent) if folder.name in ("best", "last") else (folder,)
    return next((path for path in near if (path / RUN).is_file()), None)


def base_of(run_folder: Path) -> str | None:
    """The model that a run began with; None if it began with random weights."""
    settings = _settings_of(run_folder)
    return None if settings.from_scratch else settings.model


def test_records(run_folder: Path) -> list[Record]:
    """The records that the run has kept for the test, and not seen: of the data as it was then."""
    settings = _settings_of(run_folder)
    if settings.objective != "instruct":
        raise AnsweringError(f"{run_folder}: was tuned on plain text: give --data to ask it")
    told = read(run_folder)
    model = find_model(run_folder)
    config = read_config(model / "config.json")
    data = load_data(settings, Tokenizer.from_folder(model), template_of(model), config)
    if data.fingerprint != told["data"]["fingerprint"]:
        raise AnsweringError(
            f"{run_folder}: its data has changed since ({' '.join(settings.data)}): what is kept "
            "for the test now may have been trained on then; give --data with other records"
        )
    if not data.test:
        raise AnsweringError(f"{run_folder}: has kept no records for the test: give --data FILE")
    return data.test


def _settings_of(run_folder: Path) -> TrainSettings:
    try:
        return TrainSettings(**read(run_folder)["settings"])
    except TypeError as error:
        raise RunFolderError(f"{run_folder / RUN}: not this program's settings: {error}") from None


def prompts_of(speaker: Speaker, records: Sequence[Record]) -> list[list[int]]:
    template, tokenizer = speaker.template, speaker.tokenizer
    return [template.prompt_ids(tokenizer, prompt_turns(record)) for record in records]


# ---- asking ---------------------------------------------------------------------------------


def answer_test(
    model: str | Path,
    records: Sequence[Record],
    out: Path,
    base: str | Path | None = None,
    controls: Controls | None = None,
    *,
    template: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int | None = None,
    overwrite: bool = False,
    replace_other: bool = False,
    stop: StopRequests | None = None,
    say: Callable[[str], object] = print,
) -> list[dict]:
    """Answer the records into `out`, going on from what it has; the rows.

    base: the model that answers beside it, in its own template or, as it mostly has none, the same.
    overwrite: begin anew. replace_other: only where what is there was made by something else.
    stop: where a request is noted, StopRequested is raised, with all on the disk that is finished.
    """
    controls, stop = controls or Controls(), stop or StopRequests()
    folders = {"response": find_model(model)}
    if base is not None:
        try:
            folders["base_response"] = find_model(base)
        except DownloadError as error:
            raise AnsweringError(f"{error}; --base none answers without it") from None
    templates = {"response": template_of(folders["response"], template)}
    for side in folders:
        templates[side] = Template.load(folders[side]) or templates["response"]
    made_by = {
        **{f"{SIDES[side]} model": fingerprint(folder) for side, folder in folders.items()},
        **{f"{SIDES[side]} template": words.hash for side, words in templates.items()},
        **asdict(controls),
        "precision": precision,
    }
    made_by.setdefault("base model", None)
    speakers = _Speakers(folders, templates, device, precision, say)
    rows = [row_of(record, list(folders)) for record in records]
    responses = Responses(out, rows, list(folders))
    responses.begin(made_by, overwrite, replace_other)
    if responses.n_whole:
        say(f"{out}: has {responses.n_whole:,} of {len(rows):,} rows already")
    with _counting(len(rows) * len(folders), responses.n_answers) as count:
        _answer(speakers, records, responses, controls, batch_size, stop, count)
    responses.end()
    return rows


def _answer(
    speakers: "_Speakers",
    records: Sequence[Record],
    responses: Responses,
    controls: Controls,
    batch_size: int | None,
    stop: StopRequests,
    count: Callable[[int], object],
) -> None:
    first, size = responses.n_whole, max(speakers.rows_at_once, batch_size or 1)
    for start in range(first, len(records), size):
        for side in responses.sides:
            chunk = range(start, min(start + size, len(records)))
            missing = [i for i in chunk if (i, side) not in responses.answers]
            if not missing:
                continue
            stop.check()

            def keep(place: int, answer: Generated, side=side, missing=missing) -> None:
                kept = Answer(answer.text, answer.finish_reason, len(answer.ids), answer.note)
                responses.add(missing[place], side, kept)
                count(responses.n_answers)

            asked = [records[i] for i in missing]
            settings = controls.for_generate() | {"batch_size": batch_size, "on_finished": keep}
            settings |= {"row_numbers": missing, "on_text": lambda place, piece: stop.check()}
            _ask(speakers.get(side), asked, settings)  # it alone holds the model: see _Speakers


def _ask(speaker: Speaker, records: Sequence[Record], settings: dict) -> None:
    tokenizer = speaker.tokenizer
    prompts = prompts_of(speaker, records)
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
        folders: dict[str, Path],
        templates: dict[str, Template],
        device: str,
        precision: str,
        say: Callable[[str], object],
    ) -> None:
        self._folders, self._templates, self._say = folders, templates, say
        self._device, self._precision = find_device(device), precision
        choose_precision(precision, features_of(self._device))  # refused now, or never
        n_bytes = sum(path.stat().st_size for f in folders.values() for path in _weights_in(f))
        self._keeps_both = n_bytes <= TOGETHER
        self._loaded: dict[str, Speaker] = {}

    @property
    def rows_at_once(self) -> int:
        if len(self._folders) > 1 and not self._keeps_both:
            return sys.maxsize
        return _ROWS.get(self._device.type, 256)

    def get(self, side: str) -> Speaker:
        if side not in self._loaded:
            if not self._keeps_both:
                self._loaded.clear()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            folder = self._folders[side]
            speaker = load_speaker(folder, None, str(self._device), self._precision)
            speaker.template = self._templates[side]
            self._say(f"{SIDES[side]}: {speaker.introduction()}")
            self._loaded[side] = speaker
        return self._loaded[side]


def _weights_in(folder: Path) -> list[Path]:
    names = ("*.safetensors", "model.ckpt.data*")
    return sorted(path for name in names for path in folder.glob(name))


def fingerprint(folder: Path) -> str:
    """Tells a model's weights from others: of each file, 64 stretches. (Training changes all.)"""
    digest = hashlib.sha256()
    for path in _weights_in(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for i in range(64):
                file.seek(size * i // 64)
                digest.update(file.read(1 << 16))
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _counting(n: int, done: int, stream: TextIO | None = None) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal; in a file a line now and then. Both tell the time that is left."""
    stream = stream or sys.stderr
    bar = tqdm(
        total=n, initial=done, desc="answers", file=stream, disable=not stream.isatty(),
        dynamic_ncols=True, bar_format="{desc} {n_fmt}/{total_fmt} {bar:20} {remaining} left",
    )  # fmt: skip
    began = last = time.monotonic()

    def count(now_done: int) -> None:
        nonlocal last
        bar.update(now_done - bar.n)
        now = time.monotonic()
        if bar.disable and (now - last >= 10 or now_done == n):
            last = now
            left = (now - began) / max(1, now_done - done) * (n - now_done)
            told = f"answers {now_done:,}/{n:,}, {tqdm.format_interval(left)} left"
            print(told, file=stream, flush=True)

    try:
        yield count
    finally:
        bar.close()


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
