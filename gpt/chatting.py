"""A model to talk to: how it answers, the conversation so far, and what to do when that is full.

    a line ─> Chat.ask ─> turns ─> Template ─> prompt ids ─> generate ─> pieces of the answer
                 └──────────────────────────────────────────────┘ and the answer is a turn

A conversation has the template's own form, in which the model was tuned: each answer of before is
followed by the end token, which code puts there. A model that was never tuned answers nothing. It
goes on with a text, and is let do so: each text alone, with no template around it.

What the model sees at once is limited. When a conversation has outgrown it, the oldest questions
are left out with their answers, a system message stays, and it is said. A question that got an
empty answer is no part of the conversation: an answer without a word teaches a model nothing, when
it reads it again or when it is tuned on what was said.

    python -m gpt.chatting      # a conversation that outgrows its model, and is told so
    python scripts/chat.py --model checkpoints/gpt2-mine
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import torch

from gpt.cli import run
from gpt.errors import UserError
from gpt.generate import generate
from gpt.shapes import Turn
from gpt.speaking import Controls, Speaker


class ChatError(UserError):
    """A message or a command that nothing can be done with."""


# ---- a conversation -------------------------------------------------------------------------


class Reply(NamedTuple):
    text: str
    finish_reason: str  # stop, length, context; or interrupted
    notes: list[str]  # what a person has to know


@dataclass
class Chat:
    """What was said, and how it is put to the model."""

    speaker: Speaker
    controls: Controls
    raw: bool = False  # each text alone, with no template around it
    system: str = ""
    turns: list[Turn] = field(default_factory=list)  # user, assistant, user, …
    n_forgotten: int = 0  # of the turns, those that the model no longer sees
    n_asked: int = 0

    def ask(self, text: str, on_text: Callable[[str], object]) -> Reply:
        """The answer, piece by piece through `on_text`. A Ctrl-C ends it where it is."""
        speaker, notes = self.speaker, []
        ids = self._raw_ids(text) if self.raw else self._prompt_ids(text, notes)
        pieces: list[str] = []

        def hear(_: int, piece: str) -> None:
            pieces.append(piece)
            on_text(piece)

        reason = "interrupted"
        try:
            [answer] = generate(
                speaker.model, [ids], end_id=speaker.tokenizer.end_id,
                tokenizer=speaker.tokenizer, on_text=hear,
                row_numbers=[self.n_asked],  # asked the same again, it draws anew
                **self.controls.for_generate(),
            )  # fmt: skip
            reason = answer.finish_reason
            notes += [answer.note] if answer.note else []
        except KeyboardInterrupt:
            notes.append("stopped; what was said so far counts as the answer")
        if reason == "length":
            notes.append(f"cut off after {self.controls.max_new_tokens} tokens (max_new_tokens)")
        self.n_asked += 1
        said = "".join(pieces)
        if said.strip():
            self.turns += (Turn("user", text), Turn("assistant", said))
        else:
            notes.append("the answer is empty: it and its question are left out of what follows")
        return Reply(said, reason, notes)

    def _raw_ids(self, text: str) -> list[int]:
        ids = self.speaker.tokenizer.encode(text)
        self._refuse_too_long(ids)
        return ids or [self.speaker.tokenizer.end_id]

    def _prompt_ids(self, text: str, notes: list[str]) -> list[int]:
        """Of the conversation, as much as leaves room for an answer: from the end."""
        n_ctx = self.speaker.model.config.n_ctx
        room = min(self.controls.max_new_tokens, n_ctx // 4)
        first = self.n_forgotten
        while True:
            system = [Turn("system", self.system)] if self.system else []
            turns = [*system, *self.turns[first:], Turn("user", text)]
            ids = self.speaker.template.prompt_ids(self.speaker.tokenizer, turns)
            if len(ids) + room <= n_ctx or first == len(self.turns):
                break
            first += 2  # a question and its answer
        self._refuse_too_long(ids)
        if first and not self.n_forgotten:  # from now on it is so at nearly every question
            notes.append(
                "from here on the oldest questions are forgotten: the conversation has outgrown "
                f"the {n_ctx:,} tokens that the model sees at once (/reset begins anew)"
            )
        self.n_forgotten = first
        return ids

    def _refuse_too_long(self, ids: list[int]) -> None:
        n_ctx = self.speaker.model.config.n_ctx
        if len(ids) > n_ctx:
            raise ChatError(
                f"not asked: this message alone makes {len(ids):,} tokens, and the model sees "
                f"{n_ctx:,} at once"
            )

    def reset(self) -> None:
        self.turns, self.n_forgotten = [], 0

    def save(self, path: Path) -> None:
        """As a record of instruction data, which a model can be tuned on. Never over a file."""
        pairs = list(zip(self.turns[::2], self.turns[1::2], strict=True))
        if self.raw:
            records = [{"prompt": asked.text, "completion": said.text} for asked, said in pairs]
        else:
            turns = [Turn("system", self.system)] if self.system else []
            turns += self.turns
            records = [{"messages": [{"role": t.role, "content": t.text} for t in turns]}]
        text = json.dumps(records, indent=2, ensure_ascii=False) + "\n"
        try:
            with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except FileExistsError:
            raise ChatError(f"{path}: is there already: give another name") from None
        except OSError as error:
            raise ChatError(f"{path}: not written: {error.strerror or error}") from None


# ---- what a person types --------------------------------------------------------------------

HELP = """\
  /reset                 forget the conversation
  /save FILE.json        keep it, as data that a model can be tuned on
  /settings              how it answers
  /settings NAME VALUE   change that: /settings temperature 0.7
  /help                  this
  /quit                  leave; as Ctrl-D does, and Ctrl-C at the prompt
