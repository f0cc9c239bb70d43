"""The index of a TensorFlow checkpoint: which tensor lies where in the data file.

It is a sorted table of (tensor name, description), laid out from small to large like this:

    varint       an integer, 7 bits a byte, low bits first; a set top bit means "one more byte"
    description  a protobuf message: dtype, shape, shard, offset, size, CRC of the tensor's bytes
    block        many (name, description), each name without the start that it shares with the last
    table        the blocks, then a block that lists the blocks, then a footer that finds that one

A file from the network may be cut short, damaged or made to mislead: every length is held against
what is really there before it is used, and all that is wrong ends in a `CheckpointError` that names
the file and the tensor.

    python -m gpt.tf_index             # a number, a name, a CRC: each decoded by hand

Sources: TensorFlow's tensor_bundle.proto; LevelDB's doc/table_format.md; the protobuf encoding
guide.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gpt.cli import run
from gpt.crc32c import crc32c, masked
from gpt.errors import UserError


class CheckpointError(UserError):
    """A TensorFlow checkpoint that is damaged, incomplete or of a kind that this cannot read."""


@dataclass(frozen=True)
class Entry:
    """What the index says of one tensor."""

    name: str
    dtype: str  # as numpy calls it
    shape: tuple[int, ...]
    shard: int  # which of the data files holds it
    n_shards: int  # how many there are; OpenAI's checkpoints have one
    offset: int  # bytes from the start of that file
    size: int  # bytes
    crc: int  # masked CRC-32C of those bytes


# TensorFlow's numbers, as numpy calls them; a checkpoint that was trained on may hold the others.
_DTYPES = {1: "float32", 2: "float64", 3: "int32", 9: "int64", 14: "bfloat16", 19: "float16"}
_SUPPORTED_DTYPES = ("float32", "float64", "float16")

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")  # how every LevelDB table ends
_TRAILER_BYTES = 5  # after each block: its compression (1), its masked CRC-32C (4)

# Not limits of the format. Names are stored by what they share, so a small file could spell out
# very many very long ones; these keep the worst case to some megabytes.
_MAX_INDEX_BYTES = 1 << 20  # gpt2-xl's index has about 20,000
_MAX_NAME_BYTES = 256  # GPT-2's longest has 26
_MAX_DIMENSIONS = 32  # numpy 1.26 has no more; GPT-2 needs 3


def read_index(prefix: Path) -> dict[str, Entry]:
    """All tensors of a checkpoint, by name. Reads `<prefix>.index` and no data."""
    path = Path(f"{prefix}.index")
    with open_file(path) as file:
        table = file.read(_MAX_INDEX_BYTES + 1)
    try:
        rows = _read_table(table)
        key, header = next(rows, (None, b""))
        if key != b"":
            raise CheckpointError("the header is missing")
        n_shards = _read_header(header)
        entries = [_read_entry(key, value, n_shards) for key, value in rows]
        _refuse_overlaps(entries)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return {entry.name: entry for entry in entries}


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read it; an error of the system, then or later, becomes one of ours."""
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file, and the checkpoint needs it") from None
    except OSError as error:
        raise CheckpointError(f"{path}: not readable: {error.strerror or error}") from None


# The table, outermost part first.


def _read_table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All (key, value) in order, once every block has turned out to be whole."""
    if len(table) > _MAX_INDEX_BYTES:
        raise CheckpointError(f"over {_MAX_INDEX_BYTES:,} bytes: this is no index of a GPT-2")
    if len(table) < _FOOTER_BYTES or not table.endswith(_MAGIC):
        raise CheckpointError("not a TensorFlow index, or cut short: its last 8 bytes are wrong")
    footer = table[-_FOOTER_BYTES : -len(_MAGIC)]
    metaindex, at = _read_handle(footer, 0)
    index, at = _read_handle(footer, at)
    if any(footer[at:]):
        raise CheckpointError("the footer is damaged")
    data = [_read_handle(value, 0)[0] for _, value in _read_block(_check_block(table, *index))]
    # A writer puts the blocks one after the other. To insist on it checks every byte of the file,
    # and makes the work grow with the file, not with how often a block is listed.
    handles = [*data, metaindex, index]
    ends = [start + size + _TRAILER_BYTES for start, size in handles]
    if [0, *ends] != [*(start for start, _ in handles), len(table) - _FOOTER_BYTES]:
        raise CheckpointError("its blocks do not follow one another")
    blocks = [_check_block(table, *handle) for handle in [*data, metaindex]]
    return _in_ascending_order(row for block in blocks[:-1] for row in _read_block(block))


def _in_ascending_order(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Pass the rows on; refuse one whose key repeats, or comes before, the last one's."""
    last = None
    for key, value in rows:
        if last is not None and key <= last:
            raise CheckpointError(f"{key!r} stands after {last!r}: twice, or out of order")
        last = key
        yield key, value


