"""Every setting of a training run: its default, its unit and its reason, on one line each.

    defaults ─> a recipe ─> a TOML file ─> flags ─> checked ─> resolved (no None left) ─> run.json

A setting stands here and nowhere else. `options.py` makes a flag and a line of `--help` from each,
`setting_rules.py` says what cannot be meant, `train.py` reads them, and a run's folder keeps them.
A setting of None is chosen when the run begins, from the model, the data or the hardware; the run
prints what it chose, and why.

    python -m gpt.settings      # all of them, and what the recipe of the book changes
"""

import math
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gpt.cli import run
from gpt.encoding import OVERLONG
from gpt.errors import UserError


class SettingsError(UserError):
    """A setting that cannot be meant."""

    exit_code = 2  # bad usage, as for a flag that does not exist


def _s(default: Any, group: str, help: str, **more: Any) -> Any:
    """A field with what `options.py` needs to know: its group, its help, its choices, its name;
    alone: the values that its flag and its --no-flag mean where none follows.
    """
    metadata = {"group": group, "help": help, **more}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


_DATA, _RUN, _LEARN = "model and data", "the run", "learning"
_VAL, _MACHINE, _NEW = "validation and saving", "the machine", "a model from scratch"
_LORA = "an adapter, in place of all weights"

# Settings that may differ when a run is resumed. Most change how it is computed and not what: the
# data is known by its fingerprint, wherever it lies, and the last bits may differ (with dropout,
# other micro-batches also draw other masks). All others would make it another run.
MAY_CHANGE = {
    "out", "resume", "overwrite", "preflight", "save_every", "patience", "respond", "track",
    "device", "compile", "activation_checkpointing", "recompute_gelu", "micro_batch_size",
    "threads", "precision", "shared_preamble", "tune_malloc", "shard", "cpu_offload",
    "background_saving", "data", "model",
}  # fmt: skip


