"""Writes checkpoints as TensorFlow does, piece by piece, so that tests can also write wrong ones.

`write_checkpoint` makes a whole one. The pieces below it (`entry_proto`, `block`, `table`) take
whatever they are given, sealed with right CRCs: lies reach the reader's inner parsers.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gpt.crc32c import crc32c, masked
from gpt.model import GPT
from gpt.tf_checkpoint import hugging_face_name

MAGIC = bytes.fromhex("57fb808b247547db")
HEADER = bytes.fromhex("08011a020801")  # one shard, little-endian, version 1: OpenAI's own
DTYPES = {"float32": 1, "float64": 2, "int64": 9, "float16": 19}


def write_checkpoint(
    prefix: Path, tensors: dict[str, np.ndarray], n_shards: int = 1, block_bytes: int = 1 << 18
) -> None:
    """Tensors sorted by name, shared out over the shards in turn, packed with no gap."""
    data = [bytearray() for _ in range(n_shards)]
    rows = [(b"", varint_field(1, n_shards) + HEADER[2:])]
    for i, (name, array) in enumerate(sorted(tensors.items())):
        shard = i % n_shards
        raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
        entry = entry_proto(
            DTYPES[array.dtype.name], array.shape, len(data[shard]), len(raw), raw, shard
        )
        rows.append((name.encode(), entry))
        data[shard] += raw
    Path(f"{prefix}.index").write_bytes(table(split(rows, block_bytes)))
    for shard, content in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{n_shards:05d}").write_bytes(content)


def write_openai_folder(folder: Path, model: GPT) -> None:
    """What OpenAI published, and the book's downloader leaves in gpt2/<size>/."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        parts = name.replace("h.", "h", 1).split(".") if name.startswith("h.") else name.split(".")
        last = {"bias": "b", "weight": "g" if "ln_" in name else "w"}[parts[-1]]
        parts = parts[:-1] if parts[0] in ("wte", "wpe") else [*parts[:-1], last]
        tf_name = "model/" + "/".join(parts)
        assert hugging_face_name(tf_name) == name
        is_convolution = tensor.dim() == 2 and parts[-1] == "w"
        tensors[tf_name] = (tensor[None] if is_convolution else tensor).numpy()
    write_checkpoint(folder / "model.ckpt", tensors)
    c = model.config
    hparams = {"n_vocab": c.vocab_size, "n_ctx": c.n_ctx, "n_embd": c.n_embd}
    hparams |= {"n_head": c.n_head, "n_layer": c.n_layer}
    (folder / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n', encoding="utf-8")


def entry_proto(
    dtype: int,
    shape: Iterable[int],
    offset: int,
    size: int,
    raw: bytes | None = None,
    shard: int = 0,
    crc: int | None = None,
) -> bytes:
    """BundleEntryProto, with raw's CRC or a given one. What is zero is left out, as in protobuf."""
    dims = b"".join(bytes_field(2, varint_field(1, dim)) for dim in shape)
    crc = masked(crc32c(raw)) if crc is None and raw is not None else crc or 0
    return (
        varint_field(1, dtype)
        + bytes_field(2, dims)
        + varint_field(3, shard)
        + varint_field(4, offset)
        + varint_field(5, size)
        + b"\x35"
        + crc.to_bytes(4, "little")
    )


def varint(value: int) -> bytes:
    value %= 1 << 64  # two's complement
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def split(rows: list[tuple[bytes, bytes]], block_bytes: int) -> list[list[tuple[bytes, bytes]]]:
    """Rows by block: a block is closed once its rows have that many bytes."""
    blocks, filled = [[]], 0
    for key, value in rows:
        if filled >= block_bytes:
            blocks.append([])
            filled = 0
        blocks[-1].append((key, value))
        filled += len(key) + len(value)
    return blocks


def block(rows: Iterable[tuple[bytes, bytes]], restart_interval: int = 16) -> bytes:
    out, restarts, last = bytearray(), [], b""
    for i, (key, value) in enumerate(rows):
        shared = 0
        if i % restart_interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    for number in [*(restarts or [0]), max(len(restarts), 1)]:
        out += number.to_bytes(4, "little")
    return bytes(out)


def sealed(content: bytes, compression: int = 0) -> bytes:
    checked = content + bytes([compression])
    return checked + masked(crc32c(checked)).to_bytes(4, "little")


def table(blocks: list[list[tuple[bytes, bytes]]]) -> bytes:
    """Blocks of rows. An index key is any that is not below its block's last: LevelDB shortens."""
    keys = [rows[-1][0] for rows in blocks[:-1]]
    last = blocks[-1][-1][0] if blocks[-1] else b""
    keys.append(bytes([last[0] + 1]) if last and last[0] < 255 else last)
    return table_of_contents([block(rows) for rows in blocks], keys)


def table_of_contents(contents: list[bytes], keys: list[bytes] | None = None) -> bytes:
    """The table of blocks whose contents are given, whatever they are."""
    out, rows = bytearray(), []
    for i, content in enumerate(contents):
        key = keys[i] if keys else b"%05d" % i
        rows.append((key, varint(len(out)) + varint(len(content))))
        out += sealed(content)
    metaindex = varint(len(out)) + varint(len(block([])))
    out += sealed(block([]))
    content = block(rows, restart_interval=1)
    index = varint(len(out)) + varint(len(content))
    out += sealed(content)
    return bytes(out) + (metaindex + index).ljust(40, b"\0") + MAGIC
