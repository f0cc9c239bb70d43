"""Talk to a model in the terminal.

python scripts/chat.py --model checkpoints/gpt2-mine
python scripts/chat.py --model checkpoints/gpt2-mine --temperature 0.8 --top-p 0.95
python scripts/chat.py --model gpt2                       # never tuned: it goes on with your text

A tuned model has the template that it was tuned with, and each question is put to it with the whole
conversation before. /help lists what else there is.
"""

import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.speaking import Controls, add_flags, for_terminal, load_speaker


def main() -> None:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--model", required=True, metavar="NAME|FOLDER", help="a model, or a run (its best/)")
    add("--system", default="", metavar="TEXT", help="what stands before the conversation")
    add_flags(parser)
    args = parser.parse_args()
    controls = Controls.of(args)
    from gpt.chatting import Chat, ChatError, converse  # and torch, which --help needs not

    speaker = load_speaker(args.model, args.template, args.device, args.precision, args.adapter)
    raw = not speaker.is_tuned and args.template is None
    if raw and args.system:
        raise ChatError(f"--system: {args.model} was never tuned: give a --template, too")
    tell(speaker.introduction())
    if raw:
        tell("it was never tuned to answer: it goes on with what you write, each text by itself")
        tell("(--template alpaca asks it as if it were tuned)")
    elif not speaker.is_tuned:
        tell(f"it was never tuned to answer: it is asked in the template {speaker.template.name}")
    converse(Chat(speaker, controls, raw, args.system), reader(), write, tell)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def write(piece: str) -> None:
    print(for_terminal(piece) if sys.stdout.isatty() else piece, end="", flush=True)


def reader():
    """Lines of a person at a terminal, or of a file or pipe."""
    if not sys.stdin.isatty():
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")
        return lambda goes_on: next((line.rstrip("\r\n") for line in sys.stdin), None)
    with contextlib.suppress(ImportError):  # Windows has none, and arrows and history all the same
        import readline  # noqa: F401

    def read(goes_on: bool) -> str | None:
        try:
            return input("...> " if goes_on else "you> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return None

    return read


if __name__ == "__main__":
    run(main)
