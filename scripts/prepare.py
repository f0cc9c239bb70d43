"""Clean instruction data, drop its duplicates, split it, and write a data card.

python scripts/prepare.py data.json --out prepared                  # all steps, 85/5/10
python scripts/prepare.py a.jsonl b.csv --out prepared --no-phones --tokenizer checkpoints/mini
python scripts/prepare.py book.json --out prepared --split book     # the book's three slices
python scripts/prepare.py train.json --test-data test.json --out prepared
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.datacard import ALL_STEPS, FILES, Preparation, write_prepared
from gpt.files import replacing_folder
from gpt.preparing import PrepareError, Settings, prepare
from gpt.records import Reading, parse_fields, read_records
from gpt.splitting import SIDES


def main() -> None:
    args = parse_arguments()
    refuse_to_overwrite(args)
    encode = load_encoder(args.tokenizer)
    readings = read_sides(args)
    for note in (note for reading in readings.values() for note in reading.notes):
        print(note)
    settings = Settings(**{f.name: getattr(args, f.name) for f in fields(Settings)})
    done = prepare(readings, settings, title=args.out.resolve().name)
    done.settings.update(files_of(args))
    try:
        with replacing_folder(args.out, replaces=FILES.__contains__) as folder:
            write_prepared(folder, done, encode)
    except OSError as error:
        raise PrepareError(f"{args.out}: not written: {error}") from error
    print_summary(done, args.out)


def read_sides(args: argparse.Namespace) -> dict[str, Reading]:
    """What the files of each side hold; all of them are read before the first fault is reported."""
    files = {"train": args.files, "validation": args.val_data, "test": args.test_data}
    names = parse_fields(args.fields) if args.fields else None
    readings = {side: read_records(paths, names) for side, paths in files.items() if paths}
    for reading in readings.values():
        reading.refuse_faults(args.skip_bad)
    return readings


def files_of(args: argparse.Namespace) -> dict:
    """The files that decide something beside the data's own."""
    named = {"val_data": args.val_data, "test_data": args.test_data}
    told = {name: [str(path) for path in paths] for name, paths in named.items() if paths}
    return told | ({"tokenizer": str(args.tokenizer)} if args.tokenizer else {})


def load_encoder(folder: Path | None) -> Callable[[str], list[int]] | None:
    if folder is None:
        return None
    from gpt.tokenizer import Tokenizer  # not needed by most, nor by --help

    return Tokenizer.from_folder(folder).encode


def refuse_to_overwrite(args: argparse.Namespace) -> None:
    out: Path = args.out
    if out.exists() and not out.is_dir():
        raise PrepareError(f"{out}: is a file, not a folder: give another --out")
    if out.is_dir() and any(out.iterdir()) and not args.overwrite:
        raise PrepareError(f"{out}: is not empty: give another --out, or --overwrite")
    replaced = {(out / name).resolve() for name in FILES}
    for path in (*args.files, *(args.val_data or ()), *(args.test_data or ())):
        if path.resolve() in replaced:
            raise PrepareError(f"{path}: is read, and would be replaced: give another --out")


def print_summary(done: Preparation, out: Path) -> None:
    made = {step: [c for c in done.changes if c.step == step] for step in ALL_STEPS}
    for step, changes in made.items():
        if changes:
            n_dropped = sum(change.dropped for change in changes)
            told = [f"{len(changes) - n_dropped:,} changed"] * (len(changes) > n_dropped)
            told += [f"{n_dropped:,} dropped"] * (n_dropped > 0)
            print(f"{step}: {', '.join(told)}, {changes[0].where} first")
    for side, records in zip(SIDES, done.split, strict=True):
        hint = "" if records else ": too few records for its share, or no share"
        print(f"{side}: {len(records):,} records{hint}")
    print(f"duplicate prompts: {len(done.duplicate_prompts):,}")
    on = Counter(overlap.side for overlap in done.overlaps)
    told = "".join(f", {n:,} of {side}" for side, n in on.items())
    print(f"prompts that an earlier side has too: {len(done.overlaps):,}{told}")
    for overlap in done.overlaps[:10]:
        print(f"  {overlap}")
    print(f"{out / 'README.md'} tells the rest")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    of_all = "the side's share of the records"
    in_characters = "of the answer, in characters (%(default)s)"
    near = "from which similarity on two records are near duplicates"
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="JSON, JSONL, CSV or TSV, or .gz of it")
    add("--out", type=Path, required=True, metavar="FOLDER", help="a new folder, or an empty one")
    add("--overwrite", action="store_true", help="replace the files of an earlier preparation")
    add("--fields", metavar="NAME=KEY,…", help="other names of keys: instruction=talimat")
    add("--skip-bad", action="store_true", help="leave faulty records out, and count them")
    add(
        "--split",
        choices=("prompt", "book"),
        help="by groups of one prompt, or the book's 85/10/5 in order",
    )
    add(
        "--val-fraction",
        type=float,
        metavar="X",
        help=f"{of_all} (%(default)s)",
    )
    add(
        "--test-fraction",
        type=float,
        metavar="X",
        help=f"{of_all} (%(default)s)",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        help="another one, another split (%(default)s)",
    )
    add("--val-data", nargs="+", type=Path, metavar="FILE", help="validation, from its own files")
    add("--test-data", nargs="+", type=Path, metavar="FILE", help="test, from its own files")
    add("--tokenizer", type=Path, metavar="FOLDER", help="of a model: lengths in tokens")
    add("--min-answer", type=int, metavar="N", help=in_characters)
    add("--max-answer", type=int, metavar="N", help=in_characters)
    add(
        "--threshold",
        type=float,
        metavar="X",
        help=f"{near} (%(default)s)",
    )
    steps = parser.add_argument_group("steps, each of which --no-… leaves out")
    for step, what in ALL_STEPS.items():
        switch = argparse.BooleanOptionalAction
        steps.add_argument(f"--{step}", action=switch, default=True, help=what)
    defaults = {f.name: f.default for f in fields(Settings) if f.name != "steps"}
    parser.set_defaults(**defaults)
    args = parser.parse_args(argv)
    if not 0 < args.threshold <= 1:
        parser.error(f"--threshold must be above 0 and at most 1, not {args.threshold}")
    if not 1 <= args.min_answer <= args.max_answer:
        parser.error("--min-answer must be at least 1, and at most --max-answer")
    if args.split == "book":
        for name in ("val_data", "test_data", "val_fraction", "test_fraction", "seed"):
            if getattr(args, name) != parser.get_default(name):
                flag = "--" + name.replace("_", "-")
                parser.error(f"{flag} means nothing to --split book, which cuts by place alone")
    args.steps = tuple(step for step in ALL_STEPS if getattr(args, step.replace("-", "_")))
    return args


if __name__ == "__main__":
    run(main)
