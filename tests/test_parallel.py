"""Several processes take the steps that one would, whoever of them has what, and go on from each
other's checkpoints.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpt import run_folder
from gpt.adapters import tensors_of
from gpt.checkpoint import CheckpointError, check_files, load_last
from gpt.meeting import RanksError
from gpt.parallel import joined
from gpt.pieces import PiecesError, load_pieces
from gpt.setting_rules import check
from gpt.settings import SettingsError, TrainSettings
from gpt.tuning import tune
from gpt.weights import load_model
from tests.ranks import mask_some, on_ranks, train_together
from tests.runs import make_world, settings_in

HAS_SHARDING = hasattr(torch.cpu.current_stream(), "record_event")
KINDS = ("ddp", "sharded") if HAS_SHARDING else ("ddp",)
# Of 7 examples each rank has another number; the last step of an epoch has fewer than four.
UNEVEN = {"batch_size": 7, "micro_batch_size": 2, "lr": 1e-3, "max_steps": 20, "save_every": 5}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """With a run of one process in it."""
    world = make_world(tmp_path_factory.mktemp("world"))
    train_together([settings_in(world, "one", **UNEVEN)], mask_some)
    return world


def of_kind(world: Path, kind: str, name: str, **more):
    return settings_in(world, f"{kind}-{name}", **UNEVEN | more, shard=kind == "sharded")


def lines_of(folder: Path) -> list[dict]:
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def assert_same_course(one: Path, other: Path, within: float = 1e-5) -> None:
    """Counts are the same, and numbers equal but for rounding."""
    ours, theirs = lines_of(one), lines_of(other)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [*range(21)]
    for a, b in zip(ours, theirs, strict=True):
        for key in ("tokens", "supervised_tokens", "lr", "epoch"):
            assert a.get(key) == b.get(key), key
        for key in ("train_loss", "val_loss", "grad_norm"):
            assert a.get(key) == pytest.approx(b.get(key), abs=within), (a["step"], key)
    assert (one / "samples.md").read_bytes() == (other / "samples.md").read_bytes()
    for name in ("last", "best"):
        (file,) = (one / name).glob("*model.safetensors")
        ours, theirs = load_file(file), load_file(other / name / file.name)
        assert ours.keys() == theirs.keys()
        gap = max((ours[key] - theirs[key]).abs().max().item() for key in ours)
        assert gap <= within, (name, gap)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4])
def test_several_ranks_take_the_steps_of_one(world, n):
    several = [of_kind(world, kind, str(n)) for kind in KINDS]
    on_ranks(n, train_together, several, mask_some)
    for settings in several:
        assert_same_course(world / "one", Path(settings.out))


@pytest.mark.slow
def test_saved_on_four_ranks_a_run_goes_on_on_two_and_on_one(world):
    several = [of_kind(world, kind, "fewer") for kind in KINDS]
    on_ranks(4, train_together, several, mask_some, 6)
    last = Path(several[0].out) / "last"
    assert len(list(last.glob("*.distcp"))) == 4
    on_ranks(2, train_together, [replace(s, resume=True) for s in several], mask_some, 13)
    train_together([replace(s, resume=True) for s in several], mask_some)
    for settings in several:
        assert_same_course(world / "one", Path(settings.out))
        assert not list(Path(settings.out).glob("last/*.distcp"))  # of one process, as ever


@pytest.mark.slow
def test_what_one_process_saved_three_go_on_with(world):
    several = [of_kind(world, kind, "more") for kind in KINDS]
    for settings in several:
        train_together([settings], mask_some, 8)
    on_ranks(3, train_together, [replace(s, resume=True) for s in several], mask_some)
    for settings in several:
        assert_same_course(world / "one", Path(settings.out))


@pytest.mark.slow
def test_adapters_text_and_packed_rows_are_learnt_together(world):
    text = world / "letters.txt"
    text.write_text("a cat sat on a mat; " * 200, encoding="utf-8")
    lora = {"model": str(world / "one"), "from_scratch": False, "lora_rank": 2}
    ways = {
        "lora": lora | {"activation_checkpointing": True},
        "nf4": lora | {"quantize": "nf4"},
        "packed": {"packed": True},
        "text": {"objective": "pretrain", "data": [str(text)], "template": None, "n_ctx": 32},
    }
    alone = {way: of_kind(world, "ddp", f"{way}1", **changes) for way, changes in ways.items()}
    train_together(list(alone.values()))
    together = [
        (way, of_kind(world, kind, f"{way}3", **changes))
        for way, changes in ways.items()
        for kind in KINDS
        if (way, kind) != ("nf4", "sharded")  # which is refused
    ]
    on_ranks(3, train_together, [settings for _, settings in together])
    for way, settings in together:
        assert_same_course(Path(alone[way].out), Path(settings.out))
        if settings.lora_rank:
            adapted = load_model(Path(settings.out) / "last", base=str(world / "one"))
            assert all(t.any() for t in tensors_of(adapted).values())


@pytest.mark.slow
@pytest.mark.skipif(not HAS_SHARDING, reason="this torch shards on no CPU")
def test_the_whole_job_on_parts_of_a_model(tmp_path):
    """Preflight, training, answers, report: as a person has it done."""
    world = make_world(tmp_path)
    path = world / "letters.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    for i, record in enumerate(records):
        record["split"] = ("train", "train", "validation", "test")[i % 4]
    path.write_text(json.dumps(records), encoding="utf-8")
    settings = settings_in(world, shard=True, max_steps=6, objective="instruct")
    on_ranks(3, tune, settings, {"shard"})
    folder = Path(settings.out)
    rows = (folder / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(row)["instruction"] for row in rows]
    assert asked == [r["instruction"] for r in records if r["split"] == "test"]
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "loss.png", "best", "last", "samples.md"} <= names
    assert not {name for name in names if name.startswith((".", "responses.journal."))}
    told = run_folder.read(folder)
    assert told["ranks"] == 3 and told["ended"] == "finished" and len(told["sittings"]) == 1
    assert len(told["of_ranks"]) == 3 and all(r["memory_bytes"] for r in told["of_ranks"])


def test_sharding_alone_or_with_what_cannot_be_sharded_is_refused_by_name(tmp_path):
    world = make_world(tmp_path)
    with pytest.raises(SettingsError, match="--shard would be ignored by one process alone"):
        tune(settings_in(world, shard=True), {"shard"})
    for other in ({"quantize": "nf4", "lora_rank": 2}, {"compile": "always"}):
        with pytest.raises(SettingsError, match=r"--shard with --(quantize|compile)"):
            check(TrainSettings(shard=True, **other))
    with pytest.raises(SettingsError, match="--cpu-offload would be ignored: it is for --shard"):
        check(TrainSettings(cpu_offload=True), {"cpu_offload"})


def test_a_rank_that_torchrun_did_not_start_is_told_how(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RanksError, match="start several processes with torchrun"), joined("cpu"):
        pass


def test_a_piece_is_checked_and_no_pickle_is_run(tmp_path):
    import pickle

    import torch.distributed.checkpoint as dcp

    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(2.0)}
    dcp.save(tensors, storage_writer=dcp.FileSystemWriter(tmp_path / "good"))
    found = load_pieces(tmp_path / "good", lambda name, shape, dtype: torch.empty(shape))
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    some = load_pieces(
        tmp_path / "good", lambda name, *of: torch.empty(2, 3) if name == "a" else None
    )
    assert list(some) == ["a"]

    class Evil:
        def __reduce__(self):
            return exec, ("open('ran', 'w')",)

    (tmp_path / "good" / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(PiecesError, match=r"would run builtins\.exec: nothing in it was run"):
        load_pieces(tmp_path / "good", lambda *of: None)
    (tmp_path / "good" / ".metadata").write_bytes(b"no pickle")
    with pytest.raises(PiecesError, match="not readable"):
        load_pieces(tmp_path / "good", lambda *of: None)


@pytest.mark.slow
def test_a_changed_piece_is_named(world):
    settings = of_kind(world, "ddp", "damaged")
    on_ranks(2, train_together, [settings], mask_some, 3)
    last = Path(settings.out) / "last"
    check_files(last)
    piece = sorted(last.glob("*.distcp"))[1]
    content = bytearray(piece.read_bytes())
    content[-50] ^= 1
    piece.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{piece.name}: damaged"):
        load_last(last)
