"""Draw what training wrote: the loss of a run, or of several in one picture.

python scripts/plot.py checkpoints/mine                       # its loss.png and loss.svg, anew
python scripts/plot.py checkpoints/mine --lr --out mine.pdf   # learning rate and norm below
python scripts/plot.py checkpoints/a checkpoints/b --out compare.png
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run


def main() -> None:
    args = parse_arguments()
    from gpt.plots import compare, draw_run  # and with it matplotlib, which --help needs not

    if args.out:
        written = [compare(args.runs, args.out, args.lr)]
    else:
        written = draw_run(args.runs[0], args.lr)
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a .png, .svg or .pdf")
    parser.add_argument("--lr", action="store_true", help="learning rate and gradient norm below")
    args = parser.parse_args()
    if args.out is None and len(args.runs) > 1:
        parser.error("several runs go into one picture: say where, as in --out compare.png")
    return args


if __name__ == "__main__":
    run(main)
