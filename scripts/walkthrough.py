"""Put what each chapter prints into docs/walkthrough.md, where its command stands.

    python scripts/walkthrough.py            # write it anew
    python scripts/walkthrough.py --check    # only say whether it is what the chapters print

The text between is written by hand. A block begins with the command, and all below it is replaced:

    ```text
    $ python -m gpt.model
    …
    ```
"""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpt.cli import ArgumentParser, run
from gpt.errors import UserError

PAGE = ROOT / "docs" / "walkthrough.md"
BLOCK = re.compile(r"^```text\n\$ python -m (gpt\.\w+)\n.*?^```$", re.MULTILINE | re.DOTALL)


def printed_by(chapter: str) -> str:
    command = [sys.executable, "-X", "utf8", "-m", chapter]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    if ran.returncode:
        raise UserError(f"python -m {chapter} failed:\n{ran.stderr.strip()}")
    return "\n".join(line.rstrip() for line in ran.stdout.strip("\n").splitlines())


def with_what_is_printed(page: str) -> str:
    chapters = [match[1] for match in BLOCK.finditer(page)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        printed = dict(zip(chapters, pool.map(printed_by, chapters), strict=True))
    return BLOCK.sub(lambda m: f"```text\n$ python -m {m[1]}\n{printed[m[1]]}\n```", page)


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
