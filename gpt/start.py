"""From settings to a run that stands ready, new or resumed; everything checked, nothing trained.

    settings ─> folder ─> model ─> template, tokenizer ─> data ─> order, device, precision ─> Run
                  └─ run.json and last/, with --resume ─┘

What can be wrong is found here, before the first second of work is lost, and what was left to
choose is chosen here and said.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from gpt import run_folder
from gpt.adapters import AdapterError, adapt, base_of_name, fingerprint
from gpt.background import Writer, is_wanted
from gpt.checkpoint import State, load_last, n_bytes, refuse_too_small_a_disk, restore
from gpt.compiling import choose_compiling
from gpt.config import GPTConfig
from gpt.dataset import load_data
from gpt.download import find_model
from gpt.errors import UserError
from gpt.files import folder_to_read
from gpt.hardware import choose_precision, describe, features_of, find_device, keep_freed_memory
from gpt.learner import Learner
from gpt.lora import LoraConfig, LoraError, n_trained, savings
from gpt.metrics_file import NAME, MetricsFile
from gpt.model import GPT
from gpt.ordering import Order
from gpt.parallel import ALONE, Ranks
from gpt.samples import cut_samples
from gpt.setting_rules import check
from gpt.settings import (
    MAY_CHANGE,
    SettingsError,
    TrainSettings,
    as_now,
    default_lr,
    default_out,
    flag,
    names,
)
from gpt.template import DEFAULT, Template, find_template, template_of
from gpt.tokenizer import Tokenizer
from gpt.train import Run
from gpt.vocabulary import read_vocabulary
from gpt.weights import is_adapter, load_model


class StartError(UserError):
    """A run that cannot begin, or not go on, as it is asked to."""


Say = Callable[[str], object]


def begin(settings: TrainSettings, given: Iterable[str], say: Say, ranks: Ranks = ALONE) -> Run:
    """The run that the settings describe. `given`: those that were set by hand."""
    folder = Path(settings.out or default_out(settings))
    earlier = run_folder.claim(folder, settings.resume, settings.overwrite)
    if earlier is None:
        if settings.resume:
            say(f"{folder}: no run to resume there, so a new one begins")
        return _new(settings, set(given), folder, say, ranks)
    moved_base = settings.model if "model" in set(given) else None
    settings = _as_before(settings, set(given), earlier["settings"], folder, say)
    if not folder_to_read(folder / "last").is_dir():
        metrics = folder / NAME
        if metrics.exists() and any(line["step"] > 0 for line in MetricsFile(metrics).read()):
            raise StartError(
                f"{folder}: last/ is gone, and with it what a run goes on from: start anew from "
                f"its best weights, with {_as_model(folder / 'best', settings)} and another --out"
            )
        say(f"{folder}: the run had not saved anything yet, so it begins again")
        return _new(settings, set(), folder, say, ranks)
    base = moved_base if settings.lora_rank else None
    return _resumed(settings, folder, earlier, base, say, ranks)


def take_over(run: Run) -> None:
    """A new run's first mark on the disk. From here on the folder is its own, and what an earlier
    one left there is gone.
    """
    run.ranks.wait()  # until all have seen what is there now
    if run.is_new and run.ranks.is_first:
        run.folder.mkdir(parents=True, exist_ok=True)
        run_folder.clear(run.folder)
        run_folder.write(run.folder, facts_of(run))


def _new(settings: TrainSettings, given: set[str], folder: Path, say: Say, ranks: Ranks) -> Run:
    torch.manual_seed(settings.seed)
    source = ranks.one_of_a_host_first(lambda: _source_of(settings))
    if settings.from_scratch:
        model = _new_model(settings, source)
        say(f"model: new, {model.n_params():,} random weights; vocabulary of {source}")
    elif is_adapter(source):
        raise StartError(
            f"{source}: is an adapter, and training begins from a model: merge it first "
            f"(python scripts/merge.py --adapter {source} --out FOLDER)"
        )
    else:
        model = load_model(source, dtype=torch.float32)
        say(f"model: {source}, {model.n_params():,} parameters")
    if not model.vocabulary:
        raise StartError(f"{source}: has no vocabulary (vocab.json and merges.txt)")
    if settings.lora_rank:
        if folder.resolve() in (source.resolve(), *source.resolve().parents):
            raise StartError(
                f"--out {folder}: holds the base of this adapter, which would be lost with it: "
                "give another"
            )
        _adapt(model, settings, source, say)
    tokenizer = Tokenizer(model.vocabulary, source)
    template = template_of(source, settings.template)
    run = _assemble(settings, folder, model, tokenizer, template, State(), given, say, ranks)
    refuse_too_small_a_disk(model, folder)
    if settings.objective == "instruct":
        model.vocabulary = template.add_to(model.vocabulary)
    run.state.untold = {"step": 0, "epoch": 0.0, "tokens": 0, "supervised_tokens": 0}
    run.is_new = True
    return run


def _adapt(model: GPT, settings: TrainSettings, source: Path, say: Say) -> None:
    """Put a new adapter on the base, and the base in 4 bits if it is to be."""
    base = base_of_name(settings.model, source)
    base = replace(base, fingerprint=fingerprint(model), quantize=settings.quantize)
    try:
        adapt(model, LoraConfig.of(settings), base)
    except LoraError as error:
        raise SettingsError(f"the adapter that is asked for: {error}") from None
    say(f"adapter: {savings(model)}")


def _source_of(settings: TrainSettings) -> Path:
    """The folder of the model; for a new one, of the vocabulary alone if need be."""
    if settings.from_scratch and read_vocabulary(settings.model):
        return Path(settings.model)
    return find_model(settings.model)


def _new_model(settings: TrainSettings, source: Path) -> GPT:
    vocabulary = read_vocabulary(source)
    if not vocabulary:
        raise StartError(f"{source}: has no vocabulary (vocab.json and merges.txt)")
    tokenizer = Tokenizer(vocabulary, source)
    model = GPT(
        GPTConfig(
            tokenizer.n_vocab, settings.n_ctx, settings.n_layer, settings.n_head, settings.n_embd,
            dropout=settings.dropout, end_id=tokenizer.end_id,
        )
    )  # fmt: skip
    model.vocabulary = vocabulary
    return model


def _resumed(
    settings: TrainSettings,
    folder: Path,
    earlier: dict[str, Any],
    base: str | None,
    say: Say,
    ranks: Ranks,
) -> Run:
    last = folder / "last"
    try:
        model, state, rest = load_last(last, base)
    except AdapterError:
        raise
    except UserError as error:
        best = folder / "best"
        way = f"; {best} may be whole: start anew from its weights, with "
        way += _as_model(best, settings)
        raise StartError(f"{error}{way if best.exists() else ''}") from None
    tokenizer = Tokenizer(model.vocabulary, last)
    template = template_of(last) if settings.objective == "instruct" else find_template(DEFAULT)
    run = _assemble(settings, folder, model, tokenizer, template, state, set(), say, ranks)
    was, now = earlier["precision"]["name"], run.learner.precision.name
    if was != now:
        say(f"precision: {was} before, {now} from here on: it goes on, though not to the last bit")
    if run.data.fingerprint != earlier["data"]["fingerprint"]:
        raise StartError(
            f"{folder}: the data is not what the run began with ({earlier['data']['fingerprint']} "
            f"then, {run.data.fingerprint} now): a resumed run would be neither of the two"
        )
    told_until = state.step if state.untold is None else state.step - 1
    run.metrics.cut_after(told_until)
    if ranks.is_first:
        cut_samples(folder / "samples.md", told_until)
    restore(rest, model, run.learner.optimizer, run.learner.scaler)
    say(f"resumed after step {state.step:,} of {run.n_steps:,}")
    return run


def _as_model(best: Path, settings: TrainSettings) -> str:
    """How a new run begins from what this one had learnt."""
    if settings.lora_rank:
        return f"what scripts/merge.py --adapter {best} makes"
    return f"--model {best}"


def _as_before(
    settings: TrainSettings, given: set[str], before: dict[str, Any], folder: Path, say: Say
) -> TrainSettings:
    """The run's own settings, with those of the given ones that may differ."""
    before = as_now(before)
    unknown = set(before) - set(names())
    if unknown:
        raise StartError(f"{folder}/run.json: unknown settings: {', '.join(sorted(unknown))}")
    for name in sorted(given - MAY_CHANGE):
        if name in before and getattr(settings, name) != before[name]:
            raise SettingsError(
                f"{flag(name)} {getattr(settings, name)}: the run that is resumed has "
                f"{before[name]}, and would become another; leave it out, or start a new run"
            )
    changed = {name: getattr(settings, name) for name in given & MAY_CHANGE}
    if changed:
        settings_told = ", ".join(f"{flag(name)} {value}" for name, value in changed.items())
        say(f"from here on: {settings_told}")
    merged = replace(TrainSettings(**before), **(changed | {"resume": True, "overwrite": False}))
    check(merged)
    return merged


