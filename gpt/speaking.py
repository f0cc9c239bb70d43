"""A model and how it is asked: what the scripts that talk to one have in common.

    --model ─> Speaker (model, tokenizer, template) ─┐
    --temperature, --top-p, … ─> Controls ───────────┴─> chatting.py, answering.py

A tuned model's folder holds the template that it was tuned with, and no other will do. One that was
never tuned has none: it is asked in the one that is wanted, and whoever asks it is told so.

    python -m gpt.speaking      # the controls, and what is refused before a model is loaded
"""

import argparse
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt.cli import run
from gpt.download import find_model
from gpt.errors import UserError

if TYPE_CHECKING:  # with these comes torch, for which --help need not wait
    from gpt.model import GPT
    from gpt.template import Template
    from gpt.tokenizer import Tokenizer


class SpeakingError(UserError):
    """A setting of an answer, or a model, with which none can be had."""


# ---- how a model answers --------------------------------------------------------------------


def _c(default: Any, kind: type, told: str) -> Any:
    return field(default=default, metadata={"kind": kind, "help": told})


@dataclass(frozen=True)
class Controls:
    """What a person may set of an answer: the flags of three scripts, and the chat's /settings."""

    max_new_tokens: int = _c(256, int, "tokens of an answer at most")
    temperature: float = _c(0.0, float, "0: always the likeliest token; 1: as the model has it")
    top_k: int | None = _c(None, int, "draw from the likeliest tokens, this many")
    top_p: float | None = _c(None, float, "draw from those that together have this probability")
    min_p: float | None = _c(None, float, "draw from those with this share of the likeliest one's")
    repetition_penalty: float = _c(1.0, float, "above 1: what was said is less likely again")
    stop: tuple[str, ...] = _c((), str, "end before this text; may be given several times")
    seed: int = _c(0, int, "of the draws, where the temperature is above 0")
    lookup: int = _c(
        0, int, "guess so many tokens, where few write: the same answer, perhaps sooner"
    )

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Controls":
        given = {f.name: getattr(args, f.name) for f in fields(cls)}
        controls = cls(**given | {"stop": tuple(given["stop"] or ())})
        controls.refuse_nonsense()
        return controls

    def refuse_nonsense(self) -> None:
        """Before a model is loaded that would refuse it."""
        from gpt.lookup import checked_lookup
        from gpt.sampling import Sampling, check

        sampling = Sampling(
            self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty
        )
        for name, value in (("max_new_tokens", self.max_new_tokens), ("seed", self.seed)):
            check(name, value, int, lambda n: n >= 0, "a whole number from 0 up")
        checked_lookup(self.lookup, sampling.is_plain)
        for text in self.stop:
            check("stop", text, str, lambda text: text != "", "a text that is not empty")

    def for_generate(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def changed(self, name: str, text: str) -> "Controls":
        """With one value set, as a person types it."""
        kinds = {f.name: f.metadata["kind"] for f in fields(self)}
        name = name.replace("-", "_")
        if name not in kinds:
            near = get_close_matches(name, kinds, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(kinds)}"
            raise SpeakingError(f"no setting is called {name}: {hint}")
        try:
            value = None if text.lower() in ("none", "off") else kinds[name](text)
        except ValueError:
            raise SpeakingError(f"{name}: {text!r} is no number") from None
        if value is None:
            value = type(self).__dataclass_fields__[name].default
        elif name == "stop":
            value = (text,)
        controls = replace(self, **{name: value})
        controls.refuse_nonsense()
        return controls

    def as_text(self) -> str:
        lines = []
        for f in fields(self):
            value = getattr(self, f.name)
            shown = (
                "none"
                if value in (None, ())
                else " ".join(map(repr, value))
                if f.name == "stop"
                else value
            )
            lines.append(f"  {f.name:<19}{shown!s:<8} {f.metadata['help']}")
        return "\n".join(lines)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each control, and four about the model."""
    add = parser.add_argument
    for f in fields(Controls):
        flag, kind = f"--{f.name.replace('_', '-')}", f.metadata["kind"]
        if f.name == "stop":
            add(flag, action="append", metavar="TEXT", help=f.metadata["help"])
            continue
        default = "" if f.default is None else f" (default: {f.default})"
        metavar = {int: "N", float: "X"}[kind]
        add(flag, type=kind, default=f.default, metavar=metavar, help=f.metadata["help"] + default)
    add(
        "--adapter",
        metavar="FOLDER",
        help="put it on --model; alone, as --model, an adapter finds its base by itself",
    )
    add(
        "--template",
        metavar="NAME|FILE",
        help="for a model that was never tuned (a tuned one has its own)",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="(default: auto)")
    add(
        "--precision",
        choices=("fp32", "bf16", "fp16", "auto"),
        default="fp32",
        help="of the weights: half of the memory in bf16 and fp16 (default: fp32)",
    )


# ---- a model and what belongs to it ---------------------------------------------------------


@dataclass
class Speaker:
    """A model with the words in which it is asked."""

    folder: Path
    model: "GPT"
    tokenizer: "Tokenizer"
    template: "Template"
    is_tuned: bool  # with this template; else it is one that may or may not work

    def introduction(self) -> str:
        """Which model it is, for a person who gave a run's folder or a name."""
        from gpt.lora import lora_of

        told = f"{self.folder}: {self.model.config.n_params():,} parameters"
        if adapter := lora_of(self.model):
            base = self.model.base
            bits = ", in 4 bits" if base.quantize == "nf4" else ""
            told = f"{self.folder}: an adapter of rank {adapter.rank} on {base.name}{bits}"
        device = self.model.wte.weight.device
        how = f"tuned with the template {self.template.name}" if self.is_tuned else "never tuned"
        return f"{told}, {how}, on {device}"


def load_speaker(
    name_or_folder: str | Path,
    template: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    adapter: str | Path | None = None,
) -> Speaker:
    """template: of a model that was never tuned; another than a tuned one's own is refused.

    adapter: put on the model. One that is given in the model's place finds its base by its name.
    """
    from gpt.adapters import template_folder
    from gpt.dataset import refuse_other_vocabulary
    from gpt.hardware import choose_precision, features_of, find_device
    from gpt.template import Template, template_of
    from gpt.tokenizer import Tokenizer
    from gpt.weights import load_model

    folder, base = find_model(adapter or name_or_folder), name_or_folder if adapter else None
    asked_in = template_folder(folder, base)
    is_tuned = Template.load(asked_in) is not None
    words = template_of(asked_in, template)
    found = find_device(device)
    dtype = choose_precision(precision, features_of(found)).dtype
    model = load_model(folder, found, dtype, base)
    if not model.vocabulary:
        raise SpeakingError(f"{folder}: has no vocabulary (vocab.json and merges.txt)")
    tokenizer = Tokenizer(model.vocabulary, folder)
    refuse_other_vocabulary(tokenizer, model.config)
    return Speaker(folder, model, tokenizer, words, is_tuned)


def for_terminal(text: str) -> str:
    """Without what would move the cursor or change colours: a model may write any byte."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if _is_control(c) and c not in "\n\t" else c for c in text
    )


def _is_control(c: str) -> bool:
    return c < " " or "\x7f" <= c <= "\x9f"


def _demo() -> None:
    controls = Controls().changed("temperature", "0.7").changed("top-p", "0.9")
    print(f"The controls of an answer, two of them changed:\n\n{controls.as_text()}\n")
    print("What is refused:")
    for name, value in (("temprature", "1"), ("top_k", "many"), ("top_p", "1.5")):
        try:
            controls.changed(name, value)
        except UserError as error:
            print(f"  {name} {value}: {error}")
    shown = for_terminal("\x1b[2J an answer that would clear the screen")
    print(f"\nWhat a terminal is shown of a model that writes control codes:\n  {shown}")


if __name__ == "__main__":
    run(_demo)
