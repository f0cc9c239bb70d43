"""The prompt, as data: from a conversation to ids, and to the part that each of them plays.

    records.py ─> Template + Tokenizer ─> ids and parts ─> batching.py (training)
                                      └─> prompt ids ────> generate.py, chat, serving

A template is a few pieces of text. One object makes the prompt of training, of evaluation and of
generation, and the Jinja with which `transformers` makes it; it lies beside the weights that were
tuned with it, as `template.json`, and its hash tells it from any other. Three rules keep the line
between what is read and what is learnt where it belongs:

  - A prompt and its answer are tokenised apart. The prompt ends in one line break after a visible
    character, where GPT-2 cuts anyway, so that the model meets in use what it met in training.
  - Only code writes the end token: after each answer, by position. In a text it is 13 characters.
  - A prompt has the ids of its whole text, as if encoded in one go. `segments.py` does not encode
    the preamble 52,000 times, and that changes no id.

    python -m gpt.template      # one record in every template, part by part

Sources: Taori et al., "Stanford Alpaca" (2023), whose first preamble the book *Build a Large
Language Model (From Scratch)* uses for all records; Abdin et al., "Phi-3 Technical Report" (2024);
OpenAI's ChatML.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from gpt.cli import run
from gpt.errors import UserError
from gpt.jinja import chat_template
from gpt.records import Record, Turn
from gpt.segments import (
    ANSWER,
    BLANKS,
    END,
    HEADER,
    INPUT,
    INSTRUCTION,
    PARTS,
    PREAMBLE,
    SYSTEM,
    Encoder,
    Example,
    Segment,
    first_cut,
)
from gpt.tokenizer import END as END_TEXT
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from gpt.vocabulary import GPT2_SETTINGS

NAME = "template.json"  # in a model's folder


class TemplateError(UserError):
    """A template that cannot be right, or records that it cannot make examples of."""


@dataclass(frozen=True)
class Template:
    """The pieces, in which {braces} mark a record's text.

    A conversation opens with its system message, or where it has none with the preamble. Each
    turn of the user adds `instruction`, then `input` if it has one, then `response`, after which
    stand the answer and the end token.
    """

    name: str
    instruction: str
    response: str  # what asks for the answer; ends in one line break after a visible character
    input: str = "\n\n{input}"
    system: str = "{system}\n\n"
    preamble: str = ""
    preamble_with_input: str = ""  # instead, if the first turn has an input; "": the same

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_piece(field.name, getattr(self, field.name))
        if self.response[-1:] != "\n" or self.response[-2:-1] in BLANKS | {""}:
            raise TemplateError(
                f"response is {self.response!r}, and must end in one line break after a visible "
                r"character, as 'Answer:\n' does: GPT-2 cuts a text there, so no answer can merge "
                "with it (a space would become part of the answer's first word)"
            )

    @classmethod
    def from_name(cls, name: str) -> "Template":
        if name not in BUILT_IN:
            hint = _did_you_mean(name.lower(), BUILT_IN)
            raise TemplateError(
                f"{name}: no such template{hint} ({', '.join(BUILT_IN)}, or a .json or .toml file)"
            )
        return BUILT_IN[name]

    @classmethod
    def from_file(cls, path: str | Path) -> "Template":
        """One's own pieces, from JSON or TOML. Where they have no `name`, the file's is theirs."""
        path = Path(path)
        read = tomllib.loads if path.suffix.lower() == ".toml" else json.loads
        try:
            pieces = read(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise TemplateError(f"{path}: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:
            raise TemplateError(f"{path}: not readable as a template: {error}") from None
        if type(pieces) is not dict:
            raise TemplateError(f"{path}: expected an object with the pieces of a template")
        return cls.from_dict({"name": path.stem} | pieces, str(path))

    @classmethod
    def from_dict(cls, pieces: dict, where: str = "template") -> "Template":
        names = [field.name for field in fields(cls)]
        for name in pieces:
            if name not in names:
                hint = _did_you_mean(name, names)
                raise TemplateError(
                    f"{where}: a template has no piece {name!r}{hint} ({', '.join(names)})"
                )
        for name in ("name", "instruction", "response"):
            if name not in pieces:
                raise TemplateError(f"{where}: {name} is missing")
        try:
            return cls(**pieces)
        except TemplateError as error:
            raise TemplateError(f"{where}: {error}") from None

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    def chat_template(self) -> str:
        """Jinja with which `apply_chat_template(messages(turns))` of transformers does the same."""
        return chat_template(self.to_dict())

    @cached_property
    def hash(self) -> str:
        """The same for templates that write the same prompts, whatever they are called."""
        pieces = self.to_dict() | {"name": ""}
        return hashlib.sha256(json.dumps(pieces, sort_keys=True).encode()).hexdigest()[:16]

    # Into a model's folder, and out of it.

    def add_to(self, vocabulary: dict[str, bytes]) -> dict[str, bytes]:
        """A model's vocabulary files with this template among them, for `save_model` to write.

        `template.json` is for us. The chat template in the tokenizer's settings is for
        transformers, and all that builds on it; in a file of its own, another would win over it.
        """
        files = vocabulary | {NAME: _json(self.to_dict())}
        files.pop("chat_template.jinja", None)
        if vocabulary:
            given = vocabulary.get("tokenizer_config.json")
            settings = json.loads(given) if given else GPT2_SETTINGS
            chat = {"chat_template": self.chat_template()}
            files["tokenizer_config.json"] = _json(settings | chat)
        return files

    def save(self, folder: str | Path) -> None:
        (Path(folder) / NAME).write_bytes(_json(self.to_dict()))

    @classmethod
    def load(cls, folder: str | Path) -> "Template | None":
        """The template that a model was tuned with; None where its folder has none."""
        path = Path(folder) / NAME
        return cls.from_file(path) if path.exists() else None

    # To ids.

    def _halves(self, slot: str) -> list[str]:
        """The template's own text before and after a text of the record's."""
        return getattr(self, slot).split(f"{{{slot}}}")

    @cached_property
    def _frames(self) -> dict[str, tuple[list[Segment], list[Segment]]]:
        return {slot: tuple(map(_own, self._halves(slot))) for slot in _SLOTS}

    @cached_property
    def _response(self) -> list[Segment]:
        return _own(self.response)

    @cached_property
    def constants(self) -> list[str]:
        """The template's own stretches of text, which each record has anew."""
        own = [*self._response]
        for before, after in self._frames.values():
            own += before + after
        return [self.preamble, self.preamble_with_input, *(text for _, text in own)]

    def segments(self, turns: Sequence[Turn]) -> list[Segment]:
        """A conversation in stretches of text, up to the last answer's end or to its place."""
        frames, segments = self._frames, []
        preamble = (turns[0].input and self.preamble_with_input) or self.preamble
        if preamble and turns[0].role != "system":
            segments.append((PREAMBLE, preamble))
        for role, text, input in turns:
            if role == "assistant":
                segments += ((ANSWER, text), (END, ""))
                continue
            slot, part = ("system", SYSTEM) if role == "system" else ("instruction", INSTRUCTION)
            before, after = frames[slot]
            segments += (*before, (part, text), *after)
            if role == "user":
                if input:
                    before, after = frames["input"]
                    segments += (*before, (INPUT, input), *after)
                segments += self._response
        return segments

    def prompt_ids(self, tokenizer: Tokenizer, turns: Sequence[Turn]) -> list[int]:
        """For generation: all that stands before the answer to the user's last turn."""
        if turns[-1].role != "user":
            raise ValueError("a prompt ends with a turn of the user's")
        encoder = Encoder(tokenizer)
        encoder.add(self.segments(turns))
        return encoder.ids.tolist()

    def encode(self, tokenizer: Tokenizer, record: Record) -> Example:
        """For training: the prompt and the answer. `collate` adds the last end token."""
        encoder = Encoder(tokenizer)
        encoder.add(self.segments(record.turns)[:-1])
        return Example(*encoder.arrays())


