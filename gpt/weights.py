"""A model from its folder, with every tensor accounted for; and back into one.

    name or folder ─> what the files hold ─> what the model needs ─> GPT
       download          tensor_files           the same, or an error that names the tensor

Loading is strict: each tensor of the model is found exactly once, has its shape, and holds finite
numbers. (A model with one tensor left at random would still run, and still talk.)

Nothing is copied: the model is built without memory (on `meta`), and the pages of the file become
its parameters. The system fetches a page when it is first touched, and copies it should training
write to it; the file itself never changes.

    python -m gpt.weights       # saves a tiny model, lists the file, loads it, breaks it

The folder is Hugging Face's: https://huggingface.co/docs/transformers/model_doc/gpt2
"""

import functools
import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gpt.cli import run
from gpt.config import GPTConfig, read_config
from gpt.download import find_model
from gpt.errors import UserError, first_line
from gpt.files import folder_to_read, identity, replacing_folder
from gpt.model import GPT
from gpt.tensor_files import Shape, StoredTensors, WeightsError, open_tensors
from gpt.tokenizer import Tokenizer
from gpt.vocabulary import VOCABULARY_FILES, read_vocabulary


def load_model(
    name_or_folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    base: str | Path | None = None,
) -> GPT:
    """A GPT-2 with pretrained weights, in eval mode: ready to generate, and to be trained.

    name_or_folder: a model's folder, a run's (its `best/`), or a name on the Hugging Face hub. An
        adapter's folder means its base model with the adapter on it: see adapters.py.
    dtype: None keeps the file's own.
    base: for an adapter, in place of the base model that it names.
    """
    if dtype not in (None, *_DTYPES):
        raise WeightsError(f"dtype {dtype!r}: weights are one of {', '.join(map(str, _DTYPES))}")
    for attempts_left in (2, 1, 0):
        folder = folder_to_read(find_model(name_or_folder))
        before = identity(folder)
        try:
            model = _load_either(folder, device, dtype, base)
        except UserError:
            if attempts_left == 0 or identity(folder) == before:
                raise
        else:
            if attempts_left == 0 or identity(folder) == before:
                return model
        # Somebody saved a new model meanwhile: its files and the old one's do not go together.
    raise AssertionError("the last attempt returns or raises")


def _load_either(
    folder: Path, device: str | torch.device, dtype: torch.dtype | None, base: str | Path | None
) -> GPT:
    if is_adapter(folder):
        from gpt.adapters import load_adapted  # a later chapter, built on this one

        return load_adapted(folder, device, dtype, base)
    if base is not None:
        raise WeightsError(f"{folder}: is no adapter, and cannot be put on {base}")
    return _load(folder, device, dtype)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter instead of a model."""
    if not (folder / ADAPTER).is_file():
        return False
    whole = [path.name for name in _WHOLE_MODELS for path in folder.glob(name)]
    if whole:
        raise WeightsError(
            f"{folder}: holds an adapter ({ADAPTER}) and a whole model ({whole[0]}): which of them "
            "is meant? Move one elsewhere"
        )
    return True


def _load(folder: Path, device: str | torch.device, dtype: torch.dtype | None) -> GPT:
    try:
        stored = open_tensors(folder)
        model = _without_memory(read_config_of(folder), stored)
        needed = {name: tuple(p.shape) for name, p in model.named_parameters()}
        source = match(stored, _weights_in(stored), needed)
        if dtype is None:
            found = {stored.dtypes[theirs] for theirs in source.values()}
            dtype = functools.reduce(torch.promote_types, found)
        state = {name: read_tensor(stored, theirs, dtype) for name, theirs in source.items()}
        _refuse_other_head(stored, state["wte.weight"])
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be read: {error}") from error
    model.load_state_dict(state, assign=True)
    model.vocabulary = read_vocabulary(folder)
    if model.config.end_id is None and model.vocabulary:
        model.config.end_id = Tokenizer(model.vocabulary, folder).end_id
    return placed(model, device, folder)


def placed(model: GPT, device: str | torch.device, folder: Path) -> GPT:
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # no such device, or no room on it
        raise WeightsError(f"{folder}: not on device {device}: {first_line(error)}") from error


def read_config_of(folder: Path) -> GPTConfig:
    """`config.json`, or the `hparams.json` that OpenAI's own folders have instead."""
    openai = folder / "hparams.json"
    has_only_openai = openai.is_file() and not (folder / "config.json").is_file()
    return read_config(openai if has_only_openai else folder / "config.json")


