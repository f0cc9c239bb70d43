"""Time what is here against the usual way of doing it, and write docs/benchmarks.md.

    python scripts/benchmark.py                      # all of it: about five minutes on two cores
    python scripts/benchmark.py loading --rounds 9   # a part of it, printed and not written

Both ways take turns (A B A B …) in one run, and what counts is the ratio of their medians: a shared
machine's own speed drifts, and drifts for both. A row is shown only after both did the same work.
The 124M model has random weights, which take as long as real ones.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torch.nn.functional as F

from gpt.cli import ArgumentParser, run
from gpt.config import PUBLISHED
from gpt.errors import UserError
from gpt.model import GPT
from gpt.weights import load_model, save_model


@dataclass
class Row:
    what: str
    ours: str
    other: str
    ratio: str


def alternate(rounds: int, *ways: Callable[[], object]) -> list[float]:
    """The median seconds of each way; one round to warm up, then in turn."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds + 1):
        for way, spent in zip(ways, times, strict=True):
            start = time.perf_counter()
            way()
            spent.append(time.perf_counter() - start)
    return [median(spent[1:]) for spent in times]


def output_of(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise UserError(f"a process of the benchmark failed:\n{ended.stderr.strip()}")
    return ended.stdout


# ---- loading --------------------------------------------------------------------------------

# Run by a process of its own: how much its memory grew at most while a model was loaded.
PEAK = """
import resource, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from gpt.config import PUBLISHED
from gpt.model import GPT
from gpt.weights import load_model
rss = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
before = rss()
if sys.argv[2] == "ours":
    model = load_model(sys.argv[3])
else:
    model = GPT(PUBLISHED["gpt2"])
    model.load_state_dict(torch.load(sys.argv[3] + "/pytorch_model.bin", weights_only=True))
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(peak - before)
"""


def peak_of(way: str, folder: Path) -> int:
    command = [sys.executable, "-c", PEAK, str(ROOT), way, str(folder)]
    return int(output_of(command))


def bench_loading(rounds: int, folder: Path, _: Path | None) -> list[Row]:
    """A 124M folder: `load_model` against torch.load into a freshly initialised model."""
    config = PUBLISHED["gpt2"]
    model = GPT(config)
    save_model(model, folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")

    def ours() -> GPT:
        return load_model(folder)

    def usual() -> GPT:
        fresh = GPT(config)
        fresh.load_state_dict(torch.load(folder / "pytorch_model.bin", weights_only=True))
        return fresh

    for (name, a), b in zip(ours().named_parameters(), usual().parameters(), strict=True):
        assert torch.equal(a, b), name
    a, b = alternate(rounds, ours, usual)
    rows = [Row("load a 124M folder", f"{a:.3f} s", f"{b:.2f} s", f"{b / a:.1f} times as fast")]
    if Path("/proc/self/clear_refs").exists():
        size = (folder / "model.safetensors").stat().st_size
        a, b = (peak_of(way, folder) / size for way in ("ours", "usual"))
        rows.append(
            Row(
                "peak memory while loading, in file sizes",
                f"{a:.2f}",
                f"{b:.2f}",
                f"{a / b:.2f} of it",
            )
        )
    return rows


def bench_tensorflow(rounds: int, folder: Path, _: Path | None) -> list[Row]:
    """OpenAI's format at the size of 124M, every CRC checked."""
    from tests.tf_writer import write_openai_folder

    model = GPT(PUBLISHED["gpt2"])
    write_openai_folder(folder, model)
    [data] = folder.glob("model.ckpt.data*")
    megabytes = data.stat().st_size / 1e6
    loaded = load_model(folder)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True)
    )
    del model, loaded
    a, b = alternate(rounds, lambda: load_model(folder), lambda: np.fromfile(data, np.uint8))
    return [
        Row(
            f"load a TensorFlow checkpoint of {megabytes:.0f} MB, CRCs checked (other: only read)",
            f"{megabytes / a:.0f} MB/s",
            f"{megabytes / b:.0f} MB/s",
            f"{b / a:.2f} of the speed",
        )
    ]


# ---- a step ---------------------------------------------------------------------------------


