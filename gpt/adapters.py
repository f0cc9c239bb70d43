"""An adapter on the disk: PEFT's two files, and beside them what a folder of ours has.

    adapter_config.json          rank, alpha, targets, and the name of the base model      PEFT's
    adapter_model.safetensors    …h.0.attn.c_attn.lora_A.weight and so on                  PEFT's
    adapter_base.json            the base's fingerprint, and whether it was in 4 bits      ours
    vocab.json, template.json …  the words and the prompts that it was tuned with

`peft.PeftModel.from_pretrained` opens such a folder as it is, and `load_model` opens PEFT's: either
finds the base by its name, and puts the adapter on it.

An adapter is a correction to one model, and worse than useless on any other of that shape, where it
would run and talk. So the base is held to its fingerprint: its sizes, and from each of its tensors
16 stretches of 64 numbers. Training changes nearly every number, so no tuned, or otherwise tuned,
model passes for another; the same one does in any format and precision that holds all its bits. A
gigabyte is looked at in milliseconds. (It tells models apart. It is no seal: one number that was
changed on purpose may lie between the stretches.)

Loading is as strict as a model's (weights.py): each tensor is there once, has its shape and is
finite, and what PEFT could do and this code would compute otherwise is refused by name.

    python -m gpt.adapters      # saves one, opens it on its base and on another

Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gpt.adapter_config import BASE, AdapterError, Base, as_told, read_adapter
from gpt.cli import run
from gpt.config import GPTConfig
from gpt.download import HUB, find_model
from gpt.errors import UserError
from gpt.files import folder_to_read
from gpt.lora import LoraConfig, LoraError, add_lora, dequantise, lora_layers, lora_of, merge
from gpt.model import GPT
from gpt.template import Template
from gpt.tensor_files import open_safetensors
from gpt.vocabulary import read_vocabulary
from gpt.weights import (
    ADAPTER,
    as_json,
    is_adapter,
    is_finite,
    load_model,
    match,
    placed,
    read_config_of,
    read_tensor,
    save_model,
    write_folder,
)

TENSORS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"


# ---- an adapter and its base ----------------------------------------------------------------


def base_of_name(name: str, folder: Path) -> Base:
    """What an adapter is to remember of the model that was asked for as `name` and found there."""
    given = Path(name).expanduser()
    if folder in map(folder_to_read, (given, given / "best")):
        return Base(str(folder.resolve()))
    if name in HUB:
        return Base(HUB[name].repo, HUB[name].revision)
    repo, _, revision = name.partition("@")
    return Base(repo, revision or None)


def fingerprint(model: GPT) -> str:
    """Tells a model from others, whatever files and precision it came in."""
    config = model.config
    sizes = [config.n_ctx, config.n_head, config.layer_norm_epsilon]  # the others are in shapes
    digest = hashlib.sha256(json.dumps(sizes).encode())
    for name, tensor in model.named_parameters():
        digest.update(f"{name} {list(tensor.shape)} ".encode())
        numbers = tensor.detach().view(-1)
        starts = [max(0, numbers.numel() - 64) * i // 15 for i in range(16)]
        sample = torch.cat([numbers[start : start + 64] for start in starts])
        digest.update(sample.float().cpu().numpy().astype("<f4").tobytes())
    return digest.hexdigest()[:32]


def adapt(model: GPT, config: LoraConfig, base: Base) -> None:
    """Make of a plain model a base with a new adapter on it, which knows whose it is."""
    if base.quantize == "nf4":
        from gpt.quantize import quantize_model

        quantize_model(model)
    add_lora(model, config)
    model.base = base


def base_folder(folder: Path, base: str | Path | None = None) -> Path:
    """Where the base model of an adapter's folder is."""
    name = base or _asked_for(read_adapter(folder)[1])
    if not name:
        raise AdapterError(f"{folder}: names no base model: give it (--model BASE --adapter …)")
    try:
        found = find_model(name)
    except UserError as error:
        if base is not None:
            raise
        raise AdapterError(
            f"{folder}: an adapter of a model that is not found: {error} (--model BASE gives "
            "another place)"
        ) from None
    if is_adapter(found):
        raise AdapterError(f"{found}: is itself an adapter, and no base: merge it first (merge.py)")
    return found


