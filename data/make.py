"""Write what the small model learns from: the corpus of its youth, the instructions of its tuning.

python data/make.py corpus --tokens-about 20M --seed 1 --out corpus.txt
python data/make.py instructions                  # writes data/instructions.json anew
python data/make.py check                         # works every closed answer out a second time

Both are the same for a seed on every machine. data/README.md says what they are.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTIONS = ROOT / "data" / "instructions.json"
sys.path.insert(0, str(ROOT))  # runs without being installed

CHARACTERS_PER_TOKEN = 3.6  # of a vocabulary of 4,096 entries that was learned from this text


def main() -> None:
    args = parse_arguments()
    if args.what == "corpus":
        write_corpus(args.out, args.tokens_about, args.seed)
    elif args.what == "instructions":
        write_instructions(args.out)
    else:
        check(args.out)


def parse_arguments() -> argparse.Namespace:
    from gpt.cli import ArgumentParser

    parser = ArgumentParser(__doc__, folder="data")
    parser.add_argument("what", choices=("corpus", "instructions", "check"))
    parser.add_argument(
        "--tokens-about",
        type=size,
        metavar="N",
        help="how much corpus: 500k, 20M (default: 1M); 3.6 characters count as one token",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the corpus (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="written, or checked (default: corpus.txt here, or data/instructions.json)",
    )
    args = parser.parse_args()
    if args.what != "corpus" and (args.seed, args.tokens_about) != (None, None):
        parser.error("--seed and --tokens-about are of the corpus; the instructions have their own")
    if args.seed is None:
        args.seed = 0
    if args.tokens_about is None:
        args.tokens_about = 1_000_000
    if args.out is None:
        args.out = Path("corpus.txt") if args.what == "corpus" else INSTRUCTIONS
    return args


def size(text: str) -> int:
    """500000, 500k or 20M."""
    match = re.fullmatch(r"(\d*[1-9]\d*)([kKmM]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"a number such as 500k or 20M, not {text!r}")
    return int(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]


def write_corpus(path: Path, tokens: int, seed: int) -> None:
    from tqdm import tqdm

    from data.corpus.stream import END, documents

    n_wanted = round(tokens * CHARACTERS_PER_TOKEN)
    n_documents = n_characters = 0
    with (
        writing(path),
        path.open("w", encoding="utf-8", newline="\n") as file,  # \n everywhere: equal bytes
        tqdm(total=n_wanted, unit="B", unit_scale=True, disable=None) as bar,
    ):
        for text in documents(seed):
            file.write(f"{text}\n{END}\n")
            n_documents += 1
            n_characters += len(text)
            bar.update(len(text))
            if n_characters >= n_wanted:
                break
    print(f"{path}: {n_documents:,} documents, {n_characters:,} characters, seed {seed}")


def write_instructions(path: Path) -> None:
    from data.tasks.build import as_json, build
    from gpt.files import replace_file

    records = build()
    with writing(path):
        replace_file(path, as_json(records).encode("utf-8"))
    print(f"{path}: {len(records):,} instructions")


def check(path: Path) -> None:
    from data.checking.check import problems
    from gpt.records import load_records

    load_records([path])  # whatever is wrong with the file itself, in one line
    found = problems(json.loads(path.read_text(encoding="utf-8")))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{path}: {len(found):,} faults" if found else f"{path}: every answer is right")
    sys.exit(1 if found else 0)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full disk, or a folder that is not there, in one line."""
    from gpt.errors import UserError

    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


if __name__ == "__main__":
    from gpt.cli import run

    run(main)