def _read_handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Where a block lies: ((offset, size), the position after the handle)."""
    offset, at = _read_varint(data, at)
    size, at = _read_varint(data, at)
    return (offset, size), at


def _check_block(table: bytes, start: int, size: int) -> bytes:
    whole = _take(table, start, size + _TRAILER_BYTES)
    checked, crc = whole[:-4], int.from_bytes(whole[-4:], "little")
    if masked(crc32c(checked)) != crc:
        raise CheckpointError(f"damaged: the CRC-32C of the block at byte {start:,} is wrong")
    block, compression = checked[:-1], checked[-1]
    if compression:
        name = "Snappy" if compression == 1 else f"number {compression}"
        raise CheckpointError(f"compression ({name}) is not supported; OpenAI's files have none")
    return block


def _read_block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value). The restart points at the end serve a search; we read all in order."""
    n_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * n_restarts
    if end < 0:
        raise CheckpointError(f"a block of {len(block):,} bytes has no {n_restarts:,} restarts")
    rows, at, key = block[:end], 0, b""
    while at < end:
        shared, at = _read_varint(rows, at)  # bytes at the start of the last key that stay
        fresh, at = _read_varint(rows, at)  # bytes of this key that follow them
        size, at = _read_varint(rows, at)
        if shared > len(key) or shared + fresh > _MAX_NAME_BYTES:
            raise CheckpointError(f"a name has {shared:,} + {fresh:,} bytes after {key!r}")
        key = key[:shared] + _take(rows, at, fresh)
        yield key, _take(rows, at + fresh, size)
        at += fresh + size


# The values: protobuf messages. Each field is a number, the kind of its value, and the value.


def _read_header(value: bytes) -> int:
    """BundleHeaderProto: how many data files there are."""
    header = _read_message(value)
    n_shards, endianness = _one(header, 1, 0), _one(header, 2, 0)
    min_consumer = _one(_read_message(_one(header, 3, b"")), 2, 0)
    if n_shards < 1:
        raise CheckpointError(f"it has {n_shards} data files")
    if endianness != 0:
        raise CheckpointError("big-endian data is not supported; OpenAI's files are little-endian")
    if min_consumer > 1:
        raise CheckpointError("a later version of the format, which this cannot read")
    return n_shards


def _read_entry(key: bytes, value: bytes, n_shards: int) -> Entry:
    """BundleEntryProto: one tensor."""
    try:
        fields = _read_message(value)
        if 7 in fields:
            raise CheckpointError("stored in slices (a partitioned variable): not supported")
        if 6 not in fields:
            raise CheckpointError("it has no CRC-32C, so nothing could tell whether it is damaged")
        entry = Entry(
            name=key.decode("utf-8"),
            dtype=_read_dtype(_one(fields, 1, 0)),
            shape=_read_shape(_one(fields, 2, b"")),
            shard=_one(fields, 3, 0),
            n_shards=n_shards,
            offset=_one(fields, 4, 0),
            size=_one(fields, 5, 0),
            crc=_one(fields, 6, 0),
        )
        _refuse_impossible(entry)
    except (CheckpointError, UnicodeDecodeError) as error:
        raise CheckpointError(f"tensor {key.decode(errors='replace')!r}: {error}") from None
    return entry