def bench_step(rounds: int, folder: Path, _: Path | None) -> list[Row]:
    """Forward and backward of 124M at batch 8, T = 128, against transformers' GPT-2."""
    try:
        import transformers
    except ImportError:
        print("transformers is not installed: no comparison of a step")
        return []
    torch.manual_seed(0)
    model = GPT(PUBLISHED["gpt2"]).eval()  # eval: no dropout, so that both losses can be equal
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**model.config.to_dict())).eval()
    theirs.transformer.load_state_dict(model.state_dict())
    ids = torch.randint(model.config.vocab_size, (8, 129))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].flatten()

    def step(network: torch.nn.Module, logits_of: Callable) -> float:
        network.zero_grad()
        loss = F.cross_entropy(logits_of().flatten(0, 1), targets)
        loss.backward()
        return loss.item()

    def ours() -> float:
        return step(model, lambda: model(inputs))

    def other() -> float:
        return step(theirs, lambda: theirs(inputs, use_cache=False).logits)

    assert abs(ours() - other()) < 1e-5
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.transformer.get_parameter(name).grad)
    a, b = alternate(rounds, ours, other)
    return [
        Row(
            "forward and backward, batch 8 x 128, fp32 (other: transformers)",
            f"{8 * 128 / a:.0f} tok/s",
            f"{8 * 128 / b:.0f} tok/s",
            f"{b / a:.2f} times as fast",
        )
    ]


# ---- data -----------------------------------------------------------------------------------

# Run by a process of its own: how long a whole set takes from file to examples, and what memory.
READ = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from gpt.encoding import encode_all
from gpt.records import load_records
from gpt.template import Template
from gpt.tokenizer import Tokenizer
tokenizer, template = Tokenizer.from_folder(sys.argv[2]), Template.from_name("alpaca")
start = time.perf_counter()
records = load_records([sys.argv[3]])
examples = encode_all(records, tokenizer, template, 1024)
seconds = time.perf_counter() - start
assert len(examples) == len(records)
status = Path("/proc/self/status")  # ru_maxrss would count the process that started this one
peak = status.read_text().split("VmHWM:")[1].split()[0] if status.exists() else "nan"
print(seconds, float(peak) * 1024)
"""


# Common words, of which made-up sentences have about as many tokens as real ones.
COMMON_WORDS = """
the of and to in is that it was for on are as with they at be this have from or had by
hot but some what there we can out other were all your when up use word how said an each she which
do their time if will way about many then them would write like so these her long make thing see
him two has look more day could go come did my sound no most number who over know water than call
first people may down side been now find any new work part take get place made live where after
back little only round man year came show every good me give our under name very through just form
much great think say help low line before turn cause same mean differ move right boy old too does
tell sentence set three want air well also play small end put home read hand port large spell add
even land here must big high such follow act why ask men change went light kind off need house
picture try us again animal point mother world near build self earth father head stand own page
should country found answer school grow study still learn plant cover food sun four thought let
keep eye never last door between city tree cross since hard start might story saw far sea draw left
late run while press close night real life few stop open seem together next white children begin
got walk example ease paper often always music those both mark book letter until mile river car
feet care second group carry took rain eat room friend began idea fish mountain north once base
hear horse cut sure watch colour face wood main"""


def write_records(path: Path, n: int) -> list[str]:
    """Records as long as Alpaca's, always the same; returns all of their texts."""
    rng, common, texts = np.random.default_rng(0), COMMON_WORDS.split(), []
    with path.open("w", encoding="utf-8") as file:
        for i in range(n):
            lengths = rng.lognormal([2.4, 1.9, 3.6], [0.4, 0.7, 0.9]).astype(int) + 1
            lengths[1] *= rng.random() < 0.4  # two in five have an input, as Alpaca's
            words = [common[k] for k in rng.integers(len(common), size=min(lengths.sum(), 600))]
            row = {}
            for key, length in zip(("instruction", "input", "output"), lengths, strict=True):
                taken, words = words[:length], words[length:]
                row[key] = " ".join(taken).capitalize() + "." * bool(taken)
            row["output"] = row["output"] or "Yes."
            texts += row.values()
            file.write(("[\n" if i == 0 else ",\n") + json.dumps(row))
        file.write("\n]\n")
    return texts


def read_in_a_process(vocabulary: Path, data: Path) -> tuple[float, float]:
    command = [sys.executable, "-c", READ, str(ROOT), str(vocabulary), str(data)]
    seconds, memory = map(float, output_of(command).split())
    return seconds, memory


