"""See instruction data as the model will: token by token, each with its part and its id.

python scripts/inspect_data.py data/instructions.json --n 3            # the first three
python scripts/inspect_data.py data/x.jsonl --seed 1 --html look.html  # some at random, and a page
python scripts/inspect_data.py data/x.csv --template chatml --model gpt2-medium
"""

import argparse
import os
import random
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.errors import UserError


def main() -> None:
    args = parse_arguments()
    from gpt import inspecting  # and with it numpy and tiktoken, which --help needs not
    from gpt.config import GPTConfig, read_config
    from gpt.encoding import encode_all
    from gpt.records import load_records, parse_fields
    from gpt.template import template_of
    from gpt.tokenizer import Tokenizer

    fields = parse_fields(args.fields) if args.fields else None
    folder = inspecting.vocabulary_folder(args.model)
    template = template_of(folder, args.template)
    has_config = (folder / "config.json").is_file()  # a vocabulary may lie there alone
    max_length = (read_config(folder / "config.json") if has_config else GPTConfig()).n_ctx
    records = load_records(args.files, fields, args.skip_bad)
    tokenizer = Tokenizer.from_folder(folder)
    examples = encode_all(records, tokenizer, template, max_length, overlong="drop")

    shown = choose(len(examples), args.n, args.seed)
    rows = inspecting.batch_rows(examples, shown, records, tokenizer)
    summary = inspecting.Summary.of(examples, max_length)
    title = inspecting.title_of(template, max_length)
    width = shutil.get_terminal_size((100, 24)).columns
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may not know every character
    print(inspecting.as_text(title, rows, summary, use_color(args.color), width))
    if args.html:
        write_page(args.html, inspecting.as_html(title, rows, summary), args.files)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__, epilog="NO_COLOR=1 in the environment turns colours off, too.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--n", type=int, default=3, help="how many examples (default: 3)")
    parser.add_argument("--seed", type=int, help="draw them at random (without: the first ones)")
    parser.add_argument(
        "--template",
        metavar="NAME|FILE",
        help="alpaca, alpaca-two, phi3, chatml, plain, or your own .json or .toml "
        "(default: the model's own, or alpaca)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="whose vocabulary (default: checkpoints/mini, or gpt2 from the hub's cache)",
    )
    parser.add_argument(
        "--fields",
        metavar="NAME=KEY,...",
        help="what your keys are called: instruction=talimat,input=girdi,output=cevap",
    )
    parser.add_argument("--skip-bad", action="store_true", help="go on without faulty records")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--html", type=Path, metavar="OUT.html", help="write it as a page, too")
    args = parser.parse_args()
    if args.n < 0:
        parser.error("--n is how many examples to show: 0 or more")
    return args


def choose(n_examples: int, n: int, seed: int | None) -> list[int]:
    """Which examples to show, in the order of the data."""
    if seed is None:
        return list(range(min(n, n_examples)))
    return sorted(random.Random(seed).sample(range(n_examples), min(n, n_examples)))


def use_color(choice: str) -> bool:
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def write_page(path: Path, page: str, inputs: list[Path]) -> None:
    if path.suffix.lower() not in (".html", ".htm") or path.resolve() in map(Path.resolve, inputs):
        raise UserError(f"{path}: not written: a page's name ends in .html, and is not the data's")
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: not written: {error.strerror or error}") from None
    print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
