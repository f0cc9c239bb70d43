"""A dataclass of settings as a command line: a flag for each, and a TOML file beside them.

    argv ─> what was given ─┐
    FILE.toml ─> its lines ─┴─> settings.combine ─> setting_rules.check

Whoever wants to know what a run would do needs three places at most, in this order: the flag, the
file's line, the default. What is in none of them is not a setting, and gets a "did you mean".

    python scripts/train.py --config mine.toml --lr 3e-5        # the flag wins over the file

    # mine.toml
    data = ["mine.json"]
    lr = 5e-5
    batch-size = 16             # or batch_size
"""

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gpt.cli import ArgumentParser
from gpt.setting_rules import check, check_each
from gpt.settings import GROUPS, SettingsError, TrainSettings, combine, flag, names, type_name


def parser_of(description: str, epilog: str | None = None) -> ArgumentParser:
    parser = ArgumentParser(description, epilog)
    parser.formatter_class = _HelpFormatter
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="settings, a line for each"
    )
    for title in GROUPS:
        group = parser.add_argument_group(title)
        for f in fields(TrainSettings):
            if f.metadata["group"] == title:
                group.add_argument(flag(f.name), **_argument(f))
                if alone := f.metadata.get("alone"):
                    group.add_argument(
                        f"--no-{flag(f.name)[2:]}", dest=f.name, action="store_const",
                        const=alone[1], default=argparse.SUPPRESS, help=argparse.SUPPRESS,
                    )  # fmt: skip
    return parser


def _argument(f: Any) -> dict[str, Any]:
    """What argparse is told of a field. It is to say nothing of a flag that was not given."""
    kind = type_name(f).removesuffix(" | None")
    default = getattr(TrainSettings(), f.name)
    told = f.metadata["help"]
    if default is not None and kind != "bool":
        shown = " ".join(default) if isinstance(default, list) else default
        told += f" (default: {shown})"
    if default is True:
        told += " (default: yes)"
    argument: dict[str, Any] = {
        "default": argparse.SUPPRESS,
        "dest": f.name,
        "help": told.replace("%", "%%"),
    }
    if kind == "bool":
        return argument | {"action": argparse.BooleanOptionalAction}
    if choices := f.metadata.get("choices"):
        if alone := f.metadata.get("alone"):
            argument |= {"nargs": "?", "const": alone[0]}
        return argument | {"metavar": "|".join(choices)}
    if kind == "list[str]":
        return argument | {"nargs": "+", "metavar": f.metadata["metavar"]}
    types = {"int": int, "float": float, "str": str}
    metavar = f.metadata.get("metavar", {"int": "N", "float": "X", "str": "TEXT"}[kind])
    return argument | {"type": types[kind], "metavar": metavar}


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Flags in one column, their help in another; `--x, --no-x` without repeating the long name."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            name = action.option_strings[0].removeprefix("--")
            return f"--[no-]{name}"
        return super()._format_action_invocation(action)

    def _format_usage(self, usage, actions, groups, prefix) -> str:
        return "usage: python scripts/train.py [--config FILE.toml] [--a-setting VALUE …]\n\n"


def parse(parser: ArgumentParser, argv: Sequence[str] | None = None) -> tuple[TrainSettings, set]:
    """Settings from the command line and the file that it names; and those given by either."""
    flags = vars(parser.parse_args(argv))
    path = flags.pop("config")
    settings, given = combine(flags, read_toml(path) if path else {})
    check(settings, given)
    return settings, given


def read_toml(path: Path) -> dict[str, Any]:
    try:
        lines = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not readable as TOML: {error}") from None
    known = names()
    given: dict[str, Any] = {}
    for key, value in lines.items():
        name = key.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f": did you mean {near[0]}?" if near else " (train.py --help lists them all)"
            raise SettingsError(f"{path}: there is no setting {key}{hint}")
        if name in given:
            raise SettingsError(f"{path}: {name} is given twice")
        given[name] = value
    try:
        check_each(combine(given)[0])  # how they go together is seen when the flags are there
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    return given