_SLOTS = ("system", "instruction", "input")  # the pieces that hold a text of the record's


def _own(text: str) -> list[Segment]:
    """A template's own text, in two where a record's text could only merge with its beginning."""
    at = 0 if text[:1] in BLANKS else first_cut(text)
    return [(HEADER, piece) for piece in (text[:at], text[at:]) if piece]


def _check_piece(name: str, text: object) -> None:
    if type(text) is not str:
        raise TemplateError(f"{name} must be a text, not {text!r:.60}")
    for slot in _SLOTS:
        n, needed = text.count(f"{{{slot}}}"), int(slot == name)
        if n != needed:
            raise TemplateError(f"{name} holds {{{slot}}} {n} times, where {needed} is right")
    if END_TEXT in text:
        raise TemplateError(f"{name} holds {END_TEXT}: leave it out, the code ends each answer")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TemplateError(f"{name} holds half of a surrogate pair, which is no text") from None


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


_TASK = "Below is an instruction that describes a task"
_WRITE = "Write a response that appropriately completes the request."
_ALPACA = Template(
    name="alpaca",
    preamble=f"{_TASK}. {_WRITE}",
    system="{system}",
    instruction="\n\n### Instruction:\n{instruction}",
    input="\n\n### Input:\n{input}",
    response="\n\n### Response:\n",
)
DEFAULT = _ALPACA.name
BUILT_IN = {
    template.name: template
    for template in (
        _ALPACA,
        replace(
            _ALPACA,
            name="alpaca-two",
            preamble_with_input=f"{_TASK}, paired with an input that provides further context. "
            + _WRITE,
        ),
        Template(
            name="phi3",  # without its <|end|>: GPT-2 has one token that ends, after answers
            system="<|system|>\n{system}\n",
            instruction="<|user|>\n{instruction}",
            input="\n{input}",
            response="\n<|assistant|>\n",
        ),
        Template(
            name="chatml",  # <|im_start|> is ordinary text to GPT-2: six tokens
            system="<|im_start|>system\n{system}<|im_end|>\n",
            instruction="<|im_start|>user\n{instruction}",
            input="\n{input}",
            response="<|im_end|>\n<|im_start|>assistant\n",
        ),
        Template(name="plain", instruction="{instruction}", response="\n\n###\n"),
    )
}