def _read_dtype(number: int) -> str:
    dtype = _DTYPES.get(number, f"number {number}")
    if dtype not in _SUPPORTED_DTYPES:
        raise CheckpointError(f"dtype {dtype}: only {', '.join(_SUPPORTED_DTYPES)} are supported")
    return dtype


def _read_shape(value: bytes) -> tuple[int, ...]:
    """TensorShapeProto: a message for each dimension."""
    fields = _read_message(value)
    dimensions = fields.get(2, [])
    if _one(fields, 3, 0) or len(dimensions) > _MAX_DIMENSIONS:
        raise CheckpointError("its shape is unknown, or has too many dimensions")
    if not all(isinstance(dimension, bytes) for dimension in dimensions):
        raise CheckpointError("its shape is malformed")
    return tuple(_one(_read_message(dimension), 1, 0) for dimension in dimensions)


def _refuse_impossible(entry: Entry) -> None:
    if not 0 <= entry.shard < entry.n_shards:
        raise CheckpointError(f"it lies in data file {entry.shard} of {entry.n_shards}")
    if entry.offset < 0:
        raise CheckpointError(f"it starts at byte {entry.offset}")
    if any(size < 1 for size in entry.shape):
        raise CheckpointError(f"its shape is {list(entry.shape)}, which holds no numbers")
    # Python's integers do not overflow: a shape of [2**40, 2**40] is simply too large to fit.
    needed = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    if entry.size != needed:
        raise CheckpointError(
            f"{entry.dtype} {list(entry.shape)} takes {needed:,} bytes, and it has {entry.size:,}"
        )


def _refuse_overlaps(entries: list[Entry]) -> None:
    in_order = sorted(entries, key=lambda entry: (entry.shard, entry.offset))
    for one, other in pairwise(in_order):
        if one.shard == other.shard and one.offset + one.size > other.offset:
            raise CheckpointError(f"tensors {one.name!r} and {other.name!r} overlap")


def _read_message(data: bytes) -> dict[int, list[int | bytes]]:
    """All values of each field, by its number: a field may stand several times."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _read_varint(data, at)
            value -= (value >> 63) << 64  # negative ones are written in two's complement
        elif kind == 2:
            size, at = _read_varint(data, at)
            value, at = _take(data, at, size), at + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = int.from_bytes(_take(data, at, size), "little"), at + size
        else:
            raise CheckpointError(f"protobuf has no values of kind {kind}")
        fields.setdefault(number, []).append(value)
    return fields


def _one(fields: dict[int, list[int | bytes]], number: int, default: int | bytes) -> int | bytes:
    """The value of a field that stands once or, as protobuf leaves out what is zero, not at all."""
    values = fields.get(number, [default])
    if len(values) > 1 or type(values[0]) is not type(default):
        raise CheckpointError(f"protobuf field {number} is malformed")
    return values[0]


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(the number, the position after it)."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):  # 10 x 7 bits hold 64
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80 and value < 1 << 64:
            return value, at + i + 1
    raise CheckpointError("a number does not end, or has more than 64 bits")


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise CheckpointError(f"{size:,} bytes are announced where {max(len(data) - at, 0):,} are")
    return data[at : at + size]


def _demo() -> None:
    number, _ = _read_varint(b"\x80\x48", 0)
    print(f"A number: 80 48 is {number:,}, since 0x00 + 0x48 * 2**7 = {0x48 * 2**7:,}\n")

    rows = [(0, b"model/h0/ln_1/b", b"\x01"), (14, b"g", b"\x02"), (7, b"1/ln_1/b", b"\x03")]
    block = b"".join(bytes([n, len(key), len(value)]) + key + value for n, key, value in rows)
    block += bytes(4) + (1).to_bytes(4, "little")  # one restart, at byte 0
    print("A block: each name says how much of the last one it keeps")
    for (shared, key, _), (name, value) in zip(rows, _read_block(block), strict=True):
        tf_name = name.decode()
        print(f"  keep {shared:>2}, add {key.decode():<15} -> {tf_name:<15} = {value.hex()}")

    crc = crc32c(b"123456789")
    print(f'\nA CRC-32C: of "123456789" it is {crc:#010x}; the files store {masked(crc):#010x}')


if __name__ == "__main__":
    run(_demo)