@dataclass
class TrainSettings:
    # The model, and what it learns from.
    model: str = _s(
        "checkpoints/mini", _DATA, "a model's folder, a run's (its best/), or a name on the hub",
        metavar="NAME|FOLDER",
    )  # fmt: skip
    data: list[str] = _s(
        ["data/instructions.json"], _DATA,
        "instruction data, or a folder of prepare.py's; plain text files to pretrain on",
        metavar="FILE",
    )  # fmt: skip
    objective: str = _s("instruct", _DATA, "what is learnt", choices=("instruct", "pretrain"))
    template: str | None = _s(
        None, _DATA, "the prompt format (default: the model's own, or alpaca)", metavar="NAME|FILE"
    )
    fields: str | None = _s(
        None, _DATA, "what your keys are called: instruction=talimat,output=cevap",
        metavar="NAME=KEY,...",
    )  # fmt: skip
    skip_bad: bool = _s(False, _DATA, "go on without faulty records, and count them")
    overlong: str = _s("error", _DATA, "records that do not fit the context", choices=OVERLONG)
    max_length: int | None = _s(
        None, _DATA, "tokens of the longest example (default: the model's context)"
    )
    split: str = _s(
        "prompt", _DATA, "by prompt: none on two sides; book: three slices of the file",
        choices=("prompt", "book"),
    )  # fmt: skip
    val_fraction: float = _s(0.05, _DATA, "share of the records that validation has")
    test_fraction: float = _s(0.10, _DATA, "share of the records kept for the test")
    prompt_loss_weight: float = _s(
        0.0, _DATA, "what a token of the prompt counts in the loss; 1: as much as an answer's"
    )

    # A new model, in place of a pretrained one.
    from_scratch: bool = _s(False, _NEW, "random weights; --model gives the vocabulary only")
    n_layer: int = _s(6, _NEW, "blocks")
    n_head: int = _s(4, _NEW, "attention heads a block")
    n_embd: int = _s(256, _NEW, "channels")
    n_ctx: int = _s(256, _NEW, "tokens that the model sees at once")

    # A small adapter, in place of all weights: see lora.py.
    lora_rank: int | None = _s(
        None, _LORA, "train an adapter of this rank beside frozen weights: 8 or 16 is plenty"
    )
    lora_alpha: float | None = _s(
        None, _LORA, "the adapter counts alpha / rank times (default: twice)"
    )
    lora_dropout: float = _s(0.0, _LORA, "probability, on what the adapter reads")
    lora_targets: list[str] = _s(
        ["c_attn", "c_proj", "c_fc"], _LORA, "projections that get one: attn.c_proj is that alone",
        metavar="NAME",
    )  # fmt: skip
    lora_rs: bool = _s(False, _LORA, "alpha / sqrt(rank): so that a high rank learns no slower")
    quantize: str = _s(
        "none", _LORA, "nf4: the frozen weights in 4 bits (QLoRA)", choices=("none", "nf4")
    )

    # The run.
    out: str | None = _s(
        None, _RUN, "the run's folder (default: checkpoints/MODEL-DATA)", metavar="FOLDER"
    )
    recipe: str = _s(
        "default", _RUN, "book: the settings of the book's chapter 7", choices=("default", "book")
    )
    epochs: float = _s(2.0, _RUN, "times that each example is seen; a third already over-fits")
    max_steps: int | None = _s(
        None, _RUN, "end after as many optimizer steps, in place of --epochs"
    )
    seed: int = _s(0, _RUN, "of the order, the dropout and new weights; the split stays the same")
    resume: bool = _s(False, _RUN, "go on where the run in --out was stopped, or begin it")
    overwrite: bool = _s(False, _RUN, "replace the run that --out holds")
    respond: bool = _s(True, _RUN, "answer the test records when training is done")
    track: str = _s(
        "none", _RUN, "write the metrics there as well", choices=("none", "tensorboard")
    )

    # How it learns.
    batch_size: int = _s(8, _LEARN, "examples an optimizer step: small steps suit small data")
    lr: float | None = _s(None, _LEARN, "the highest learning rate (default: by the model's width)")
    schedule: str = _s(
        "cosine", _LEARN, "of the rate, after warming up", choices=("cosine", "linear", "constant")
    )
    warmup: float = _s(
        0.05, _LEARN, "share of the steps in which the rate rises, as Adam starts blind"
    )
    min_lr: float = _s(0.1, _LEARN, "where the schedule ends, as a share of the highest rate")
    weight_decay: float = _s(0.1, _LEARN, "AdamW's, as GPT-2's successors were trained")
    decay: str = _s(
        "matrices", _LEARN, "what decays: biases and norms have no reason to shrink",
        choices=("matrices", "everything"),
    )  # fmt: skip
    beta1: float = _s(0.9, _LEARN, "AdamW's memory of the gradient")
    beta2: float = _s(0.999, _LEARN, "AdamW's memory of its square: torch's default")
    eps: float = _s(1e-8, _LEARN, "AdamW's guard against a division by zero: torch's default")
    clip: float = _s(1.0, _LEARN, "the longest gradient that is let through; 0: no clipping")
    dropout: float = _s(0.0, _LEARN, "probability: two epochs are too few to need more")
    order: str = _s(
        "buckets", _LEARN, "buckets: examples of like lengths share a step, and padding vanishes",
        choices=("buckets", "shuffled"),
    )  # fmt: skip
    drop_last: bool = _s(False, _LEARN, "leave out an epoch's short last step")

    # Validation and saving.
    validate_every: int | None = _s(
        None, _VAL, "optimizer steps between validations (default: four an epoch)"
    )
    patience: int = _s(0, _VAL, "stop after as many validations without a better one; 0: never")
    samples: int = _s(3, _VAL, "validation prompts that are answered after each epoch, to look at")
    save_every: int | None = _s(
        None, _VAL, "optimizer steps between saves of last/ (default: at each validation)"
    )
    log_every: int = _s(1, _VAL, "optimizer steps between lines of metrics.jsonl")
    preflight: bool = _s(False, _VAL, "only check that the run would work, and end")

    # The machine.
    device: str = _s("auto", _MACHINE, "auto, cpu, cuda, cuda:1 or mps", metavar="DEVICE")
    precision: str = _s(
        "auto", _MACHINE, "of the arithmetic; weights stay fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
    )  # fmt: skip
    micro_batch_size: int | None = _s(
        None, _MACHINE, "examples computed at once (default: all of a step); less memory, same run"
    )
    packed: bool = _s(False, _MACHINE, "several examples to a row, instead of padding")
    shared_preamble: str = _s(
        "auto", _MACHINE, "compute once a batch what examples begin with alike; auto: on a CPU",
        choices=("auto", "always", "never"),
    )  # fmt: skip
    activation_checkpointing: bool = _s(
        False, _MACHINE, "compute each block twice: a third slower, much less memory"
    )
    recompute_gelu: str = _s(
        "auto", _MACHINE, "GELUs again on the way back: an eighth less memory; auto: on CUDA, "
        "from a billion parameters on",
        choices=("auto", "always", "never"),
    )  # fmt: skip
    compile: str = _s(
        "auto", _MACHINE, "torch.compile: a minute at the start, faster steps; auto: a GPU's long "
        "runs", choices=("auto", "always", "never"), alone=("always", "never"),
    )  # fmt: skip
    tune_malloc: bool = _s(
        True, _MACHINE, "on Linux and a CPU: memory stays with the process from step to step"
    )
    background_saving: str = _s(
        "auto", _MACHINE, "train on while checkpoints are written, from a copy; auto: on CUDA",
        choices=("auto", "always", "never"),
    )  # fmt: skip
    shard: bool = _s(
        False, _MACHINE, "with torchrun: each process keeps a part of the weights (FSDP2)"
    )
    cpu_offload: bool = _s(
        False, _MACHINE, "with --shard: the parts lie in the CPU's memory, and AdamW runs there"
    )
    threads: int | None = _s(None, _MACHINE, "CPU threads (default: torch's own choice)")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


