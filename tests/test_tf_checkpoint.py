"""OpenAI's files are read as they are; a file that is wrong in any way is refused, cheaply."""

import json
import math
import random
import re
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt import crc32c as crc32c_module
from gpt.crc32c import crc32c, masked
from gpt.tf_checkpoint import (
    find_checkpoint,
    hugging_face_name,
    hugging_face_shape,
    read_tensor,
    refuse_short_files,
)
from gpt.tf_index import CheckpointError, read_index
from tests import tf_writer as w

ROOT = Path(__file__).parents[1]
OPENAI = ROOT.parent / "shared/gpt2/124M"
needs_openai = pytest.mark.skipif(
    not (OPENAI / "model.ckpt.index").is_file(), reason=f"OpenAI's index is not in {OPENAI}"
)


def narrow_gpt2(n_layer: int = 3, C: int = 8) -> dict[str, np.ndarray]:
    """The tensors of a small GPT-2 under OpenAI's names, filled at random."""
    shapes = {"wte": (33, C), "wpe": (10, C), "ln_f/g": (C,), "ln_f/b": (C,)}
    for i in range(n_layer):
        for part, n_in, n_out in [
            ("attn/c_attn", C, 3 * C),
            ("attn/c_proj", C, C),
            ("mlp/c_fc", C, 4 * C),
            ("mlp/c_proj", 4 * C, C),
        ]:
            shapes |= {f"h{i}/{part}/w": (1, n_in, n_out), f"h{i}/{part}/b": (n_out,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h{i}/{norm}/g": (C,), f"h{i}/{norm}/b": (C,)}
    rng = np.random.default_rng(0)
    return {
        f"model/{name}": rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """A checkpoint of several blocks. Tests that harm it work on their own copy."""
    prefix = tmp_path_factory.mktemp("tf") / "model.ckpt"
    w.write_checkpoint(prefix, narrow_gpt2(), block_bytes=512)
    return prefix


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The prefix of a checkpoint that a test writes over and over."""
    return tmp_path_factory.mktemp("lab") / "model.ckpt"


@pytest.fixture(scope="module", autouse=True)
def crc_tables():
    """Made once and kept: not what a test of memory should count."""
    crc32c(bytes(1 << 20))


def load(prefix: Path) -> dict[str, np.ndarray]:
    entries = read_index(prefix)
    refuse_short_files(prefix, entries.values())
    return {name: read_tensor(prefix, entry) for name, entry in entries.items()}


def put(prefix: Path, index: bytes, data: bytes = b"") -> None:
    Path(f"{prefix}.index").write_bytes(index)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)


def put_rows(prefix: Path, *rows: tuple[bytes, bytes], header: bytes = w.HEADER) -> None:
    put(prefix, w.table([[(b"", header), *rows]]), bytes(64))


def good_entry(offset: int = 0) -> bytes:
    return w.entry_proto(1, (2,), offset, 8, raw=bytes(8))


@contextmanager
def memory_below(limit: int):
    """Of which reading an index takes one megabyte: the longest that could be one of a GPT-2."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# The CRC.


def crc32c_of_the_textbook(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register = _BYTE_TABLE[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


def _one_byte(register: int) -> int:
    for _ in range(8):
        register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register


_BYTE_TABLE = [_one_byte(byte) for byte in range(256)]


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc_of_published_vectors(data, crc):
    assert crc32c(data) == crc == crc32c_of_the_textbook(data)


@pytest.mark.parametrize("lanes", [1, 2, 8, crc32c_module._LANES])
def test_crc_equals_the_textbook_at_every_length(monkeypatch, lanes):
    monkeypatch.setattr(crc32c_module, "_LANES", lanes)
    data = np.random.default_rng(0).bytes(301)
    for length in range(301):
        assert crc32c(data[:length]) == crc32c_of_the_textbook(data[:length])


def test_crc_equals_the_textbook_where_rows_begin_and_end():
    row = 4 * crc32c_module._LANES
    rng = random.Random(0)
    lengths = [n * row + d for n in (1, 2, 3) for d in (-4, -1, 0, 1, 4)]
    for length in [*lengths, *(rng.randrange(5 * row) for _ in range(10))]:
        data = rng.randbytes(length)
        assert crc32c(data) == crc32c_of_the_textbook(data)


def test_crc_of_an_array_is_that_of_its_bytes():
    array = np.arange(1000, dtype="<f4").reshape(10, 100)
    assert crc32c(array) == crc32c(array.tobytes())
    assert crc32c(array[3:]) == crc32c(array[3:].tobytes())


# OpenAI's own files.


@needs_openai
def test_openais_index_is_read_whole():
    entries = read_index(find_checkpoint(OPENAI))
    C = json.loads((OPENAI / "hparams.json").read_text())["n_embd"]
    assert len(entries) == 4 + 12 * 12
    assert sum(entry.size for entry in entries.values()) == 497_759_232
    assert max(entry.offset + entry.size for entry in entries.values()) == 497_759_232
    assert {entry.dtype for entry in entries.values()} == {"float32"}
    ours = narrow_gpt2(n_layer=12)
    assert entries.keys() == ours.keys()
    assert entries["model/wte"].shape == (50257, C)
    assert entries["model/wpe"].shape == (1024, C)
    for name, array in ours.items():
        if name not in ("model/wte", "model/wpe"):  # all others scale with C alone
            wide = tuple(size if size == 1 else size * C // 8 for size in array.shape)
            assert entries[name].shape == wide


@needs_openai
def test_openais_first_tensor_has_the_crc_that_the_index_says():
    entry = read_index(OPENAI / "model.ckpt")["model/h0/attn/c_attn/b"]
    raw = (OPENAI / "first-tensor.bin").read_bytes()
    assert (entry.offset, entry.size, entry.shape) == (0, len(raw), (2304,))
    assert masked(crc32c(raw)) == entry.crc == 0x8C273D74


@needs_openai
def test_openais_first_tensor_is_read(tmp_path):
    raw = (OPENAI / "first-tensor.bin").read_bytes()
    put(tmp_path / "model.ckpt", (OPENAI / "model.ckpt.index").read_bytes(), raw)
    entries = read_index(tmp_path / "model.ckpt")
    first = entries["model/h0/attn/c_attn/b"]
    assert read_tensor(tmp_path / "model.ckpt", first).tobytes() == raw
    with pytest.raises(CheckpointError) as error:
        refuse_short_files(tmp_path / "model.ckpt", entries.values())
    assert "497,759,232" in str(error.value) and "9,216" in str(error.value)
    assert "model/h0/attn/c_attn/w" in str(error.value)  # the second in the file


@needs_openai
def test_the_tests_writer_makes_openais_index_byte_for_byte():
    rows = [(b"", w.HEADER)] + [
        (e.name.encode(), w.entry_proto(1, e.shape, e.offset, e.size, crc=e.crc))
        for e in read_index(OPENAI / "model.ckpt").values()
    ]
    assert w.table([rows]) == (OPENAI / "model.ckpt.index").read_bytes()


# Reading what was written.


def test_a_written_checkpoint_loads_and_equals(prefix):
    loaded, tensors = load(prefix), narrow_gpt2()
    assert loaded.keys() == tensors.keys()
    for name, array in loaded.items():
        assert array.dtype == np.float32 and array.shape == tensors[name].shape
        assert array.tobytes() == tensors[name].tobytes()
        assert array.flags.writeable and array.flags.owndata and array.dtype.isnative


@pytest.mark.parametrize("block_bytes", [1, 100, 5000, 1 << 18])
@pytest.mark.parametrize("n_shards", [1, 3])
def test_blocks_and_shards_change_nothing(tmp_path, block_bytes, n_shards):
    tensors = narrow_gpt2(n_layer=1)
    w.write_checkpoint(tmp_path / "model.ckpt", tensors, n_shards, block_bytes)
    loaded = load(tmp_path / "model.ckpt")
    assert {n: a.tolist() for n, a in loaded.items()} == {n: a.tolist() for n, a in tensors.items()}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (1, 2, 3)])
def test_dtypes_and_shapes(tmp_path, dtype, shape):
    array = np.full(shape, 1.5, dtype)
    w.write_checkpoint(tmp_path / "x", {"model/wte": array})
    loaded = load(tmp_path / "x")["model/wte"]
    assert (loaded.dtype, loaded.shape, loaded.tolist()) == (dtype, shape, array.tolist())


def test_reading_a_tensor_takes_the_memory_of_that_tensor(tmp_path):
    tensors = {f"model/h{i}/ln_1/g": np.full(250_000, i, np.float32) for i in range(8)}
    w.write_checkpoint(tmp_path / "x", tensors)
    with memory_below(4_000_000):  # 1 MB each: what is not kept is gone
        for name, entry in read_index(tmp_path / "x").items():
            assert read_tensor(tmp_path / "x", entry)[-1] == tensors[name][-1]


# Finding one.


def test_the_checkpoint_is_the_one_that_the_checkpoint_file_names(tmp_path):
    assert find_checkpoint(tmp_path) is None
    assert find_checkpoint(tmp_path / "absent") is None
    (tmp_path / "model.ckpt.index").touch()
    assert find_checkpoint(tmp_path) == tmp_path / "model.ckpt"
    (tmp_path / "model-7.index").touch()
    for path in ("model-7", "/home/someone/run/model-7", r"C:\run\model-7", "../../model-7"):
        (tmp_path / "checkpoint").write_text(
            f'model_checkpoint_path: "{path}"\nall_model_checkpoint_paths: "model.ckpt"\n'
        )
        assert find_checkpoint(tmp_path) == tmp_path / "model-7"


def test_a_checkpoint_file_leads_nowhere_else(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "other.index").touch()
    (tmp_path / ".index").touch()
    for path in ("../other", "..", "../", "", "a/..", str(tmp_path / "other"), "no-such", "\0"):
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "{path}"\n')
        assert find_checkpoint(folder) is None
    (folder / "checkpoint").write_bytes(b"\xff\xfe\0nonsense")
    assert find_checkpoint(folder) is None


def test_several_checkpoints_are_not_guessed_between(tmp_path):
    (tmp_path / "a.ckpt.index").touch()
    (tmp_path / "b.ckpt-9.index").touch()
    with pytest.raises(CheckpointError, match=r"a\.ckpt\.index, b\.ckpt-9\.index"):
        find_checkpoint(tmp_path)


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.ckpt\.index: no such file"):
        read_index(tmp_path / "model.ckpt")
    w.write_checkpoint(tmp_path / "model.ckpt", narrow_gpt2(1), n_shards=2)
    (tmp_path / "model.ckpt.data-00001-of-00002").unlink()
    with pytest.raises(CheckpointError, match=r"data-00001-of-00002: no such file"):
        load(tmp_path / "model.ckpt")
    (tmp_path / "folder.index").mkdir()
    with pytest.raises(CheckpointError, match=r"folder\.index: not readable"):
        read_index(tmp_path / "folder")


# Names.


def test_openais_names_become_hugging_faces():
    names = {hugging_face_name(name) for name in narrow_gpt2(n_layer=2)}
    parts = [
        *("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"),
        *("attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias"),
        *("mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"),
    ]
    blocks = {f"h.{i}.{part}" for i in range(2) for part in parts}
    assert names == {"wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"} | blocks
    assert hugging_face_name("model/h0/attn/c_attn/w") == "h.0.attn.c_attn.weight"
    assert hugging_face_name("model/h47/ln_2/g") == "h.47.ln_2.weight"


@pytest.mark.parametrize(
    "name",
    [
        *("", "model", "model/wte/w", "model/wte/Adam", "wte", "Model/wte", "model/wte\n"),
        *("model/h00/ln_1/g", "model/h01/ln_1/g", "model/h/ln_1/g", "model/h-1/ln_1/g"),
        *("model/h٣/ln_1/g", "model/h0/ln_3/g", "model/h0/ln_1/w", "model/h0/attn/c_attn/g"),
        *(
            "model/h01/mlp/c_fc/w",
            "model/h0/mlp/c_fc/w/Adam_1",
            "model/ln_f/w",
            "model/ln_1/g",
            "global_step",
        ),
    ],
)
def test_other_names_are_no_weights_of_a_gpt2(name):
    assert hugging_face_name(name) is None


def test_only_the_width_of_a_convolution_is_dropped():
    assert hugging_face_shape("model/h0/mlp/c_fc/w", (1, 8, 32)) == (8, 32)
    assert hugging_face_shape("model/h0/mlp/c_fc/w", (1, 1, 4)) == (1, 4)
    assert hugging_face_shape("model/h0/mlp/c_fc/w", (2, 8, 32)) == (2, 8, 32)
    assert hugging_face_shape("model/h0/mlp/c_fc/w", (8, 32)) == (8, 32)
    assert hugging_face_shape("model/h0/mlp/c_fc/b", (1, 8, 32)) == (1, 8, 32)
    assert hugging_face_shape("model/wte", (1, 8, 32)) == (1, 8, 32)


# Damage.


def test_one_flipped_bit_in_the_data_is_refused_by_tensor_name(prefix, lab):
    index = Path(f"{prefix}.index").read_bytes()
    data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    entries = read_index(prefix)
    rng = random.Random(0)
    ends = [end for e in entries.values() for end in (e.offset, e.offset + e.size - 1)]
    for at in [*ends, *(rng.randrange(len(data)) for _ in range(150))]:
        harmed = bytearray(data)
        harmed[at] ^= 1 << rng.randrange(8)
        put(lab, index, harmed)
        inside = next(e.name for e in entries.values() if e.offset <= at < e.offset + e.size)
        with pytest.raises(CheckpointError, match=rf"'{inside}': damaged"):
            load(lab)


def test_one_flipped_bit_anywhere_in_the_index_is_refused(prefix, lab):
    index = Path(f"{prefix}.index").read_bytes()
    rng = random.Random(0)
    for at in range(len(index)):
        harmed = bytearray(index)
        harmed[at] ^= 1 << rng.randrange(8)
        put(lab, harmed)
        with pytest.raises(CheckpointError, match=r"model\.ckpt\.index"):
            read_index(lab)


def test_an_index_cut_anywhere_is_refused(prefix, lab):
    index = Path(f"{prefix}.index").read_bytes()
    for length in range(len(index)):
        put(lab, index[:length])
        with pytest.raises(CheckpointError, match=r"model\.ckpt\.index"):
            read_index(lab)
    put(lab, index + b"\0")
    with pytest.raises(CheckpointError, match="last 8 bytes"):
        read_index(lab)


def test_a_data_file_cut_short_is_refused_before_anything_is_read(prefix, lab):
    index = Path(f"{prefix}.index").read_bytes()
    data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    by_offset = sorted(read_index(prefix).values(), key=lambda entry: entry.offset)
    for entry in by_offset:
        for length in {entry.offset, entry.offset + 1, entry.offset + entry.size - 1}:
            put(lab, index, data[:length])
            with pytest.raises(CheckpointError) as error:
                refuse_short_files(lab, read_index(lab).values())
            assert f"{len(data):,} bytes are needed, {length:,} are there" in str(error.value)
            assert repr(entry.name) in str(error.value)


def test_a_file_that_shrinks_while_it_is_read_is_refused(prefix, lab):
    for end in (".index", ".data-00000-of-00001"):
        Path(f"{lab}{end}").write_bytes(Path(f"{prefix}{end}").read_bytes())
    entries = list(read_index(lab).values())
    refuse_short_files(lab, entries)
    Path(f"{lab}.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"{entries[0].name}.*the file ends before it does"):
        read_tensor(lab, entries[0])


# Lies, told with right CRCs.


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (w.entry_proto(1, (-2,), 0, 8), "holds no numbers"),
        (w.entry_proto(1, (-2, -1), 0, 8), "holds no numbers"),
        (w.entry_proto(1, (0, 1 << 62), 0, 0), "holds no numbers"),
        (w.entry_proto(1, (3,), 0, 8), r"float32 \[3\] takes 12 bytes, and it has 8"),
        (w.entry_proto(1, (2,), 0, 9), "takes 8 bytes, and it has 9"),
        (w.entry_proto(1, (1 << 40,), 0, 8), "takes 4,398,046,511,104 bytes"),
        (w.entry_proto(1, (1 << 32, 1 << 32), 0, 0), "bytes, and it has 0"),  # 0 modulo 2**64
        (w.entry_proto(1, (1 << 62,) * 32, 0, 8), "bytes, and it has 8"),
        (w.entry_proto(1, (1,) * 33, 0, 4), "too many dimensions"),
        (w.entry_proto(1, (2,), -8, 8), "starts at byte -8"),
        (w.entry_proto(1, (2,), 0, -8), "it has -8"),
        (w.entry_proto(1, (2,), 0, 8, shard=1), "data file 1 of 1"),
        (w.entry_proto(1, (2,), 0, 8, shard=-1), "data file -1 of 1"),
        (w.entry_proto(9, (), 0, 8), "dtype int64"),
        (w.entry_proto(14, (4,), 0, 8), "dtype bfloat16"),
        (w.entry_proto(0, (2,), 0, 8), "dtype number 0"),
        (w.entry_proto(-1, (2,), 0, 8), "dtype number -1"),
        (good_entry() + w.bytes_field(7, b""), "slices"),
        (good_entry() + good_entry(), "field 1 is malformed"),
        (good_entry()[:-5], "no CRC-32C"),
        (good_entry() + w.bytes_field(4, b"8"), "field 4 is malformed"),
        (w.varint_field(1, 1) + w.varint_field(2, 5) + good_entry()[-5:], "field 2 is malformed"),
        (w.bytes_field(2, w.varint_field(3, 1)) + b"\x08\x01" + good_entry()[-5:], "unknown"),
        (w.bytes_field(2, w.varint_field(2, 9)) + b"\x08\x01" + good_entry()[-5:], "malformed"),
        (good_entry() + b"\x0b", "kind 3"),
        (good_entry() + b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "announced"),
        (good_entry() + b"\x08" + b"\xff" * 20, "does not end"),
        (good_entry() + b"\x38" + b"\xff" * 9 + b"\x7f", "64 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_entry_that_lies_is_refused_by_tensor_name(lab, entry, reason):
    put_rows(lab, (b"model/wte", entry))
    with memory_below(2_000_000), pytest.raises(CheckpointError, match=reason) as error:
        read_index(lab)
    assert "tensor 'model/wte': " in str(error.value)
    assert str(error.value).startswith(f"{lab}.index: ")


def test_a_size_that_is_true_to_its_shape_but_not_to_the_file_allocates_nothing(lab):
    put_rows(lab, (b"model/wte", w.entry_proto(1, (1 << 40,), 0, 1 << 42)))
    with memory_below(2_000_000), pytest.raises(CheckpointError, match="cut short"):
        load(lab)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "0 data files"),
        (w.varint_field(1, -1), "-1 data files"),
        (w.HEADER + w.varint_field(2, 1), "big-endian"),
        (w.varint_field(1, 1) + w.bytes_field(3, w.varint_field(2, 2)), "later version"),
        (b"\xff", "does not end"),
    ],
)
def test_a_header_of_another_kind_is_refused(lab, header, reason):
    put_rows(lab, (b"model/wte", good_entry()), header=header)
    with pytest.raises(CheckpointError, match=reason):
        read_index(lab)


def test_a_header_must_be_there(lab):
    for rows in ([], [(b"model/wte", good_entry())]):
        put(lab, w.table([rows]))
        with pytest.raises(CheckpointError, match="header is missing"):
            read_index(lab)


def test_fields_of_later_versions_are_skipped(lab):
    entry = good_entry() + w.varint_field(99, 1) + w.bytes_field(98, b"x") + b"\xf9\x05" + bytes(8)
    put_rows(lab, (b"model/wte", entry))
    assert load(lab)["model/wte"].tolist() == [0, 0]


def test_tensors_that_overlap_are_refused(lab):
    put_rows(lab, (b"model/wpe", good_entry(0)), (b"model/wte", good_entry(7)))
    with pytest.raises(CheckpointError, match="'model/wpe' and 'model/wte' overlap"):
        read_index(lab)
    put_rows(lab, (b"model/wpe", good_entry(8)), (b"model/wte", good_entry(0)))
    assert set(load(lab)) == {"model/wte", "model/wpe"}


@pytest.mark.parametrize("names", [(b"a", b"a"), (b"b", b"a"), (b"",)])
@pytest.mark.parametrize("block_bytes", [1, 1 << 18])
def test_names_twice_or_out_of_order_are_refused(lab, names, block_bytes):
    rows = [(b"", w.HEADER), *((name, good_entry(8 * i)) for i, name in enumerate(names))]
    put(lab, w.table(w.split(rows, block_bytes)))
    with pytest.raises(CheckpointError, match="twice, or out of order"):
        read_index(lab)


def test_a_name_that_is_not_utf8_is_refused(lab):
    put_rows(lab, (b"model/\xff", good_entry()))
    with pytest.raises(CheckpointError, match="utf-8"):
        read_index(lab)


@pytest.mark.parametrize(("number", "name"), [(1, "Snappy"), (7, "number 7")])
def test_compressed_blocks_are_refused_by_name(lab, monkeypatch, number, name):
    sealed = w.sealed
    monkeypatch.setattr(w, "sealed", lambda content: sealed(content, number))
    put_rows(lab, (b"model/wte", good_entry()))
    with pytest.raises(CheckpointError, match=rf"compression \({name}\)"):
        read_index(lab)


HUGE = b"\xff" * 9 + b"\x01"  # the varint of 2**64 - 1
RESTARTS = bytes(4) + b"\1\0\0\0"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no 0 restarts"),
        (b"\1\0\0", "has no 1 restarts"),
        (b"\xff\xff\xff\xff", "has no 4,294,967,295 restarts"),
        (b"\0" + HUGE + b"\0abc" + RESTARTS, "a name has"),
        (b"\0\1" + HUGE + b"abc" + RESTARTS, "announced where 2 are"),
        (HUGE + b"\1\1abc" + RESTARTS, "a name has"),
        (b"\1\1\1ab" + RESTARTS, r"a name has 1 \+ 1 bytes after b''"),
        (b"\0" + RESTARTS, "does not end"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_block_that_lies_allocates_nothing(lab, content, reason):
    put(lab, w.table_of_contents([content]))
    with memory_below(2_000_000), pytest.raises(CheckpointError, match=reason):
        read_index(lab)


def test_handles_that_lie_are_refused(lab):
    put_rows(lab, (b"model/wte", good_entry()))
    table = Path(f"{lab}.index").read_bytes()
    for handles in (HUGE * 4, HUGE * 2 + b"\0\0", b"\0\0" + HUGE * 2, b"\0\0\0\0", b"\xff" * 40):
        put(lab, table[:-48] + handles.ljust(40, b"\0") + w.MAGIC)
        with memory_below(2_000_000), pytest.raises(CheckpointError):
            read_index(lab)


def test_one_block_listed_many_times_is_refused_at_once(lab):
    content = w.block([(b"", w.HEADER)])
    index = w.block([(b"%05d" % i, b"\0" + w.varint(len(content))) for i in range(20_000)])
    head = w.sealed(content)
    meta = w.sealed(w.block([]))
    footer = b"".join(
        w.varint(n) for n in (len(head), len(meta) - 5, len(head) + len(meta), len(index))
    )
    put(lab, head + meta + w.sealed(index) + footer.ljust(40, b"\0") + w.MAGIC)
    with pytest.raises(CheckpointError, match="follow one another"):
        read_index(lab)


def test_names_that_grow_by_sharing_and_huge_indexes_are_refused(lab):
    rows = [(b"", w.HEADER)] + [(b"m" * n, good_entry(8 * n)) for n in range(1, 2000)]
    put(lab, w.table([rows]))
    with pytest.raises(CheckpointError, match="a name has"):
        read_index(lab)
    put(lab, bytes(2 << 20))
    with memory_below(2_000_000), pytest.raises(CheckpointError, match="no index of a GPT-2"):
        read_index(lab)


# Fuzz: whatever the bytes, the answer is a checkpoint or a CheckpointError, in little memory.

fuzz = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
edits = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from("=+-"), st.binary(min_size=1, max_size=12)),
    min_size=1,
    max_size=4,
)
integers = st.sampled_from([-(1 << 63), -8, -1, 0, 1, 2, 4, 8, 64, 1 << 31, 1 << 40, (1 << 63) - 1])


def edited(data: bytes, changes) -> bytes:
    """Overwrite (=), insert (+) or drop (-) some bytes in some places."""
    for at, what, piece in changes:
        at %= len(data) + 1
        rest = at if what == "+" else at + len(piece)
        data = data[:at] + (b"" if what == "-" else piece) + data[rest:]
    return data


def answers(prefix: Path, index: bytes, data: bytes = bytes(64)) -> None:
    put(prefix, index, data)
    with memory_below(2_000_000):
        try:
            load(prefix)
        except CheckpointError as error:
            assert str(error).startswith(str(prefix))


@fuzz
@given(noise=st.binary(max_size=200))
def test_fuzz_noise(lab, noise):
    answers(lab, noise)
    answers(lab, noise[:-48] + noise[-48:].ljust(40, b"\0")[:40] + w.MAGIC)
    answers(lab, w.table_of_contents([noise]))


@fuzz
@given(changes=edits, second=st.booleans())
def test_fuzz_valid_blocks_edited_and_sealed_again(lab, changes, second):
    rows = [(b"model/%d" % i, good_entry(8 * i)) for i in range(8)]
    contents = [w.block([(b"", w.HEADER), *rows[:4]]), w.block(rows[4:])]
    contents[second] = edited(contents[second], changes)
    answers(lab, w.table_of_contents(contents))


@fuzz
@given(changes=edits)
def test_fuzz_a_valid_message_edited(lab, changes):
    for header, entry in [
        (edited(w.HEADER, changes), good_entry()),
        (w.HEADER, edited(good_entry(), changes)),
    ]:
        answers(lab, w.table([[(b"", header), (b"model/wte", entry)]]))


@fuzz
@given(changes=edits, footer=st.booleans())
def test_fuzz_the_index_block_and_the_footer_edited(lab, changes, footer):
    table = w.table([[(b"", w.HEADER)], [(b"model/wte", good_entry())]])
    if footer:
        answers(lab, table[:-48] + edited(table[-48:-8], changes)[:40].ljust(40, b"\0") + w.MAGIC)
    else:
        answers(lab, edited(table, changes))


@fuzz
@given(
    dtype=st.sampled_from([-1, 0, 1, 2, 9, 14, 19, 1 << 40]),
    shape=st.lists(integers, max_size=4),
    numbers=st.tuples(integers, integers, integers),
    fit=st.booleans(),
)
def test_fuzz_entries_of_extreme_numbers(lab, dtype, shape, numbers, fit):
    offset, size, shard = numbers
    if fit:  # a size that is true to the shape, so that only the file can refute it
        size, shard = 4 * math.prod(shape), 0
    entry = w.entry_proto(dtype, shape, offset, size, shard=shard, crc=masked(crc32c(bytes(8))))
    answers(lab, w.table([[(b"", w.HEADER), (b"model/wte", entry)]]))


def test_the_worked_example_runs():
    command = [sys.executable, "-m", "gpt.tf_index"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "0xe3069283" in result.stdout and "model/h1/ln_1/b" in result.stdout
    assert re.search(r"80 48 is 9,216", result.stdout)
