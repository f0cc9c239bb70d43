"""Tensors in files. Their names and shapes first; their numbers only when asked for.

Three formats, one way to look at them, `StoredTensors`:

    model.safetensors    8 bytes: how long the header is; the header, JSON; then the numbers
                         (or several such files, with an index that says which holds what)
    pytorch_model.bin    a pickle, which is a program: read only as far as torch can promise that
                         nothing in it runs (`weights_only=True`)
    model.ckpt.*         TensorFlow's, see tf_checkpoint.py

A file is believed only where its own size bears it out: a header that promises more than the file
holds is an error that names the tensor, before anything is allocated for it.
"""

import functools
import json
import math
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpt import tf_checkpoint
from gpt.errors import UserError
from gpt.tf_index import read_index

Shape = tuple[int, ...]


class WeightsError(UserError):
    """Files that are not, tensor by tensor, what they should be."""


@dataclass
class StoredTensors:
    where: Path  # the file that a message names
    shapes: dict[str, Shape]
    dtypes: dict[str, torch.dtype]
    read: Callable[[str], Tensor]


def open_tensors(folder: Path) -> StoredTensors:
    """The weights of a model's folder: safetensors where it has them, since those can be mapped."""
    if (path := folder / "model.safetensors").is_file():
        return open_safetensors(path)
    if (path := folder / "model.safetensors.index.json").is_file():
        return _open_shards(path)
    if (path := folder / "pytorch_model.bin").is_file():
        return _open_pickle(path)
    if prefix := tf_checkpoint.find_checkpoint(folder):
        return _open_tensorflow(prefix)
    raise WeightsError(
        f"{folder}: no weights here (looked for model.safetensors, model.safetensors.index.json, "
        "pytorch_model.bin and model.ckpt.index; shards of pytorch_model.bin are not read)"
    )


# ---- safetensors ----------------------------------------------------------------------------

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_MAX_HEADER = 100_000_000  # bytes: the safetensors library's own limit


