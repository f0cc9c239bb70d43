"""Time what is here against others on the same work, in turn, and write docs/benchmarks.md.

    python scripts/benchmark.py --minutes 10               # all parts
    python scripts/benchmark.py training --rounds 9        # one, printed and not written

Parts: files, tensorflow, data, training, ladder, generation. Each plans its own time: after a round
to warm up it knows what a round takes, and runs as many as fit, five at least where they do. A row
is shown only if both sides did the same work. The model has random weights, which take as long as
real ones. Peers (requirements-dev.txt) that are not installed are named and left out.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpt.cli import ArgumentParser, run

# The parts, in order, and the share of the time that each is given.
PARTS = {"files": 1, "tensorflow": 1, "data": 2, "training": 8, "ladder": 4, "generation": 4}
BESIDE = ROOT.parent / "shared"  # published files, where this is developed


def parse() -> tuple:
    parser = ArgumentParser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--minutes", type=float, default=10.0, help="about (default: 10)")
    parser.add_argument("--rounds", type=int, help="of each way (default: as many as fit)")
    parser.add_argument("--threads", type=int, help="of the CPU (default: torch's own choice)")
    parser.add_argument("--size", default="gpt2", help="of the model (default: gpt2, 124M)")
    parser.add_argument("--batch", type=int, default=8, help="examples a step; also twice as many")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--precision", default="auto", help="of the rounds: auto, fp32 or bf16")
    parser.add_argument("--data", type=Path, metavar="FILE", help="instructions (default: the "
                        "book's where they lie beside this folder)")  # fmt: skip
    parser.add_argument("--vocabulary", type=Path, metavar="FOLDER", help="(default: GPT-2's)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", metavar="FOLDER",
                        help="where the page goes (default: docs)")  # fmt: skip
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {unknown.pop()!r}: choose of {', '.join(PARTS)}")
    for name in ("minutes", "rounds", "threads", "batch"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            parser.error(f"--{name} must be above 0, not {value}")
    return parser, arguments


def main() -> None:
    parser, arguments = parse()
    from benchmarks import data, files, generation, report, training
    from benchmarks.rounds import Plan
    from benchmarks.work import SIZES, make_work
    from gpt.download import find_model
    from gpt.errors import UserError
    from gpt.hardware import choose_precision, features_of, find_device

    if arguments.size not in SIZES:
        parser.error(f"--size {arguments.size}: there are {', '.join(SIZES)}")
    benches = {
        "files": files.bench_files,
        "tensorflow": files.bench_tensorflow,
        "data": data.bench_data,
        "training": training.bench_training,
        "ladder": training.bench_ladder,
        "generation": generation.bench_generation,
    }
    device = find_device(arguments.device)
    precision = choose_precision(arguments.precision, features_of(device)).name
    book = BESIDE / "datasets" / "book-1100.json"
    records = arguments.data or (book if book.exists() else ROOT / "data" / "instructions.json")
    vocabulary = arguments.vocabulary or (
        BESIDE / "gpt2" if (BESIDE / "gpt2").is_dir() else find_model("gpt2")
    )
    asked = [name for name in PARTS if not arguments.parts or name in arguments.parts]
    if asked == list(PARTS):  # a folder that cannot be is told of before, and not after all rounds
        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {arguments.out}: {error.strerror}") from None
    ends, parts = time.perf_counter() + 60 * arguments.minutes, {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        work = make_work(
            Path(scratch) / "model", arguments.size, records, vocabulary, str(device), precision,
            arguments.threads, arguments.batch,
        )  # fmt: skip
        for i, name in enumerate(asked):
            left = max(0.0, ends - time.perf_counter())
            seconds = left * PARTS[name] / sum(PARTS[later] for later in asked[i:])
            plan = Plan(seconds, arguments.rounds, arguments.size == "tiny")
            print(
                f"\n# {name}, about {seconds / 60:.1f} minutes: {benches[name].__doc__}", flush=True
            )
            try:
                parts[name] = benches[name](work, plan)
            except (ImportError, OSError) as error:
                raise UserError(f"{name}: {error}") from error
            print(report.tables_of(vars(parts[name])), flush=True)
    setting = report.setting(str(device), precision, arguments.size, arguments.threads)
    found = report.results(setting, parts)
    if asked == list(PARTS):
        print(f"\nwritten: {report.write(found, arguments.out)}, .json and .svg beside it")


if __name__ == "__main__":
    run(main)
