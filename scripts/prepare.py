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
from gpt.datacard import ALL_STEPS, FILES, Preparation, holds_preparation, write_prepared
from gpt.files import replacing_folder
from gpt.preparing import PrepareError, Settings, idle_settings, prepare, shares
from gpt.records import Reading, parse_fields, read_records
from gpt.splitting import SIDES, SplitError, check_fractions


def main() -> None:
    args = parse_arguments()
    refuse_to_overwrite(args)
    encode = load_encoder(args.tokenizer)
    readings = read_sides(args)
    for note in (note for reading in readings.values() for note in reading.notes):
        print(note)
    done = prepare(readings, settings_of(args), title=args.out.resolve().name)
    done.settings.update(files_of(args))
    try:
        with replacing_folder(args.out, replaces=FILES.__contains__) as folder:
            write_prepared(folder, done, encode)
    except OSError as error:
        raise PrepareError(f"{args.out}: not written: {error}") from error
    print_summary(done, args.out)


def settings_of(args: argparse.Namespace) -> Settings:
    """What the flags say; the default of Settings where they say nothing."""
    flags = {f.name: getattr(args, f.name) for f in fields(Settings)}
    return Settings(**{name: value for name, value in flags.items() if value is not None})


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
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if there and not args.overwrite:
        raise PrepareError(f"{out}: is not empty: give another --out, or --overwrite")
    if there and not holds_preparation(out):  # its README.md is somebody's, and not ours to replace
        shown = ", ".join(there[:5]) + (", …" if len(there) > 5 else "")
        raise PrepareError(
            f"{out}: --overwrite replaces an earlier preparation, and what is there is none "
            f"(it holds {shown}): give another --out"
        )
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
    in_characters = "of the answer, in characters"
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
        help=f"{of_all} ({Settings.val_fraction})",
    )
    add(
        "--test-fraction",
        type=float,
        metavar="X",
        help=f"{of_all} ({Settings.test_fraction})",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        help=f"another one, another split ({Settings.seed})",
    )
    add("--val-data", nargs="+", type=Path, metavar="FILE", help="validation, from its own files")
    add("--test-data", nargs="+", type=Path, metavar="FILE", help="test, from its own files")
    add("--tokenizer", type=Path, metavar="FOLDER", help="of a model: lengths in tokens")
    add("--min-answer", type=int, metavar="N", help=f"{in_characters} ({Settings.min_answer})")
    add("--max-answer", type=int, metavar="N", help=f"{in_characters} ({Settings.max_answer})")
    add(
        "--threshold",
        type=float,
        metavar="X",
        help=f"{near} ({Settings.threshold})",
    )
    steps = parser.add_argument_group("steps, each of which --no-… leaves out")
    for step, what in ALL_STEPS.items():
        switch = argparse.BooleanOptionalAction
        steps.add_argument(f"--{step}", action=switch, default=True, help=what)
    args = parser.parse_args(argv)
    args.steps = tuple(step for step in ALL_STEPS if getattr(args, step.replace("-", "_")))
    refuse_bad_settings(parser, args)
    return args


def refuse_bad_settings(parser: ArgumentParser, args: argparse.Namespace) -> None:
    """End with code 2 where a setting is impossible, or would be passed over in silence."""
    files_of_side = {"validation": args.val_data, "test": args.test_data}
    given = {side for side, files in files_of_side.items() if files}
    settings = settings_of(args)
    idle = idle_settings(settings, given)
    if args.split == "book":
        idle |= {"val_data": "--split book", "test_data": "--split book"}
    for name, why in idle.items():
        if getattr(args, name) is not None:  # defaults are None here: somebody has said it
            parser.error(f"--{name.replace('_', '-')} means nothing beside {why}")
    if not 0 < settings.threshold <= 1:
        parser.error(f"--threshold must be above 0 and at most 1, not {settings.threshold}")
    if not 1 <= settings.min_answer <= settings.max_answer:
        parser.error("--min-answer must be at least 1, and at most --max-answer")
    try:
        check_fractions(*shares(settings, given))
    except SplitError as error:
        parser.error(f"--val-fraction, --test-fraction: {error}")


if __name__ == "__main__":
    run(main)