def _assemble(
    settings: TrainSettings,
    folder: Path,
    model: GPT,
    tokenizer: Tokenizer,
    template: Template,
    state: State,
    given: set[str],
    say: Say,
    ranks: Ranks,
) -> Run:
    """Choose what is left to choose, and put the parts together."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = ranks.device(find_device(settings.device))
    if settings.tune_malloc and device.type == "cpu":
        keep_freed_memory()
    precision = choose_precision(settings.precision, features_of(device))
    if device.type == "cuda" and precision.name != "fp32":
        torch.set_float32_matmul_precision("high")  # TF32 for what autocast leaves in fp32
    say(f"device: {device} ({describe(device)}); {precision.name}: {precision.reason}")
    data = load_data(settings, tokenizer, template, model.config, given)
    for line in data.lines:
        say(line)
    if ranks.told(state.step) != state.step:
        raise StartError(f"{folder}: rank {ranks.rank} sees another save there than the first")
    if ranks.told(data.fingerprint) != data.fingerprint:
        raise StartError(f"--data: rank {ranks.rank} reads other data than the first: is it old?")
    if ranks.told(precision.name) != precision.name:
        raise StartError(f"{device} takes {precision.name}, the first rank's not: --precision fp32")
    order = Order(
        data.train.lengths,
        settings.batch_size,
        settings.seed,
        buckets=settings.order == "buckets",
        keep_last=not settings.drop_last,
    )
    # (Rounded first: 1.1 x 50 is 55.000000000000007 to a computer.)
    of_epochs = math.ceil(round(settings.epochs * order.steps_per_epoch, 6))
    n_steps = settings.max_steps or of_epochs
    n_left = (n_steps - state.step) * int(data.train.lengths.sum()) // order.steps_per_epoch
    compiling = choose_compiling(settings, device.type, model.config.n_params(), n_left)
    if compiling.compiled or device.type == "cuda":
        say(f"compile: {'yes' if compiling.compiled else 'no'}, {compiling.reason}")
    validate_every = settings.validate_every or max(1, round(order.steps_per_epoch / 4))
    has_template = settings.objective == "instruct"
    settings = replace(
        settings,
        out=str(folder),
        template=(settings.template or template.name) if has_template else None,
        lr=settings.lr or default_lr(model.config.n_embd, settings),
        lora_alpha=LoraConfig.of(settings).alpha if settings.lora_rank else None,
        validate_every=validate_every,
        save_every=settings.save_every or validate_every,
        max_length=settings.max_length or model.config.n_ctx,
    )
    if not (settings.shard and ranks.n > 1):  # what is sharded is copied and moved in parts
        for parameter in model.parameters():
            # Out of the file's pages, to where a resumed run's would lie: how a number is aligned
            # in memory may decide how a kernel sums, and with it the last bit.
            parameter.data = parameter.data.clone()
        model = model.to(device)
    # (The run's own settings keep an `auto`, for it may be resumed on another device.)
    as_chosen = replace(settings, compile="always" if compiling.compiled else "never")
    learner = Learner(model, as_chosen, device, precision, settings.lr, say, ranks)
    # (Several ranks must all do the same, whatever memory each of them has.)
    of_a_copy = n_bytes(model)[1] if ranks.n == 1 else 0
    writer = Writer(ranks, is_wanted(settings, device, of_a_copy))
    return Run(
        settings, folder, data, tokenizer, template, learner, order, n_steps, state, ranks, writer
    )


def facts_of(run: Run) -> dict[str, Any]:
    """run.json."""
    model = run.learner.model
    return {
        **run_folder.circumstances(),
        "hardware": describe(run.learner.device),
        "ranks": run.ranks.n,
        "launch": run.ranks.meeting.launch if run.ranks.meeting else None,
        "precision": {"name": run.learner.precision.name, "reason": run.learner.precision.reason},
        "settings": run.settings.to_dict(),
        "template": {"name": run.template.name, "hash": run.template.hash},
        "data": {
            "fingerprint": run.data.fingerprint,
            "train": len(run.data.train.lengths),
            "validation": len(run.data.validation.lengths),
            "test": len(run.data.test),
            "train_tokens": int(run.data.train.lengths.sum()),
        },
        "model": {
            "parameters": model.config.n_params(),
            **({"trained_parameters": n_trained(model)} if run.settings.lora_rank else {}),
            **{f.name: getattr(model.config, f.name) for f in fields(model.config)},
        },
        "steps": run.n_steps,
        "steps_per_epoch": run.order.steps_per_epoch,
    }