def _asked_for(base: Base) -> str:
    """A base as `find_model` understands it."""
    if not base.revision or Path(base.name).expanduser().is_dir():
        return base.name
    return f"{HUB[base.name].repo if base.name in HUB else base.name}@{base.revision}"


def config_of(folder: Path, base: str | Path | None = None) -> GPTConfig:
    """The sizes of a model's folder; of an adapter's, those of its base."""
    return read_config_of(base_folder(folder, base) if is_adapter(folder) else folder)


def template_folder(folder: Path, base: str | Path | None = None) -> Path:
    """Whose template a model is asked in: an adapter's own, or if it has none its base's."""
    if not is_adapter(folder) or Template.load(folder) is not None:
        return folder
    return base_folder(folder, base)


def load_adapted(
    folder: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    base: str | Path | None = None,
) -> GPT:
    """The base model with the adapter of this folder on it; see `load_model`.

    dtype: None is the type that both lie in, or else fp32: an adapter's small numbers are what was
    learnt, and are not to be rounded because its base is in fp16.
    """
    config, known = read_adapter(folder)
    place = base_folder(folder, base)
    model = load_model(place)
    found = fingerprint(model)
    if known.fingerprint not in (None, found):
        raise AdapterError(
            f"{folder}: is of another base model: its fingerprint is {known.fingerprint}, and "
            f"{place} has {found}"
        )
    own = model.wte.weight.dtype
    model.float()  # what is rounded to 4 bits is the same, whatever it is asked in
    named = base_of_name(str(base), place) if base else known
    with torch.random.fork_rng(devices=[]):  # loading draws no numbers of anybody's
        try:
            adapt(model, config, replace(named, fingerprint=found, quantize=known.quantize))
        except LoraError as error:
            raise AdapterError(f"{folder / ADAPTER}: {error}") from None
    types = _read_into(model, folder)
    if dtype is None:
        dtype = own if types == {own} else torch.float32
    model.vocabulary |= read_vocabulary(folder)
    for parameter in model.parameters():  # (and no buffer: what is in 4 bits stays as it is)
        parameter.data = parameter.data.to(dtype)
    return placed(model, device, folder)


def tensors_of(model: GPT) -> dict[str, Tensor]:
    return {
        f"{name}.{which}": getattr(layer, which)
        for name, layer in lora_layers(model).items()
        for which in ("lora_A", "lora_B")
    }


# ---- reading --------------------------------------------------------------------------------


def _read_into(model: GPT, folder: Path) -> set[torch.dtype]:
    """Fill the adapter's tensors from the folder; the types that they lie there in."""
    path = folder / TENSORS
    if not path.is_file():
        if (folder / PICKLE).is_file():
            raise AdapterError(
                f"{folder / PICKLE}: is a pickle, which is a program: nothing in it was run. Load "
                f"and save it with PEFT, which writes {TENSORS} now"
            )
        raise AdapterError(f"{path}: is missing: half an adapter")
    try:
        stored = open_safetensors(path)
        into = tensors_of(model)
        names = {theirs: _name_of(theirs) for theirs in stored.shapes}
        source = match(stored, names, {name: tuple(t.shape) for name, t in into.items()})
        with torch.no_grad():
            for name, theirs in source.items():
                into[name].copy_(read_tensor(stored, theirs, torch.float32))
        return set(stored.dtypes.values())
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error}") from error


def _name_of(theirs: str) -> str:
    """base_model.model.transformer.h.0.attn.c_attn.lora_A.weight -> h.0.attn.c_attn.lora_A"""
    found = re.fullmatch(r"base_model\.model\.(?:transformer\.)?(h\..+\.lora_[AB])\.weight", theirs)
    return found[1] if found else theirs


# ---- writing --------------------------------------------------------------------------------


