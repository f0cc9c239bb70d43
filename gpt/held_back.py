"""What a run has held back for its test: the records, and the model that they are asked beside.

    run.json ─> settings ─> the data, split as it was then ─> test records ─┐
                       └──> the model that the run began with ──────────────┴─> answering.py

A run's settings name data and base as they were given, mostly relative to the folder in which the
run was started, for folders move. So they are looked for here, then where the run was started (as
its own --out tells), then beside this program.
"""

from dataclasses import replace
from pathlib import Path

from gpt.adapters import config_of
from gpt.dataset import load_data
from gpt.download import find_model
from gpt.records import Record
from gpt.responses import AnsweringError
from gpt.run_folder import RUN, RunFolderError, read
from gpt.settings import TrainSettings, as_now
from gpt.template import template_of
from gpt.tokenizer import Tokenizer


def run_of(name_or_folder: str | Path) -> Path | None:
    """The run's folder, given that or one of its models; None of what is no run's."""
    folder = Path(name_or_folder).expanduser()
    near = (folder, folder.parent) if folder.name in ("best", "last") else (folder,)
    return next((path for path in near if (path / RUN).is_file()), None)


def base_of(run_folder: Path) -> str | None:
    """The model that a run began with; None if it began with random weights."""
    settings = _settings_of(run_folder)
    if settings.from_scratch:
        return None
    given = Path(settings.model)
    # A name of one word is mostly one on the hub, whatever folder has it, too.
    home = _home_of(given, run_folder, settings) if len(given.parts) > 1 else None
    return settings.model if home is None else str(home / given)


def test_records(run_folder: Path, base: str | Path | None = None) -> list[Record]:
    """The records that the run has kept for the test, and not seen: of the data as it was then.

    base: where the model is now that the run's adapter is for, if it was moved.
    """
    settings = _settings_of(run_folder)
    if settings.objective != "instruct":
        raise AnsweringError(f"{run_folder}: was tuned on plain text: give --data to ask it")
    told = read(run_folder)
    homes = {name: _home_of(Path(name), run_folder, settings) for name in settings.data}
    there = [str(home / name) if home else name for name, home in homes.items()]
    for path in there:
        if not Path(path).expanduser().exists():
            raise AnsweringError(
                f"{run_folder}: its data is not here: {path}, as run.json names it: run this where "
                "the run was trained, or give --data FILE"
            )
    model = find_model(run_folder)
    if base is None and settings.lora_rank:
        base = base_of(run_folder)
    tokenizer = Tokenizer.from_folder(model)
    settings = replace(settings, data=there)
    data = load_data(settings, tokenizer, template_of(model), config_of(model, base))
    if data.fingerprint != told["data"]["fingerprint"]:
        raise AnsweringError(
            f"{run_folder}: its data has changed since ({' '.join(settings.data)}): what is kept "
            "for the test now may have been trained on then; give --data with other records"
        )
    if not data.test:
        raise AnsweringError(f"{run_folder}: has kept no records for the test: give --data FILE")
    begin = tuple(f"{home}/" for home in homes.values() if home)
    return [_as_named(record, begin) for record in data.test]


def _settings_of(run_folder: Path) -> TrainSettings:
    try:
        return TrainSettings(**as_now(read(run_folder)["settings"]))
    except TypeError as error:
        raise RunFolderError(f"{run_folder / RUN}: not this program's settings: {error}") from None


def _home_of(path: Path, run_folder: Path, settings: TrainSettings) -> Path | None:
    """The folder that a run's path begins in; None: this one, or it is nowhere, or no path."""
    path = path.expanduser()
    if path.is_absolute() or path.exists():
        return None
    homes = [Path(__file__).resolve().parents[1]]
    out, folder = Path(settings.out or ""), run_folder.resolve()
    if out.parts and folder.parts[-len(out.parts) :] == out.parts:
        homes.insert(0, folder.parents[len(out.parts) - 1])
    return next((home for home in homes if (home / path).exists()), None)


def _as_named(record: Record, begin: tuple[str, ...]) -> Record:
    """With its file as the run names it, wherever that was found."""
    file = Path(record.file).as_posix()
    for home in begin:
        if file.startswith(Path(home).as_posix() + "/"):
            return replace(record, file=record.file[len(home) :])
    return record
