"""What all commands share: flags that are spelled out, a hint at a mistyped one, one-line errors.

A flag that is not known must never be taken for another or passed over: a run with
`--learning_rat 1e-3` that trains at the default rate costs a day before anyone notices.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NoReturn

from gpt.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """argparse, with no abbreviations, and a "did you mean" for what it does not know."""

    def __init__(
        self, description: str | None, epilog: str | None = None, folder: str = "scripts"
    ) -> None:
        super().__init__(
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,  # both are laid out by hand
            allow_abbrev=False,
        )
        self.folder = folder  # of the command, as one types it

    def parse_args(self, args: Sequence[str] | None = None) -> argparse.Namespace:
        args = sys.argv[1:] if args is None else args
        known = {flag for action in self._actions for flag in action.option_strings}
        for argument in args:
            flag = argument.partition("=")[0]
            if argument == "--":
                break  # values from here on
            if flag.startswith("--") and flag not in known:  # before what is missing is told
                near = get_close_matches(flag.replace("_", "-"), known, n=1)
                hint = f": did you mean {near[0]}?" if near else " (--help lists them all)"
                self.error(f"there is no {flag}{hint}")
        return super().parse_args(args)

    def error(self, message: str) -> NoReturn:
        """Two lines where argparse repeats the whole usage first."""
        if not _is_first():
            self.exit(2)
        self.exit(2, f"error: {message}\nusage: python {self.folder}/{self.prog} --help\n")


def _is_first() -> bool:
    """Of several processes that torchrun has started, all are given the same wrong flag."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


def run(main: Callable[[], None]) -> None:
    """Run a command's main; end with one line on stderr where a person can mend the cause."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]  # closed: >&-
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")  # an emoji on a console without is no failure
    try:
        main()
        for stream in streams:
            stream.flush()
    except UserError as error:
        if _is_first():
            print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader has gone: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