def _without_memory(config: GPTConfig, stored: StoredTensors) -> GPT:
    """The model's modules and shapes, with no numbers behind them yet, and none drawn at random."""
    if config.n_layer > len(stored.shapes):  # so that a lying configuration costs no time
        raise WeightsError(
            f"{stored.where}: {len(stored.shapes)} tensors are too few for n_layer = "
            f"{config.n_layer}"
        )
    try:
        with torch.device("meta"):
            return GPT(config)
    except RuntimeError as error:
        raise WeightsError(f"{stored.where}: no tensor can be that large: {error}") from None


# The same weight under other names, and what is no weight at all: older files hold the causal mask
# of every block (`attn.bias` is that mask, not a bias) and the number that it hid scores behind.
_PREFIX = "transformer."
_NOT_WEIGHTS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
_HEAD = "lm_head.weight"
INDEX_OF_PIECES = ".metadata"  # see pieces.py
_OF_A_RUN = ("training.json", "training.safetensors", INDEX_OF_PIECES)  # see checkpoint.py
ADAPTER = "adapter_config.json"
_OF_AN_ADAPTER = (ADAPTER, "adapter_model.safetensors", "adapter_base.json")  # see adapters.py
_WHOLE_MODELS = ("model*.safetensors", "pytorch_model*.bin", "model.ckpt.*")
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def _weights_in(stored: StoredTensors) -> dict[str, str]:
    """The tensors of a file, and how we call them."""
    names = {theirs: theirs.removeprefix(_PREFIX) for theirs in stored.shapes}
    return {t: n for t, n in names.items() if n != _HEAD and not _NOT_WEIGHTS.fullmatch(n)}


def match(stored: StoredTensors, names: dict[str, str], needed: dict[str, Shape]) -> dict[str, str]:
    """For each tensor that is needed the name that it has in the file; every one used once.

    names: for each tensor of the file, how we call it.
    """
    source: dict[str, str] = {}
    faults = []
    for theirs, name in names.items():
        shape = stored.shapes[theirs]
        if name not in needed:
            faults.append(f"{theirs} of shape {list(shape)} is no part of this model")
        elif name in source:
            faults.append(f"{theirs} and {source[name]} are the same tensor")
        elif shape != needed[name]:
            faults.append(_wrong_shape(theirs, shape, needed[name]))
        elif stored.dtypes[theirs] not in _DTYPES:
            faults.append(f"{theirs} holds {stored.dtypes[theirs]}, not floating-point numbers")
        source[name] = theirs
    missing = [name for name in needed if name not in source]
    faults += [f"{name} is missing; it should be {list(needed[name])}" for name in missing]
    if faults:
        more = f" (and {len(faults) - 1} more such faults)" if len(faults) > 1 else ""
        raise WeightsError(f"{stored.where}: {faults[0]}{more}")
    return {name: source[name] for name in needed}


def _wrong_shape(name: str, shape: Shape, needed: Shape) -> str:
    fault = f"{name} has shape {list(shape)}, and the configuration makes it {list(needed)}"
    if len(shape) == 2 and shape == needed[::-1]:
        fault += ": it is transposed (GPT-2 stores [in, out], nn.Linear [out, in])"
    return fault


def read_tensor(stored: StoredTensors, name: str, dtype: torch.dtype) -> Tensor:
    tensor = stored.read(name).to(dtype)
    if not is_finite(tensor):
        was = stored.dtypes[name]
        fits = "" if was == dtype else f" as {dtype} (the file has {was})"
        raise WeightsError(f"{stored.where}: {name} holds NaN or infinity{fits}")
    return tensor


def is_finite(tensor: Tensor) -> bool:
    return all(map(math.isfinite, tensor.aminmax()))  # one fast pass: NaN and infinity come through


def _refuse_other_head(stored: StoredTensors, wte: Tensor) -> None:
    """Some tools write the head beside wte. It is welcome if it equals wte, and not needed."""
    for name in (_HEAD, _PREFIX + _HEAD):
        if name not in stored.shapes:
            continue
        same_shape = stored.shapes[name] == tuple(wte.shape)
        if not same_shape or not stored.read(name).to(wte.dtype).equal(wte):
            raise WeightsError(
                f"{stored.where}: {name} of shape {list(stored.shapes[name])} is not equal to "
                f"wte.weight of shape {list(wte.shape)}: this GPT has one matrix for both"
            )


