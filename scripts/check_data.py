"""List every fault of instruction data by file and line, before a run trains on it.

python scripts/check_data.py data/instructions.json            # or several: JSON, JSONL, CSV, TSV
python scripts/check_data.py veri.csv.gz --fields instruction=talimat,output=cevap

Exit code: 0 without faults, 1 with some.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.records import Reading, parse_fields, plain, read_records


def main() -> None:
    args = parse_arguments()
    fields = parse_fields(args.fields) if args.fields else None
    reading = read_records(args.files, fields, need_answers=not args.no_answers)
    print_reading(reading, len(args.files))
    sys.exit(1 if reading.faults else 0)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(
        __doc__,
        epilog="Formats: JSON, JSON lines, CSV, TSV, each also gzipped. Shapes: Alpaca,\n"
        "prompt/completion, OpenAI messages, ShareGPT conversations.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--fields",
        metavar="NAME=KEY,...",
        help="what your keys are called: instruction=talimat,input=girdi,output=cevap",
    )
    parser.add_argument(
        "--no-answers", action="store_true", help="bare prompts will do: nothing is to be learnt"
    )
    return parser.parse_args()


def print_reading(reading: Reading, n_files: int) -> None:
    for fault in reading.faults:
        print(fault)
    if reading.faults:
        print()
    for note in reading.notes:
        print(note)
    n_good, n_faults = len(reading.records), len(reading.faults)
    print(
        f"{counted(n_files, 'file')}, {counted(reading.n_records, 'record')}, {n_good:,} good, "
        f"{counted(n_faults, 'fault') if n_faults else 'no faults'}"
    )
    values = (record.extra.get("category") for record in reading.records)
    categories = Counter("" if value is None else str(value) for value in values)
    if len(categories) > 1:
        shown = [f"{plain(name) or '(none)'} {n:,}" for name, n in categories.most_common(20)]
        more = f", … of {len(categories):,}" if len(categories) > 20 else ""
        print(f"by category: {', '.join(shown)}{more}")


def counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


if __name__ == "__main__":
    run(main)