def save_adapter(
    model: GPT,
    folder: str | Path,
    add: Callable[[Path], None] | None = None,
    added_bytes: int = 0,
) -> None:
    """Write the adapter of a model, as `save_model` writes a model: whole, or not there."""
    model = getattr(model, "_orig_mod", model)
    folder, config = Path(folder), lora_of(model)
    if config is None:
        raise AdapterError(f"{folder}: the model has no adapter to save")
    base = getattr(model, "base", Base(""))
    tensors = {
        f"base_model.model.transformer.{name}.weight": t.detach().contiguous()
        for name, t in tensors_of(model).items()
    }
    for name, tensor in tensors.items():
        if tensor.is_meta or not is_finite(tensor):
            raise AdapterError(f"{folder}: the adapter was not saved: {name} is not all numbers")
    told, ours = as_told(config, lora_layers(model), base)
    files = {ADAPTER: as_json(told), BASE: as_json(ours)} | model.vocabulary
    write_folder(folder, files, TENSORS, tensors, add, added_bytes)


# ---- a plain model of both ------------------------------------------------------------------


class Merged(NamedTuple):
    adapter: Path
    base: str
    gap: float  # the largest difference in logits between the merged model and the adapter
    gap_of_4_bits: float | None  # and between the adapter on the base in 4 bits and before that


@torch.no_grad()
def merge_folder(adapter: str | Path, out: str | Path, base: str | Path | None = None) -> Merged:
    """Write the model that an adapter and its base are together; how true it is to them."""
    folder = find_model(adapter)
    if not is_adapter(folder):
        raise AdapterError(f"{folder}: is no adapter, and there is nothing to merge")
    for what, own in (("the adapter", folder), ("the base", base_folder(folder, base))):
        if Path(out).resolve() == own.resolve():
            raise AdapterError(f"--out {out}: is {what} itself, which would be lost: give another")
    model = load_model(folder, dtype=torch.float32, base=base)
    n_rows, length = 4, min(64, model.config.n_ctx)
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (n_rows, length), generator=drawn)
    expected, gap_of_4_bits = model(ids), None
    if model.base.quantize != "none":
        whole = load_model(base_folder(folder, base), dtype=torch.float32)
        add_lora(whole, lora_of(model))
        for name, tensor in tensors_of(whole).items():
            tensor.copy_(tensors_of(model)[name])
        gap_of_4_bits = (whole(ids) - expected).abs().max().item()
        del whole
        dequantise(model)
    merge(model)
    gap = (model(ids) - expected).abs().max().item()
    save_model(model, out)
    return Merged(folder, model.base.name, gap, gap_of_4_bits)


def _demo() -> None:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=50, n_ctx=16, n_layer=1, n_head=2, n_embd=16)
    ids = torch.randint(50, (2, 9))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("base", "other"):
            save_model(GPT(config), folder / name)
        model = load_model(folder / "base")
        base = replace(base_of_name(str(folder / "base"), folder / "base"),
                       fingerprint=fingerprint(model))  # fmt: skip
        adapt(model, LoraConfig(rank=2), base)
        for tensor in tensors_of(model).values():
            torch.nn.init.normal_(tensor)
        save_adapter(model, folder / "adapter")
        print("a tiny model's adapter:")
        for path in sorted((folder / "adapter").iterdir()):
            print(f"  {path.name}")
        print("what its file holds:")
        for name, shape in open_safetensors(folder / "adapter" / TENSORS).shapes.items():
            print(f"  {name:<59} {list(shape)}")
        same = torch.equal(load_model(folder / "adapter")(ids), model(ids))
        print(f"\nopened again, its base found by name: {'the same' if same else 'OTHER'} logits")

        print("\nand what is refused:")
        told = json.loads((folder / "adapter" / ADAPTER).read_text(encoding="utf-8"))
        for what, base_given, changes in (
            ("on another base", folder / "other", {}),
            ("with DoRA", None, {"use_dora": True}),
            ("of rank 3", None, {"r": 3}),
        ):
            (folder / "adapter" / ADAPTER).write_bytes(as_json(told | changes))
            try:
                load_model(folder / "adapter", base=base_given)
            except UserError as error:
                shown = re.sub(r"[0-9a-f]{32}", "…", str(error)).replace(str(folder), "")
                print(f"  {what}: {shown}".replace("\\", "/"))


if __name__ == "__main__":
    run(_demo)