A line that ends in \\ goes on in the next. Ctrl-C stops an answer."""
_COMMANDS = ("/reset", "/save", "/settings", "/help", "/quit")


def obey(chat: Chat, line: str) -> str:
    """Do what a line that begins with a slash says; what there is to tell."""
    command, *arguments = line.split(maxsplit=2 if line.startswith("/settings") else 1)
    match command, arguments:
        case "/help", []:
            return HELP
        case "/reset", []:
            chat.reset()
            return "the conversation is forgotten"
        case "/save", [name]:
            if not chat.turns:
                raise ChatError("nothing was said yet")
            path = Path(name.strip()).expanduser()
            chat.save(path)
            n = len(chat.turns) // 2
            return f"written: {path} ({n:,} {'question' if n == 1 else 'questions'}, answered)"
        case "/settings", []:
            return chat.controls.as_text()
        case "/settings", [name, value]:
            chat.controls = chat.controls.changed(name, value.strip())
            return f"{name} is {value.strip()} from now on"
    if command in _COMMANDS:
        raise ChatError(f"{command} is used otherwise: /help shows how")
    near = get_close_matches(command, _COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else "/help lists them"
    raise ChatError(f"there is no {command}: {hint} (with a space before it, it is a message)")


def message_from(read: Callable[[bool], str | None]) -> str | None:
    """A message of one line, or of several: each but the last ends in a backslash.

    read: gives the next line, or None at the end; is told whether it goes on with a message.
    """
    lines: list[str] = []
    while (line := read(bool(lines))) is not None:
        if not line.endswith("\\"):
            return "\n".join([*lines, line])
        lines.append(line[:-1])
    return "\n".join(lines) if lines else None


def converse(
    chat: Chat,
    read: Callable[[bool], str | None],
    write: Callable[[str], object],
    tell: Callable[[str], object],
) -> None:
    """Until there is nothing more to read. write: pieces of answers. tell: a line about them."""
    while (message := message_from(read)) is not None:
        if not message.strip():
            continue
        try:
            if not message.startswith("/"):
                reply = chat.ask(message if chat.raw else message.strip(), write)
                write("\n")
                for note in reply.notes:
                    tell(note)
            elif message.split()[0] in ("/quit", "/exit"):
                return
            else:
                tell(obey(chat, message))
        except UserError as error:
            tell(str(error))


def _demo() -> None:
    from gpt.config import GPTConfig
    from gpt.model import GPT
    from gpt.template import Template
    from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary

    torch.manual_seed(0)
    tokenizer = Tokenizer(tiny_vocabulary(learn_merges("You: Bot: Good morning, how are you", 30)))
    config = GPTConfig(tokenizer.n_vocab, n_ctx=48, n_layer=1, n_head=2, n_embd=16)
    template = Template("demo", "You: {instruction}", "\nBot:\n")
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():  # or it would say over and over what it reads last
            parameter += 0.3 * torch.randn_like(parameter)
    speaker = Speaker(Path("demo"), model, tokenizer, template, is_tuned=True)
    chat = Chat(speaker, Controls(max_new_tokens=4))
    lines = iter(["Good morning,\\", "how are you?", "/settings top_p 2", "And you?", "/rest",
                  "Are you?", "/reset"])  # fmt: skip

    def read(goes_on: bool) -> str | None:
        line = next(lines, None)
        if line is not None:
            print(f"{'...' if goes_on else 'you'}> {line}")
        return line

    print("A model that has learnt nothing, and sees 48 tokens at once:\n")
    converse(chat, read, lambda piece: None, lambda note: print(f"     ({note})"))
    print("\nWhat it said is not worth showing.")


if __name__ == "__main__":
    run(_demo)