def find_template(name_or_file: str) -> Template:
    is_file = name_or_file.lower().endswith((".json", ".toml"))
    return Template.from_file(name_or_file) if is_file else Template.from_name(name_or_file)


def template_of(folder: str | Path, asked: str | None = None) -> Template:
    """The template for a model: its own, or if it was never tuned the one asked for.

    Another than its own is refused: the model would be asked in words it was not tuned on.
    """
    stored = Template.load(folder)
    if stored is None:
        return find_template(asked or DEFAULT)
    if asked is not None and find_template(asked).hash != stored.hash:
        raise TemplateError(
            f"{folder}: tuned with the template {stored.name!r} ({stored.hash}), and {asked!r} "
            f"({find_template(asked).hash}) writes other prompts: leave out --template"
        )
    return stored


def _demo() -> None:
    user = Turn("user", "Name the capital.", "Country: Türkiye")
    record = Record((user, Turn("assistant", "It's Ankara.")), "demo.json", 1, {})
    text = f"{_ALPACA.preamble} {user.text} It's Ankara."
    tokenizer = Tokenizer(tiny_vocabulary(learn_merges(text, 60)))
    for name, template in BUILT_IN.items():
        print(f"{name} ({template.hash})")
        for part, text in template.segments(record.turns):
            if part == ANSWER:
                print("  ----------- read above, learnt below")
            print(f"  {PARTS[part]:<11} {text or END_TEXT!r}")
        ids, parts = template.encode(tokenizer, record)
        prompt = template.prompt_ids(tokenizer, record.turns[:-1])
        n_answer = (parts == ANSWER).sum()
        same = ids[:-n_answer].tolist() == prompt
        print(f"  {len(prompt)} prompt tokens + {n_answer} of the answer + 1 end token")
        print(f"  training and generation {'agree on' if same else 'DIFFER IN'} the prompt\n")
    print("The last one again, as a chat template for transformers:\n")
    print(template.chat_template())


if __name__ == "__main__":
    run(_demo)
