"""Put what each chapter prints into docs/walkthrough.md, where its command stands.

    python scripts/walkthrough.py            # write it anew
    python scripts/walkthrough.py --check    # only say whether it is what the chapters print

The text between is written by hand. A block begins with the command, and all below it is replaced:

    ```text
    $ python -m gpt.model
    …
    ```
"""

import contextlib
import io
import re
import runpy
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpt.cli import ArgumentParser, run
from gpt.errors import UserError

PAGE = ROOT / "docs" / "walkthrough.md"
BLOCK = re.compile(r"^```text\n\$ python -m (gpt\.\w+)\n.*?^```$", re.MULTILINE | re.DOTALL)


def printed_by(chapter: str) -> str:
    """As `python -m` does, but in this process: importing torch takes longer than any of them."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n")
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        # What it says of a module that is there twice, as itself and as __main__.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
        try:
            runpy.run_module(chapter, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            if ended.code:
                raise UserError(f"python -m {chapter} failed") from None
    out.flush()
    printed = out.buffer.getvalue().decode()
    return "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())


def with_what_is_printed(page: str) -> str:
    return BLOCK.sub(lambda m: f"```text\n$ python -m {m[1]}\n{printed_by(m[1])}\n```", page)


def main() -> None:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it is old")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    fresh = with_what_is_printed(page)
    if check and fresh != page:
        raise UserError(f"{PAGE}: not what the chapters print: run python scripts/walkthrough.py")
    if not check:
        PAGE.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    run(main)
