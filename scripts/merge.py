"""Make a plain model of an adapter and its base: a folder that needs neither of them any more.

python scripts/merge.py --adapter checkpoints/gpt2-mine-lora --out checkpoints/gpt2-mine
python scripts/merge.py --adapter FOLDER --model gpt2-xl --out FOLDER   # the base is elsewhere now

The matrices are added in fp32. Where the base was in 4 bits (--quantize nf4), it is added to what
those come back as, which is what the adapter was tuned on. How far the merged model's logits are
from the adapter's is measured and printed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.errors import UserError


def main() -> None:
    args = parse_arguments()
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"{args.out}: is a file, and --out is a folder")
    if any((folder / "run.json").exists() for folder in (args.out, args.out.parent)):
        raise UserError(f"{args.out}: is a run's, which would be lost: give another --out")
    if args.out.exists() and not args.overwrite and any(args.out.iterdir()):
        raise UserError(f"{args.out}: is not empty: give another --out, or --overwrite")
    from gpt.adapters import merge_folder  # and with it torch, which --help needs not

    merged = merge_folder(args.adapter, args.out, args.model)
    print(f"{merged.adapter} on {merged.base}, merged in fp32: {args.out}")
    print(f"the largest difference in logits to the adapter's: {merged.gap:.1e}")
    if merged.gap_of_4_bits is not None:
        print(
            f"(The base is as it was tuned on, rounded to 4 bits: on the base before that, the "
            f"adapter's logits differ by up to {merged.gap_of_4_bits:.2g}.)"
        )


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--adapter", required=True, metavar="FOLDER", help="an adapter, or a run (its best/)")
    add("--model", metavar="NAME|FOLDER", help="its base (default: the one that it names)")
    add("--out", required=True, type=Path, metavar="FOLDER", help="where the model is written")
    add("--overwrite", action="store_true", help="replace the model that --out holds")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