def open_safetensors(path: Path) -> StoredTensors:
    header = _read_header(path)
    shapes = {name: shape for name, (shape, _) in header.items()}
    dtypes = {name: dtype for name, (_, dtype) in header.items()}

    @functools.cache
    def file() -> safe_open:
        return safe_open(path, framework="pt")

    def read(name: str) -> Tensor:
        try:
            tensor = file().get_tensor(name)
        except (SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise WeightsError(f"{path}: {name} cannot be read: {error}") from None
        # A mapped file cannot be replaced on Windows, so that a model could not be saved over the
        # one that it was loaded from; elsewhere the old pages live on as long as they are in use.
        return tensor.clone() if os.name == "nt" else tensor

    return StoredTensors(path, shapes, dtypes, read)


def _read_header(path: Path) -> dict[str, tuple[Shape, torch.dtype]]:
    """Names, shapes and dtypes, held against the size that the file really has."""
    size = path.stat().st_size
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        if size < 8 or n_header > min(size - 8, _MAX_HEADER):
            raise WeightsError(
                f"{path}: not a safetensors file, or cut short: it has {size:,} bytes and begins "
                f"by promising a header of {n_header:,}"
            )
        text = file.read(n_header)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
        header.pop("__metadata__", None)
    except (ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: the header is damaged: {error}") from None

    tensors, spans = {}, []
    for name, entry in header.items():
        shape, dtype, start, stop = _parse_entry(entry, f"{path}: {name}")
        n_bytes = math.prod(shape) * dtype.itemsize
        if stop - start != n_bytes:
            raise WeightsError(
                f"{path}: {name} of shape {list(shape)} in {str(dtype)[6:]} takes {n_bytes:,} "
                f"bytes, and the header gives it {stop - start:,}"
            )
        tensors[name] = (shape, dtype)
        spans.append((start, stop, name))

    expected, n_data = 0, size - 8 - n_header
    for start, stop, name in sorted(spans):
        if start != expected:
            raise WeightsError(
                f"{path}: {name} begins at byte {start:,} of the data, where {expected:,} was due: "
                "tensors overlap or leave a gap"
            )
        if stop > n_data:
            raise WeightsError(
                f"{path}: {name} ends at byte {stop:,} of the data, and the file has {n_data:,}: "
                "it was cut short; fetch it again"
            )
        expected = stop
    if expected != n_data:
        raise WeightsError(f"{path}: {n_data - expected:,} bytes after the last tensor")
    return tensors


def _parse_entry(entry: object, where: str) -> tuple[Shape, torch.dtype, int, int]:
    try:
        dtype, shape = entry["dtype"], entry["shape"]
        start, stop = entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise WeightsError(f"{where}: needs dtype, shape and two data_offsets") from None
    numbers = [*shape, start, stop] if isinstance(shape, list) else [None]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise WeightsError(f"{where}: shape {shape!r} or data_offsets [{start!r}, {stop!r}]")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise WeightsError(f"{where}: unknown dtype {dtype!r}")
    return tuple(shape), _DTYPES[dtype], start, stop


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON keeps the last of two equal keys, and the first would be lost without a word."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ValueError(f"{name} stands twice")
    return fields


def _open_shards(index: Path) -> StoredTensors:
    try:
        fields = json.loads(index.read_text(encoding="utf-8"))
        file_of = dict(fields["weight_map"])
        names = sorted(set(file_of.values()))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{index}: no weight_map that can be read: {error!r}") from None
    shards = {}
    for name in names:
        if not re.fullmatch(r"[\w.-]+\.safetensors", str(name)):  # a path could lead anywhere
            raise WeightsError(f"{index}: {name!r} is not the name of a safetensors file beside it")
        if not (index.parent / name).is_file():
            raise WeightsError(f"{index.parent / name}: missing, and {index.name} needs it")
        shards[name] = open_safetensors(index.parent / name)

    shapes, dtypes = {}, {}
    for shard_name, shard in shards.items():
        for name in shard.shapes:
            if file_of.get(name) != shard_name:
                raise WeightsError(
                    f"{shard.where}: holds {name}, which {index.name} places in "
                    f"{file_of.get(name, 'no file')}"
                )
        shapes |= shard.shapes
        dtypes |= shard.dtypes
    if absent := sorted(file_of.keys() - shapes.keys()):
        raise WeightsError(f"{index.parent / file_of[absent[0]]}: {absent[0]} is missing")
    return StoredTensors(index, shapes, dtypes, lambda name: shards[file_of[name]].read(name))


# ---- pytorch_model.bin ----------------------------------------------------------------------


def _open_pickle(path: Path) -> StoredTensors:
    try:
        # Files from before torch 1.6 are no zip archives, and only those can be mapped.
        is_zip = zipfile.is_zipfile(path) and os.name != "nt"
        with warnings.catch_warnings(action="ignore"):  # torch's, of odd files: we say our own
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged or hostile pickle can make torch raise anything at all
        asks_for = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks for {asks_for[1]}" if asks_for else "it is damaged, or no torch file"
        raise WeightsError(f"{path}: {reason}; nothing in it was run, nothing loaded") from None
    if not isinstance(tensors, dict):
        raise WeightsError(f"{path}: holds a {type(tensors).__name__}, not tensors by name")

    owners: dict[int, str] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or not _is_plain(tensor):
            raise WeightsError(f"{path}: {name!r} is a {type(tensor).__name__}, no dense tensor")
        tensors[name] = tensor = tensor.detach()  # a Parameter would ask for its gradient
        storage = tensor.untyped_storage()
        if storage.nbytes() < tensor.numel() * tensor.element_size():  # few numbers, repeated
            raise WeightsError(f"{path}: {name} claims more numbers than the file holds for it")
        # Two names for one piece of memory would be one parameter, and train as one.
        if owners.setdefault(storage.data_ptr(), name) != name:
            tensors[name] = tensor.clone()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    return StoredTensors(path, shapes, dtypes, lambda name: tensors[name].contiguous())


def _is_plain(tensor: Tensor) -> bool:
    """Numbers in memory, one after the other: not sparse, not nested, not a promise of some."""
    on_cpu = tensor.device.type == "cpu"
    return on_cpu and tensor.layout is torch.strided and not tensor.is_nested


# ---- TensorFlow -----------------------------------------------------------------------------


def _open_tensorflow(prefix: Path) -> StoredTensors:
    """OpenAI's names and shapes become GPT-2's; a tensor that GPT-2 has not keeps its own."""
    entries, shapes, dtypes = {}, {}, {}
    for tf_name, entry in read_index(prefix).items():
        name = tf_checkpoint.hugging_face_name(tf_name) or tf_name
        entries[name] = entry
        shapes[name] = tf_checkpoint.hugging_face_shape(tf_name, entry.shape)
        dtypes[name] = getattr(torch, entry.dtype)
    tf_checkpoint.refuse_short_files(prefix, entries.values())

    def read(name: str) -> Tensor:
        array = tf_checkpoint.read_tensor(prefix, entries[name])
        return torch.from_numpy(array).view(shapes[name])

    return StoredTensors(Path(f"{prefix}.index"), shapes, dtypes, read)
