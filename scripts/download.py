"""Fetch a GPT-2 from the Hugging Face hub, check every byte, and say where it is.

python scripts/download.py gpt2                       # into the hub's cache: commands find it
python scripts/download.py gpt2-medium --out medium   # and a copy in a folder of your own
python scripts/download.py --list                     # the published five and their sizes
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.config import PUBLISHED
from gpt.download import HUB, DownloadError, find_model, model_files
from gpt.files import replacing_folder


def main() -> None:
    args = parse_arguments()
    if args.list:
        list_published()
        return
    folder = find_model(args.name, refresh=args.refresh)
    if args.out:
        folder = copy_model(folder, args.out)
    print_files(folder)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(
        __doc__,
        epilog="HF_HOME moves the cache, HF_ENDPOINT names a mirror, HF_TOKEN opens private and\n"
        "gated models, HF_HUB_OFFLINE=1 forbids the network.",
    )
    parser.add_argument("name", nargs="?", help=f"{', '.join(HUB)}, or owner/name[@revision]")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="copy it into a new folder too")
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="ask the hub for the newest of owner/name (without: what the cache has is good)",
    )
    parser.add_argument("--list", action="store_true", help="print the published models and stop")
    args = parser.parse_args()
    if not args.list and not args.name:
        parser.error("which model? Give a name, or --list to see the published ones")
    return args


def list_published() -> None:
    for name, config in PUBLISHED.items():
        source = HUB[name]
        print(
            f"{name:<12} {config.n_params():>13,} parameters  {source.repo}@{source.revision[:7]}"
        )


def copy_model(folder: Path, out: Path) -> Path:
    """Copy a model into a plain folder, which is whole or not there at all."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DownloadError(f"{out}: is there already, and stays as it is: give another --out")
    names = model_files(folder)
    if not any("model" in name for name in names):  # every kind of weights is named so
        raise DownloadError(f"{folder}: holds no weights to copy")
    try:
        with replacing_folder(out, replaces=names.__contains__) as new:
            for name in names:
                shutil.copyfile(folder / name, new / name)
    except OSError as error:
        raise DownloadError(f"{out}: the model was not copied: {error}") from error
    return out


def print_files(folder: Path) -> None:
    for name in model_files(folder):
        print(f"{(folder / name).stat().st_size:>15,}  {name}")
    print(folder)


if __name__ == "__main__":
    run(main)
