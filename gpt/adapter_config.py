"""What an adapter's folder says of it: PEFT's `adapter_config.json`, read strictly, and written.

    adapter_config.json ─┬─> LoraConfig   rank, alpha, targets: what the tensors are to be
    adapter_base.json   ─┴─> Base         the model that they correct

PEFT has many kinds of adapters, and of LoRA many variants. Whatever is set in the file and would
be computed otherwise here is refused by its name: left out, it would run, and answer worse.

Source: https://huggingface.co/docs/peft/package_reference/lora
"""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.errors import UserError
from gpt.lora import LoraConfig
from gpt.template import NAME as TEMPLATE
from gpt.weights import ADAPTER

BASE = "adapter_base.json"


class AdapterError(UserError):
    """An adapter's folder that is not whole, not a GPT-2's, or not this base's."""


@dataclass(frozen=True)
class Base:
    """The model that an adapter is a correction to."""

    name: str  # on the hub, or an absolute path
    revision: str | None = None  # on the hub
    fingerprint: str | None = None  # None: an adapter of PEFT's own, which knows none
    quantize: str = "none"  # nf4: it is rounded to 4 bits before the adapter corrects it


# What PEFT keeps of an adapter and this code reads, or need not read to compute the same. Whatever
# else is set may change what is computed, so it is refused; what is empty is not set (and 0 is not
# empty: as a layer, it is the first).
_READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora"}
_READ |= {"base_model_name_or_path", "revision", "init_lora_weights"}
_CHANGES_NOTHING = {
    "task_type", "inference_mode", "auto_mapping", "peft_version", "fan_in_fan_out",
    "megatron_core", "megatron_config", "qalora_group_size", "runtime_config", "eva_config",
    "lora_ga_config", "corda_config", "loftq_config", "ensure_weight_tying",
}  # fmt: skip
_EMPTY = ("", "none", [], {})
# How PEFT had filled A and B, with the base left alone; pissa, olora and others change it.
_HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


def read_adapter(folder: Path) -> tuple[LoraConfig, Base]:
    path = folder / ADAPTER
    told = _read_object(path)
    if told.get("peft_type") != "LORA":
        raise AdapterError(
            f"{path}: peft_type is {told.get('peft_type')!r}, and this code has LORA"
        )
    for name, value in told.items():
        if name not in _READ | _CHANGES_NOTHING and not _is_empty(value):
            raise AdapterError(f"{path}: {name} is {value!r:.60}, which this code has not")
    if told.get("init_lora_weights") not in _HARMLESS_STARTS:
        raise AdapterError(
            f"{path}: init_lora_weights is {told['init_lora_weights']!r:.60}, which also changes "
            "the base"
        )
    config = _config_of(told, path)
    names = [told.get(key) or None for key in ("base_model_name_or_path", "revision")]
    if not (folder / BASE).is_file() and (folder / TEMPLATE).is_file():
        raise AdapterError(f"{folder / BASE}: is missing, which tells the base: half an adapter")
    ours = _read_object(folder / BASE) if (folder / BASE).is_file() else {}  # PEFT's has none
    facts = [ours.get("fingerprint"), ours.get("quantize", "none")]
    if not all(text is None or isinstance(text, str) for text in (*names, *facts)):
        raise AdapterError(f"{path}: its base is named by {[*names, *facts]!r:.80}, no texts")
    if facts[1] not in ("none", "nf4"):
        raise AdapterError(f"{folder / BASE}: quantize is {facts[1]!r:.60}, not none or nf4")
    return config, Base(names[0] or "", names[1], *facts)


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value in _EMPTY


def _config_of(told: dict[str, Any], path: Path) -> LoraConfig:
    rules: dict[str, Callable[[Any], bool]] = {
        "r": lambda v: type(v) is int and v >= 1,
        "lora_alpha": lambda v: type(v) in (int, float) and abs(v) <= sys.float_info.max,
        "lora_dropout": lambda v: type(v) in (int, float) and 0 <= v < 1,
        "use_rslora": lambda v: type(v) is bool,
        "target_modules": lambda v: (
            (isinstance(v, str) or (isinstance(v, list) and all(isinstance(t, str) for t in v)))
            and bool(v)
        ),
    }
    defaults = {"lora_dropout": 0.0, "use_rslora": False}
    values = {name: told.get(name, defaults.get(name)) for name in rules}
    for name, is_right in rules.items():
        if not is_right(values[name]):
            raise AdapterError(f"{path}: {name} is {values[name]!r:.60}")
    targets = values["target_modules"]
    if isinstance(targets, list):
        targets = tuple(targets)
    elif targets == "all-linear":
        targets = LoraConfig.targets
    return LoraConfig(
        values["r"], values["lora_alpha"], values["lora_dropout"], targets, values["use_rslora"]
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(told, dict):
        raise AdapterError(f"{path}: expected an object, found {type(told).__name__}")
    return told


def as_told(
    config: LoraConfig, adapted: Iterable[str], base: Base
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is written into the two files. adapted: the names of the projections that have it."""
    # A pattern that is right here may match more of another program's modules: names do not.
    targets = adapted if isinstance(config.targets, str) else config.targets
    alpha = config.alpha
    told = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name or None,
        "revision": base.revision,
        "r": config.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "target_modules": list(targets),
        "fan_in_fan_out": True,  # GPT-2's matrices are [in, out]
        "bias": "none",
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    ours = {"fingerprint": base.fingerprint, "quantize": base.quantize}
    return told, ours
