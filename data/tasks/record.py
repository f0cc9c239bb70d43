"""One instruction with its answer, and what one may want to know of it."""

import re
from dataclasses import dataclass

SIDES = ("train", "validation", "test")


def plain(text: str) -> str:
    """The words of a text, in small letters: what two ways of writing the same have in common."""
    return " ".join(re.findall(r"[\w+'-]+", text.casefold()))


@dataclass
class Task:
    """What becomes a record of data/instructions.json."""

    instruction: str
    input: str
    output: str
    category: str
    wording: str  # the template behind the instruction: equal for tasks phrased alike
    closed: bool  # one answer is right, to the letter
    fact: str = ""  # the id of the fact that it asks for, if it asks for one
    held_out: bool = False  # no training instruction holds this fact
    content: str = ""  # what is asked for, however it is worded: on one side only, if not training
    split: str = "train"

    @property
    def text(self) -> str:
        return f"{self.instruction} {self.input} {self.output}"

    @property
    def prompt(self) -> str:
        """Equal for tasks that ask the same, but for case, stops and where the input begins."""
        return plain(f"{self.instruction} {self.input}")

    def as_record(self) -> dict[str, object]:
        record: dict[str, object] = {
            "instruction": self.instruction,
            "input": self.input,
            "output": self.output,
            "category": self.category,
            "wording": self.wording,
            "closed": self.closed,
        }
        if self.fact:
            record |= {"fact": self.fact, "held_out": self.held_out}
        return record | {"split": self.split}