GROUPS = (_RUN, _DATA, _LEARN, _LORA, _VAL, _MACHINE, _NEW)

# The book *Build a Large Language Model (From Scratch)*, chapter 7, so that its curves can be
# compared: AdamW at 5e-5 with a decay of 0.1 on every parameter, a constant rate, no clipping, two
# epochs of 8 shuffled examples without the last short step, the loss on prompts too.
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "book": {
        "lr": 5e-5, "weight_decay": 0.1, "decay": "everything", "schedule": "constant",
        "warmup": 0.0, "clip": 0.0, "epochs": 2.0, "batch_size": 8, "order": "shuffled",
        "drop_last": True, "prompt_loss_weight": 1.0, "split": "book", "dropout": 0.0,
        "template": "alpaca", "seed": 123,
    },
}  # fmt: skip


def names() -> list[str]:
    return [f.name for f in fields(TrainSettings)]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def type_name(f: Field) -> str:
    """int, float, bool, str or list[str]; with " | None" where a run may choose by itself."""
    return f.type.__name__ if isinstance(f.type, type) else str(f.type)


def combine(*sources: dict[str, Any]) -> tuple[TrainSettings, set[str]]:
    """Settings from given ones, the first source first in line; and the names that were given.

    A recipe stands between what is given and the defaults.
    """
    given: dict[str, Any] = {}
    for source in reversed(sources):
        given |= source
    recipe = given.get("recipe", "default")
    if recipe not in list(RECIPES):  # a list, for what a file gives may have no hash
        raise SettingsError(f"--recipe {recipe}: there are {', '.join(RECIPES)}")
    return TrainSettings(**(RECIPES[recipe] | as_now(given))), set(given)


def as_now(given: dict[str, Any]) -> dict[str, Any]:
    """Settings that may be of an earlier version, where `compile` was true or false."""
    if isinstance(given.get("compile"), bool):
        return given | {"compile": "always" if given["compile"] else "never"}
    return given


# ---- what a run decides by itself ------------------------------------------------------------


def default_out(settings: TrainSettings) -> str:
    """checkpoints/gpt2-instructions, from --model gpt2 --data data/instructions.json."""
    model = Path(settings.model)
    if model.name in ("best", "last"):  # of a run, which is what has a name
        model = model.parent
    first = Path(settings.data[0])
    data = first.name.split(".")[0] or first.resolve().name
    named = model if model.name not in ("", "..") else model.resolve()
    start = "new" if settings.from_scratch else named.name
    adapter = "-lora" if settings.lora_rank else ""
    return f"checkpoints/{start.replace('@', '-')}-{data}{adapter}"


def default_lr(n_embd: int, settings: TrainSettings) -> float:
    """The rate where GPT-2's 768 channels are trained well, and less for wider models, as GPT-3's.

    From scratch 6e-4. For tuning 5e-5, and less of a slope: little is to be learnt, and much to be
    forgotten. (At 256 channels 5e-5, 1e-4 and 2e-4 gave 72%, 70% and 63% of the facts that no
    training instruction held.) An adapter, which begins at 0, is given a new model's rate. (There
    2e-3 beat 1e-3, 4e-3, 8e-3.)
    """
    narrower = 768 / n_embd
    is_new = settings.from_scratch or settings.lora_rank
    return float(f"{6e-4 * narrower if is_new else 5e-5 * math.sqrt(narrower):.1g}")


def _demo() -> None:
    book = RECIPES["book"]
    for group in GROUPS:
        print(group)
        for f in fields(TrainSettings):
            if f.metadata["group"] == group:
                default = getattr(TrainSettings(), f.name)
                shown = "-" if default is None else str(default)
                changed = f"   (book: {book[f.name]})" if f.name in book else ""
                print(f"  {flag(f.name):<27} {shown:<26}{changed}")


if __name__ == "__main__":
    run(_demo)
