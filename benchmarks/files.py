"""A model's folder: loading and saving it against torch's own way, in time and in memory."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.rounds import HEAD, Part, Plan, alternate, medians
from benchmarks.work import Work
from gpt.errors import UserError
from gpt.files import force_to_disk
from gpt.model import GPT
from gpt.weights import load_model, save_model

ROOT = Path(__file__).resolve().parents[1]

# Run by a process of its own: how much its memory grew at most while a model was loaded.
PEAK = """
import json, resource, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.weights import load_model
rss = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
before = rss()
if sys.argv[2] == "ours":
    model = load_model(sys.argv[3])
else:
    model = GPT(GPTConfig.from_dict(json.loads(Path(sys.argv[3], "config.json").read_text())))
    model.load_state_dict(torch.load(sys.argv[3] + "/pytorch_model.bin", weights_only=True))
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(peak - before)
"""


def output_of(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise UserError(f"a process of the benchmark failed:\n{ended.stderr.strip()}")
    return ended.stdout


def bench_files(work: Work, plan: Plan) -> Part:
    """Loading and saving a model's folder: `load_model` and `save_model` against torch's own."""
    part = Part()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        rows = [
            *_loading(work, plan, Path(scratch), part),
            *_saving(work, plan, Path(scratch), part),
        ]
    part.table("A model's folder", HEAD, rows, [_rounds_of(part)])
    return part


def _loading(work: Work, plan: Plan, scratch: Path, part: Part) -> list[list[str]]:
    """Against torch.load into a freshly initialised model."""
    pickled = scratch / "pytorch_model.bin"
    torch.save(load_model(work.folder).state_dict(), pickled)

    def ours() -> GPT:
        return load_model(work.folder)

    def usual() -> GPT:
        fresh = GPT(work.config)
        fresh.load_state_dict(torch.load(pickled, weights_only=True))
        return fresh

    for (name, a), b in zip(ours().named_parameters(), usual().parameters(), strict=True):
        assert torch.equal(a, b), name
    part.rounds["load"] = times = alternate(plan, ours=ours, usual=usual)
    a, b = medians(times)
    rows = [["load it", f"{a:.3f} s", f"{b:.2f} s", f"{b / a:.1f} times as fast"]]
    if Path("/proc/self/clear_refs").exists():
        size = (work.folder / "model.safetensors").stat().st_size
        (scratch / "config.json").write_bytes((work.folder / "config.json").read_bytes())
        a = _peak_of("ours", work.folder) / size
        b = _peak_of("usual", scratch) / size
        rows.append(["memory at most, in file sizes", f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f} of it"])
    return rows


def _peak_of(way: str, folder: Path) -> int:
    return int(output_of([sys.executable, "-c", PEAK, str(ROOT), way, str(folder)]))


def _saving(work: Work, plan: Plan, scratch: Path, part: Part) -> list[list[str]]:
    """Against torch.save; both until the disk has it."""
    model, pickled = load_model(work.folder), scratch / "saved.bin"

    def ours() -> None:
        save_model(model, scratch / "saved")

    def usual() -> None:
        torch.save(model.state_dict(), pickled)
        force_to_disk(pickled)

    part.rounds["save"] = times = alternate(plan, ours=ours, usual=usual)
    a, b = medians(times)
    for x, y in zip(load_model(scratch / "saved").parameters(), model.parameters(), strict=True):
        assert torch.equal(x, y)
    return [["save it, onto the disk", f"{a:.2f} s", f"{b:.2f} s", f"{b / a:.2f} times as fast"]]


def bench_tensorflow(work: Work, plan: Plan) -> Part:
    """OpenAI's format at the same size, every CRC checked."""
    from tests.tf_writer import write_openai_folder

    part, model = Part(), load_model(work.folder)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        write_openai_folder(folder, model)
        [data] = folder.glob("model.ckpt.data*")
        megabytes = data.stat().st_size / 1e6
        loaded = load_model(folder)
        for a, b in zip(model.parameters(), loaded.parameters(), strict=True):
            assert torch.equal(a, b)
        del model, loaded
        part.rounds["load OpenAI's"] = times = alternate(
            plan, ours=lambda: load_model(folder), read=lambda: np.fromfile(data, np.uint8)
        )
    a, b = medians(times)
    what = f"load a TensorFlow checkpoint of {megabytes:.0f} MB, CRCs checked (other: only read it)"
    speeds = [f"{megabytes / seconds:.0f} MB/s" for seconds in (a, b)]
    part.table("OpenAI's files", HEAD, [[what, *speeds, f"{b / a:.2f} of the speed"]],
               [_rounds_of(part)])  # fmt: skip
    return part


def _rounds_of(part: Part) -> str:
    counts = [len(times) for ways in part.rounds.values() for times in ways.values()]
    return f"Medians of {min(counts)} or more rounds of each, in turn."
