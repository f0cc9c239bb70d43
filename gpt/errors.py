"""What a person sees when something is wrong: one or two lines, no traceback.

Every chapter raises a `UserError` for a mistake that its maker can mend. The message says what is
wrong, where (a file and line, a flag, a tensor) and what to do. A script runs its `main` through
`exit_on_user_error`; anything else that escapes is a bug of ours and keeps its traceback.
"""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the person at the keyboard can mend."""

    exit_code = 1  # a run that failed; bad usage is argparse's own 2


def exit_on_user_error(main: Callable[[], None]) -> None:
    """Run a script's main; end with one line on stderr where a person could mend the cause."""
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader has gone: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
