"""A few validation prompts, answered after each epoch: a person watches the model learn.

The prompts are the same each time, and the answers greedy, so what changes is the model. They are
printed, and kept in the run's samples.md.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt.dataset import Sample
from gpt.files import replace_file
from gpt.generate import generate
from gpt.hardware import is_out_of_memory
from gpt.model import GPT
from gpt.tokenizer import Tokenizer

_MOST_TOKENS = 64
_MOST_BEFORE = 16  # before the first step, which waits for them
_HEADING = re.compile(r"## Step ([\d,]+), epoch .+")
_TITLE = "# A few validation prompts, as they were answered in the course of training\n"


def show_samples(
    model: GPT,
    tokenizer: Tokenizer,
    samples: Sequence[Sample],
    path: Path,
    step: int,
    epoch: float,
    say: Callable[[str], object],
) -> None:
    """Answer them, keep the answers and tell them. Where that fails it is said: none is worth a
    run.
    """
    try:
        most = _MOST_TOKENS if step else _MOST_BEFORE
        answers = answer_samples(model, tokenizer, samples, most)
        keep_samples(path, step, round(epoch, 2), samples, answers)
    except Exception as error:
        if not isinstance(error, OSError) and not is_out_of_memory(error):
            raise
        say(f"{path}: no samples this time: {error}")
        return
    for line in as_lines(samples, answers):
        say(line)


def answer_samples(
    model: GPT, tokenizer: Tokenizer, samples: Sequence[Sample], most: int
) -> list[str]:
    answers = generate(model, [sample.ids for sample in samples], most, end_id=tokenizer.end_id)
    unfinished = {"length": " …", "context": " …"}
    return [tokenizer.decode(a.ids) + unfinished.get(a.finish_reason, "") for a in answers]


def as_lines(samples: Sequence[Sample], answers: Sequence[str], width: int = 100) -> list[str]:
    """For a terminal: what was asked, and what came."""
    lines = []
    for sample, answer in zip(samples, answers, strict=True):
        lines.append(f"  {_one_line(sample.shown, width - 2)}")
        lines.append(f"    > {_one_line(answer, width - 6)}")
    return lines


def _one_line(text: str, width: int) -> str:
    text = " ↵ ".join(line.strip() for line in text.splitlines() if line.strip())
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def keep_samples(
    path: Path, step: int, epoch: float, samples: Sequence[Sample], answers: Sequence[str]
) -> None:
    parts = [] if path.exists() else [_TITLE]
    parts.append(f"\n## Step {step:,}, epoch {epoch:g}\n")
    for sample, answer in zip(samples, answers, strict=True):
        parts.append(f"\n{_quoted(sample.shown)}\n\n{_fenced(answer)}\n")
        parts.append(f"\nReference:\n\n{_fenced(sample.reference)}\n")
    with path.open("ab") as file:  # as bytes: half of a surrogate pair, from the data, is no UTF-8
        file.write("".join(parts).encode("utf-8", "backslashreplace"))


def cut_samples(path: Path, step: int) -> None:
    """Drop what was written after this step: a resumed run does it again."""
    if not path.exists():
        return
    kept: list[str] = []
    in_fence = ""
    for line in path.read_bytes().decode("utf-8", "replace").split("\n"):  # and at no \r
        if in_fence:
            in_fence = "" if line == in_fence else in_fence
        elif line.startswith("```"):
            in_fence = line
        elif line.startswith("##"):
            heading = _HEADING.fullmatch(line)  # None: the disk was full
            if heading is None or int(heading[1].replace(",", "")) > step:
                break
        kept.append(line)
    replace_file(path, ("\n".join(kept).rstrip("\n") + "\n").encode())


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _fenced(text: str) -> str:
    """In a fence longer than any inside, so that nothing in an answer can end it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
