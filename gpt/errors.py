"""A mistake of the person at the keyboard: told in one or two lines, with no traceback.

Every chapter raises its own kind of `UserError`, whose message says what is wrong, where (a file
and line, a flag, a tensor) and what to do. `cli.run` prints it and ends the script; any other
exception that escapes is a bug of ours, and keeps its traceback.
"""


class UserError(Exception):
    """Something that the person at the keyboard can mend."""

    exit_code = 1  # a run that failed; 2 for wrong usage, as argparse has it


def first_line(error: BaseException) -> str:
    """What a library said, without its pages of advice."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
