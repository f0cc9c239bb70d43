"""OpenAI's own GPT-2 files, read without TensorFlow and with every byte checked.

OpenAI published GPT-2 as TensorFlow checkpoints, of which two files matter: `model.ckpt.data-…`,
all tensors one after the other, little-endian; and `model.ckpt.index`, which says what lies where
and is read by `tf_index.py`. Here the tensors are read, each held against the CRC that the index
has for it, and given the names by which the rest of the world knows GPT-2's weights.

    python -m gpt.tf_index             # how the index is laid out, decoded by hand

Source: TensorFlow's tensor_bundle.h.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np

from gpt.crc32c import crc32c, masked
from gpt.tf_index import CheckpointError, Entry, open_file


def find_checkpoint(folder: Path) -> Path | None:
    """The prefix that the files of a folder's checkpoint share, `model.ckpt` in OpenAI's."""
    folder = Path(folder)
    named = _named_in_checkpoint_file(folder / "checkpoint")
    if named and (folder / f"{named}.index").is_file():
        return folder / named
    found = sorted(path for path in folder.glob("*.ckpt*.index") if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"{folder}: several checkpoints ({names}): keep the one to load")
    return found[0].with_suffix("") if found else None


def _named_in_checkpoint_file(path: Path) -> str | None:
    """TensorFlow's note of its last save, often a path on another machine: only its name counts."""
    if not path.is_file():
        return None
    with open_file(path) as file:
        text = file.read(65_536).decode("utf-8", errors="replace")
    line = re.search(r'^\s*model_checkpoint_path\s*:\s*"([^"\n]*)"', text, re.MULTILINE)
    name = re.split(r"[/\\]", line[1])[-1] if line else ""
    return name if re.fullmatch(r"\w[\w.+-]*", name) else None


def refuse_short_files(prefix: Path, entries: Iterable[Entry]) -> None:
    """Hold the data files against all that they should contain, before any of it is read."""
    in_order = sorted(entries, key=lambda entry: (entry.shard, entry.offset))
    for path, group in groupby(in_order, lambda entry: _data_file(prefix, entry)):
        inside = list(group)
        with open_file(path) as file:
            found = file.seek(0, 2)
        needed = max(entry.offset + entry.size for entry in inside)
        for entry in inside:
            if entry.offset + entry.size > found:
                raise CheckpointError(
                    f"{path}: cut short: {needed:,} bytes are needed, {found:,} are there, and "
                    f"{entry.name!r} is the first tensor that does not fit; download it again"
                )


def read_tensor(prefix: Path, entry: Entry) -> np.ndarray:
    """A fresh array that the caller owns and may write to; its CRC is right, or there is none."""
    path = _data_file(prefix, entry)
    little_endian = np.dtype(entry.dtype).newbyteorder("<")
    with open_file(path) as file:
        available = file.seek(0, 2) - entry.offset
        if available < entry.size:
            raise CheckpointError(f"{path}: tensor {entry.name!r}: the file ends before it does")
        array = np.empty(entry.shape, little_endian)  # of entry.size bytes, which the file has
        as_bytes = array.reshape(-1).view(np.uint8)
        file.seek(entry.offset)
        if file.readinto(as_bytes) != entry.size:  # straight into the array: no second copy
            raise CheckpointError(f"{path}: tensor {entry.name!r}: it shrank while it was read")
    crc = masked(crc32c(as_bytes))
    if crc != entry.crc:
        raise CheckpointError(
            f"{path}: tensor {entry.name!r}: damaged: its CRC-32C is {crc:#010x} and the index "
            f"says {entry.crc:#010x}; download the file again"
        )
    return array.astype(entry.dtype, copy=False)  # a copy only on big-endian machines


def _data_file(prefix: Path, entry: Entry) -> Path:
    return Path(f"{prefix}.data-{entry.shard:05d}-of-{entry.n_shards:05d}")


# GPT-2's weights under two names. OpenAI ran each linear layer as a convolution of width 1, whose
# weight is [1, in, out]; our GPT keeps [in, out], and so nothing has to be transposed.

_LINEARS = ("attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj")
_SUFFIXES = {"w": "weight", "g": "weight", "b": "bias"}  # g: the gain of a LayerNorm
_EMBEDDINGS = {"model/wte": "wte.weight", "model/wpe": "wpe.weight"}
_LINEAR = re.compile(rf"model/h(0|[1-9][0-9]*)/({'|'.join(_LINEARS)})/([wb])")
_NORM = re.compile(r"model/h(0|[1-9][0-9]*)/(ln_[12])/([gb])")
_LAST_NORM = re.compile(r"model/ln_f/([gb])")


def hugging_face_name(tf_name: str) -> str | None:
    """`model/h0/attn/c_attn/w` -> `h.0.attn.c_attn.weight`; None if GPT-2 has no such weight."""
    if tf_name in _EMBEDDINGS:
        return _EMBEDDINGS[tf_name]
    if match := _LAST_NORM.fullmatch(tf_name):
        return f"ln_f.{_SUFFIXES[match[1]]}"
    if match := _LINEAR.fullmatch(tf_name) or _NORM.fullmatch(tf_name):
        layer, part, suffix = match.groups()
        return f"h.{layer}.{part.replace('/', '.')}.{_SUFFIXES[suffix]}"
    return None


def hugging_face_shape(tf_name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without the convolution's width: [1, in, out] -> [in, out]; others as they are."""
    match = _LINEAR.fullmatch(tf_name)
    is_convolution = match and match[3] == "w" and len(shape) == 3 and shape[0] == 1
    return shape[1:] if is_convolution else shape