def bench_data(rounds: int, folder: Path, vocabulary: Path | None) -> list[Row]:
    """52,000 records from a JSON file to masked ids, against tiktoken encoding their bare texts."""
    from gpt.download import find_model
    from gpt.near_duplicates import near_duplicates
    from gpt.records import load_records
    from gpt.tokenizer import Tokenizer

    vocabulary = vocabulary or find_model("gpt2")
    bare = Tokenizer.from_folder(vocabulary)._bpe  # tiktoken's own Encoding
    texts = write_records(folder / "data.json", 52_000)

    def tiktoken_alone() -> None:
        for text in texts:
            bare.encode_ordinary(text)

    ours, memory, alone = [], [], []
    for _ in range(rounds):
        seconds, peak = read_in_a_process(vocabulary, folder / "data.json")
        ours.append(seconds)
        memory.append(peak)
        start = time.perf_counter()
        tiktoken_alone()
        alone.append(time.perf_counter() - start)
    megabytes = (folder / "data.json").stat().st_size / 1e6
    rows = [
        Row(
            f"read, validate, template, tokenise and mask 52,000 records, {megabytes:.0f} MB "
            "(other: tiktoken alone on their texts)",
            f"{median(ours):.2f} s, {max(memory) / 1e6:.0f} MB",
            f"{median(alone):.2f} s",
            f"{median(ours) / median(alone):.2f} times as long",
        )
    ]
    records = load_records([folder / "data.json"])
    start = time.perf_counter()
    near_duplicates(records)
    seconds = time.perf_counter() - start
    rows.append(Row("near-duplicate search over them", f"{seconds:.1f} s", "", ""))
    del records

    write_records(folder / "million.json", 1_000_000)
    seconds, peak = read_in_a_process(vocabulary, folder / "million.json")
    ratio = seconds / median(ours) / (1_000_000 / 52_000)
    rows.append(
        Row(
            "read … and mask 1,000,000 records (other: the 52,000, scaled up)",
            f"{seconds:.0f} s, {peak / 1e9:.2f} GB",
            f"{median(ours) * 1_000_000 / 52_000:.0f} s",
            f"{ratio:.2f} times as long",
        )
    )
    return rows


PARTS = {
    "loading": bench_loading,
    "tensorflow": bench_tensorflow,
    "step": bench_step,
    "data": bench_data,
}


# ---- report ---------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    lines = ["| what | ours | the other way | ours is |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.ours} | {row.other} | {row.ratio} |" for row in rows]
    return "\n".join(lines)


def setting(rounds: int) -> str:
    commit = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(commit, capture_output=True, text=True)
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
    instructions = torch.backends.cpu.get_cpu_capability()
    return (
        f"{time.strftime('%Y-%m-%d')}, {machine}, {instructions}, {versions}, commit "
        f"{found.stdout.strip() or 'unknown'}, median of {rounds} rounds each, alternating."
    )


PAGE = """# Benchmarks

Written by `python scripts/benchmark.py`, which says how it measures. Ratios are what to read: the
absolute figures are those of one shared machine on one day.

{setting}

{table}

On a GPU: not measured yet.
"""


def main() -> None:
    parser = ArgumentParser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--rounds", type=int, default=5, help="of each way (default: 5)")
    parser.add_argument(
        "--vocabulary", type=Path, metavar="FOLDER", help="GPT-2's, for data (default: the hub's)"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {unknown.pop()!r}: choose of {', '.join(PARTS)}")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")

    rows = []
    for name, bench in PARTS.items():
        if not arguments.parts or name in arguments.parts:
            print(f"{name}: {bench.__doc__}", flush=True)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                try:
                    rows += bench(arguments.rounds, Path(folder), arguments.vocabulary)
                except (ImportError, OSError) as error:
                    raise UserError(f"{name}: {error}") from error
    print(f"\n{setting(arguments.rounds)}\n\n{table(rows)}")
    if not arguments.parts:
        page = PAGE.format(setting=setting(arguments.rounds), table=table(rows))
        (ROOT / "docs" / "benchmarks.md").write_text(page, encoding="utf-8")
        print("\nwritten to docs/benchmarks.md")


if __name__ == "__main__":
    run(main)
