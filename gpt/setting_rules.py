"""What no run can mean: settings of the wrong kind, out of range, at odds, or read by nobody.

    settings ─> check_each   a value that none of the others could make right
             └> idle         what nothing would read in such a run, and why
    both     ─> check        one line that names the flag, and says what would be right

A setting that would be ignored is as bad as a mistyped one: somebody believes that it is at work.
So whatever was given by hand and would not be read is refused.

    python -m gpt.setting_rules     # some that are refused
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from gpt.cli import run
from gpt.settings import SettingsError, TrainSettings, combine, flag, type_name


def check(settings: TrainSettings, given: Iterable[str] = ()) -> None:
    """Raise a SettingsError for what cannot be meant. `given`: set by hand, so never to be idle."""
    check_each(settings)
    unread = idle(settings)
    val, test = (0 if f in unread else getattr(settings, f) for f in _FRACTIONS)
    if val + test >= 1:
        raise SettingsError(f"--val-fraction {val} and --test-fraction {test} leave none to train")
    if settings.epochs > 1e6:
        raise SettingsError(f"--epochs must be at most a million, not {settings.epochs:g}")
    if settings.resume and settings.overwrite:
        raise SettingsError("--resume goes on with the run, --overwrite replaces it: give one")
    if settings.from_scratch and settings.n_embd % settings.n_head:
        raise SettingsError(
            f"--n-embd {settings.n_embd} must be a multiple of --n-head {settings.n_head}"
        )
    if settings.lora_rank and settings.from_scratch:
        raise SettingsError("--lora-rank adapts a pretrained model: --from-scratch has none")
    if settings.quantize != "none" and not settings.lora_rank:
        raise SettingsError(
            f"--quantize {settings.quantize} needs --lora-rank: rounded weights cannot be trained"
        )
    if settings.shared_preamble == "always" and (why := _nothing_to_share(settings)):
        raise SettingsError(f"--shared-preamble always: {why}")
    for name, refused in (("quantize", "nf4"), ("compile", "always")):
        if settings.shard and getattr(settings, name) == refused:
            raise SettingsError(
                f"--shard with {flag(name)} is not supported: leave one of them out"
            )
    for name, why in unread.items():
        if name in given:
            raise SettingsError(f"{flag(name)} would be ignored: {why}")


def _nothing_to_share(settings: TrainSettings) -> str | None:
    if settings.dropout or settings.lora_dropout:
        return "rows with dropout have nothing to share"
    if settings.packed:
        return "rows with --packed have nothing to share"
    if settings.objective == "pretrain":
        return "plain text has no preamble"
    if 1 in (settings.batch_size, settings.micro_batch_size):
        return "one row at a time has nobody to share with"
    return None


def check_each(settings: TrainSettings) -> None:
    """Raise a SettingsError for a value that none of the others could make right."""
    for f in fields(settings):
        value, choices = getattr(settings, f.name), f.metadata.get("choices")
        _check_type(f.name, value, type_name(f))
        if choices and value not in choices:
            near = get_close_matches(str(value), choices, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(choices)}"
            raise SettingsError(f"{flag(f.name)} {value}: {hint}")
    for is_right, rule, of in _RULES:
        for name in of:
            value = getattr(settings, name)
            if value is not None and not is_right(value):
                raise SettingsError(f"{flag(name)} must be {rule}, not {value!r:.60}")
    for name in ("data", "lora_targets"):
        if not getattr(settings, name):
            raise SettingsError(f"{flag(name)}: no {_EMPTY[name]} is given")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", settings.device):
        raise SettingsError(f"--device {settings.device}: it is auto, cpu, cuda, cuda:1 or mps")


_EMPTY = {"data": "file", "lora_targets": "projection"}
_FRACTIONS = ("val_fraction", "test_fraction")
_RULES: tuple[tuple[Callable[[float], bool], str, tuple[str, ...]], ...] = (
    (lambda v: v > 0, "above 0", ("epochs", "lr", "eps", "lora_alpha")),
    (lambda v: v >= 0, "at least 0", ("patience", "samples", "weight_decay", "clip")),
    (lambda v: v >= 1, "at least 1", ("n_layer", "n_head", "n_embd", "max_steps", "batch_size",
     "micro_batch_size", "lora_rank", "validate_every", "save_every", "log_every")),
    (lambda v: v >= 2, "at least 2", ("max_length", "n_ctx")),
    (lambda v: 0 <= v < 1, "at least 0 and below 1", (*_FRACTIONS, "dropout", "lora_dropout",
     "beta1", "beta2")),
    (lambda v: 0 <= v <= 1, "from 0 to 1", ("warmup", "min_lr", "prompt_loss_weight")),
    (lambda v: 0 <= v < 2**63, "at least 0 and below 2^63", ("seed",)),  # torch takes no more
    (lambda v: 1 <= v <= 1024, "from 1 to 1,024", ("threads",)),
)  # fmt: skip


def _check_type(name: str, value: Any, declared: str) -> None:
    kind = declared.removesuffix(" | None")
    if value is None and kind != declared:
        return
    right = {
        "int": type(value) is int,
        "float": type(value) in (int, float) and abs(value) <= sys.float_info.max,
        "bool": type(value) is bool,
        "str": type(value) is str and bool(value),
        "list[str]": isinstance(value, list) and all(type(v) is str and v for v in value),
    }[kind]
    if not right:
        words = {
            "int": "a whole number", "float": "a number", "bool": "true or false",
            "str": "a text", "list[str]": "a list of texts",
        }  # fmt: skip
        raise SettingsError(f"{flag(name)} must be {words[kind]}, not {value!r:.60}")


def idle(settings: TrainSettings) -> dict[str, str]:
    """Settings that nothing would read in such a run, and why."""
    found: dict[str, str] = {}
    if settings.objective == "pretrain":
        for name in ("template", "fields", "skip_bad", "overlong", "split", "prompt_loss_weight",
                     "test_fraction", "order", "packed", "respond"):  # fmt: skip
            found[name] = "--objective pretrain reads plain text, which has no records"
    elif settings.split == "book":
        found |= dict.fromkeys(_FRACTIONS, "--split book cuts the file at 85% and 95%")
    if not settings.from_scratch:
        for name in ("n_layer", "n_head", "n_embd", "n_ctx"):
            found[name] = "it is for --from-scratch"
    if not settings.lora_rank:
        for name in ("lora_alpha", "lora_dropout", "lora_targets", "lora_rs", "quantize"):
            found[name] = "it is for --lora-rank"
    if not settings.shard:
        found["cpu_offload"] = "it is for --shard"
    if settings.activation_checkpointing:
        found["recompute_gelu"] = "--activation-checkpointing keeps nothing of a block"
    if settings.schedule == "constant":
        found["min_lr"] = "--schedule constant stays at the highest rate"
    if settings.weight_decay == 0:
        found["decay"] = "--weight-decay is 0"
    if settings.max_steps is not None:
        found["epochs"] = "--max-steps ends the run"
    return found


def _demo() -> None:
    print("what is refused, in one line:")
    for given in ({"lr": -1.0}, {"schedule": "cosin"}, {"n_embd": 64}, {"batch_size": "8"}):
        try:
            check(*combine(given))
        except SettingsError as error:
            print(f"  {error}")


if __name__ == "__main__":
    run(_demo)
