"""Answer the test records with a tuned model, and with the model that it was tuned from beside it.

python scripts/respond.py --model checkpoints/gpt2-mine                      # the run's own test
python scripts/respond.py --model checkpoints/gpt2-mine --data other.json --out other.jsonl
python scripts/respond.py --model gpt2 --data mine.json --template alpaca    # one model alone
torchrun --nproc-per-node 4 scripts/respond.py --model checkpoints/gpt2-mine # on four GPUs

Each answer is on the disk as soon as it is finished: stopped or killed, the same line goes on.
"""

import argparse
import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.speaking import Controls, add_flags

if TYPE_CHECKING:
    from gpt.parallel import Ranks


def main() -> None:
    args = parse_arguments()
    controls = Controls.of(args)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of a rank that is gone, we tell
    from gpt.parallel import joined, leave  # and with it torch, which --help needs not

    with joined(args.device) as ranks:
        code = respond(args, controls, ranks)
    leave(code)


def respond(args: argparse.Namespace, controls: Controls, ranks: "Ranks") -> int:
    from gpt import answering, run_folder
    from gpt.answers import NAME
    from gpt.errors import UserError
    from gpt.locks import locked_file
    from gpt.records import load_records, parse_fields
    from gpt.responses import outcome
    from gpt.stopping import StopRequested, StopRequests

    tuned = args.adapter or args.model
    folder = answering.run_of(tuned)
    if folder is None and not (args.data and args.out):
        raise UserError(f"{tuned}: is no run, so there is no test split: give --data and --out")
    if args.data:
        fields = parse_fields(args.fields) if args.fields else None
        records = load_records(args.data, fields, args.skip_bad, need_answers=False)
    else:
        records = answering.test_records(folder, args.model if args.adapter else None)
    base = args.base
    if base is None and args.adapter:
        base = args.model
    elif base is None and folder is not None:
        base = answering.base_of(folder)
    if ranks.n > 1:
        ranks.one_of_a_host_first(lambda: fetch([args.model, args.adapter, base]))
    out = args.out or folder / NAME
    if out.resolve() in [path.resolve() for path in args.data or ()]:
        raise UserError(f"--out {out}: is the data itself: give another file")
    in_run = (out.parent / run_folder.RUN).is_file()  # where a run may be at work, too
    lock = contextlib.nullcontext()
    if ranks.is_first:
        lock = run_folder.locked(out.parent) if in_run else locked_file(out)
    with lock, StopRequests(ranks) as stop:
        try:
            rows = answering.answer_test(
                args.model,
                records,
                out,
                None if base == "none" else base,
                controls,
                adapter=args.adapter,
                template=args.template,
                device=args.device,
                precision=args.precision,
                batch_size=args.batch_size,
                limit=args.limit,
                overwrite=args.overwrite,
                stop=stop,
                say=lambda line: print(line, file=sys.stderr),
                ranks=ranks,
            )
        except StopRequested:
            if not ranks.is_first:
                return stop.exit_code()
            again = [argument for argument in sys.argv[1:] if argument != "--overwrite"]
            print("\nstopped; what was answered is on the disk. To go on:", file=sys.stderr)
            print(f"  {shlex.join(['python', 'scripts/respond.py', *again])}", file=sys.stderr)
            return stop.exit_code()
    if not ranks.is_first:
        return 0
    print(outcome(rows))
    more = f" (more than --limit {args.limit:,})" if args.limit and len(rows) > args.limit else ""
    print(f"{len(rows):,} rows{more}: {out}")
    return 0


def fetch(names: list[str | None]) -> None:
    """Models that are not here yet. (Whichever cannot be had, is told of where it is needed.)"""
    from gpt.download import find_model
    from gpt.errors import UserError

    for name in names:
        if name not in (None, "none"):
            with contextlib.suppress(UserError):
                find_model(name)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--model", required=True, metavar="RUN|FOLDER", help="a run's folder (its best/), or model")
    add(
        "--data",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="instruction data, with answers or without (default: the run's own test records)",
    )
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: responses.jsonl in the run's folder",
    )
    add(
        "--base",
        metavar="NAME|none",
        help="the model to compare with (default: the one that the run began with)",
    )
    add("--limit", type=int, metavar="N", help="the first N records only")
    add("--batch-size", type=int, metavar="N", help="rows at once (default: as many as fit)")
    add("--overwrite", action="store_true", help="answer anew what --out holds already")
    add("--fields", metavar="NAME=KEY,...", help="what the keys of --data are called")
    add("--skip-bad", action="store_true", help="go on without faulty records of --data")
    add_flags(parser)
    args = parser.parse_args()
    for flag, value in (("--limit", args.limit), ("--batch-size", args.batch_size)):
        if value is not None and value < 1:
            parser.error(f"{flag} must be at least 1, not {value}")
    if (args.fields or args.skip_bad) and not args.data:
        parser.error("--fields and --skip-bad are for --data: the run's own data is read as it was")
    if args.out is not None and args.out.suffix.lower() != ".jsonl":
        parser.error(f"--out {args.out}: a file of answers is JSON lines, NAME.jsonl")
    return args


if __name__ == "__main__":
    run(main)