def save_model(
    model: GPT,
    folder: str | Path,
    add: Callable[[Path], None] | None = None,
    added_bytes: int = 0,
) -> None:
    """Write a folder that `load_model` and `transformers` open. It is whole, or not there.

    The model that `folder` held is replaced as a whole; any other files there stay. What could not
    be loaded again is refused before anything is replaced.

    add: writes `added_bytes` more into the folder, last, before it takes its place.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the one that we mean
    folder = Path(folder)
    tensors = {name: t.detach().contiguous() for name, t in model.state_dict().items()}
    _refuse_what_would_not_load(model.config, tensors, folder)
    config = model.config.to_dict() | {"dtype": str(model.wte.weight.dtype).split(".")[1]}
    generation = {key: config[key] for key in ("bos_token_id", "eos_token_id")}
    files = {"config.json": as_json(config), "generation_config.json": as_json(generation)}
    write_folder(folder, files | model.vocabulary, "model.safetensors", tensors, add, added_bytes)


def write_folder(
    folder: Path,
    files: dict[str, bytes],
    name: str,
    tensors: dict[str, Tensor],
    add: Callable[[Path], None] | None,
    added_bytes: int,
) -> None:
    """Small files, and the tensors in one that is called `name`; see `save_model`."""
    try:
        n_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
        n_bytes += sum(map(len, files.values()))
        refuse_full_disk(folder, n_bytes + added_bytes)
        with replacing_folder(folder, replaces=is_of_a_saved_model) as new:
            for small, content in files.items():
                (new / small).write_bytes(content)
            save_file(tensors, new / name, metadata={"format": "pt"})
            # The library makes a file that its owner alone may read; as shared as its neighbours.
            shutil.copymode(new / next(iter(files)), new / name)
            if add is not None:
                add(new)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{folder}: the model was not saved: {first_line(error)}") from error


def as_json(content: dict) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _refuse_what_would_not_load(
    config: GPTConfig, tensors: dict[str, Tensor], folder: Path
) -> None:
    if any(name.endswith(".lora_A") for name in tensors):
        raise WeightsError(
            f"{folder}: the model was not saved: it has an adapter on it. adapters.save_adapter "
            "writes that, and after lora.merge it is a plain model"
        )
    with torch.device("meta"):
        needed = {name: tuple(t.shape) for name, t in GPT(config).state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    for name in needed | found:
        if needed.get(name) != found.get(name):
            raise WeightsError(
                f"{folder}: the model was not saved: {name} is {found.get(name, 'missing')}, and "
                f"its configuration makes it {needed.get(name, 'no part of it')}"
            )
        if tensors[name].is_meta or not is_finite(tensors[name]):
            raise WeightsError(f"{folder}: the model was not saved: {name} is not all numbers")


def refuse_full_disk(folder: Path, needed: int) -> None:
    """Raise an OSError that gives both numbers, unless the disk has room."""
    there = next((path for path in folder.absolute().parents if path.is_dir()), folder)
    free = shutil.disk_usage(there).free
    if needed + 65_536 > free:  # names and the small files take some too
        raise OSError(f"it needs {needed:,} bytes, and {free:,} are free there")


def is_of_a_saved_model(name: str) -> bool:
    """What must not stay behind: any of these would be read together with the new weights."""
    weights = re.fullmatch(r"model.*\.safetensors(\.index\.json)?", name)
    others = ("config.json", "generation_config.json", "encoder.json", "vocab.bpe")
    ours = (*VOCABULARY_FILES, *_OF_A_RUN, *_OF_AN_ADAPTER)
    return bool(weights) or name.endswith(".distcp") or name in (*others, *ours)


def _demo() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, n_ctx=16, n_layer=1, n_head=2, n_embd=8))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tiny"
        save_model(model, folder)
        print("a tiny model's folder:")
        for path in sorted(folder.iterdir()):
            print(f"  {path.name:<24} {path.stat().st_size:>6,} bytes")

        stored = open_tensors(folder)
        print("\nwhat model.safetensors holds (the head is wte, so it is not there):")
        for name, shape in stored.shapes.items():
            print(f"  {name:<24} {list(shape)!s:<8} {stored.dtypes[name]}")

        pairs = zip(model.parameters(), load_model(folder).parameters(), strict=True)
        same = all(torch.equal(ours, loaded) for ours, loaded in pairs)
        print(f"\nloaded again, {'bit for bit' if same else 'CHANGED'}. And broken on purpose:")
        c_fc = "h.0.mlp.c_fc.weight"
        for what, tensor in (
            ("transposed", model.h[0].mlp.c_fc.weight.detach().T.contiguous()),
            ("not a number", torch.full((8, 32), torch.nan)),
            ("left out", None),
        ):
            state = {name: t for name, t in model.state_dict().items() if name != c_fc}
            state |= {} if tensor is None else {c_fc: tensor}
            save_file(state, folder / "model.safetensors")
            try:
                load_model(folder)
            except WeightsError as error:
                print(f"  {what}: {str(error).removeprefix(str(folder))[1:]}")


if __name__ == "__main__":
    run(_demo)
