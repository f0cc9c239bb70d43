"""What a judge has said, kept: `judgements.jsonl`, one reply a line, found again by its question.

    judge.py ─> (key, reply) ─> judgements.jsonl ─> the next run, which asks only what is not here

The key is a hash of all that a reply depends on: the messages, the model, the endpoint. So the file
is a journal, by which a killed run goes on, and a cache at once: an answer that has changed since
has another key, and whoever judges the same answers anew finds them judged.

    {"mode": "score", "judge": "llama3.1", "where": "test.json:7", "value": 85.0, "reason": null,
     "key": "0b5e…", "reply": "85"}

`value` is for people who read the file: this program reads it out of the reply again.
"""

import hashlib
import json
import os
from pathlib import Path

from gpt.endpoint import Endpoint, Messages, Reply
from gpt.errors import UserError
from gpt.files import add_whole

NAME = "judgements.jsonl"  # in a run's folder
_BEGINNING = b'{"mode":'  # of a line


class JudgementsError(UserError):
    """A file of judgements that is none, or cannot be written."""


def key_of(messages: Messages, endpoint: Endpoint) -> str:
    """Stands for a question and whom it is put to."""
    whole = json.dumps([endpoint.settings(), messages])
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


class Log:
    """Lines are only ever added, each in one write, as soon as there is a reply.

    A kill can leave a last line that breaks off. It is cut away before the next is added, and its
    question is asked again.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.replies: dict[str, Reply] = {}  # by key; of a question asked again, the last
        try:
            data = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise JudgementsError(f"{self.path}: not readable: {error.strerror or error}") from None
        *whole, rest = data.split(b"\n")
        for number, line in enumerate(whole, 1):
            if line.strip():
                self._take(line, number)
        n = min(len(rest), len(_BEGINNING))
        if rest[:n] != _BEGINNING[:n]:  # somebody's file that has no line break at its end
            raise self._not_ours(len(whole) + 1)
        self._n_good_bytes = len(data) - len(rest)
        self._must_cut = bool(rest)

    def _take(self, line: bytes, number: int) -> None:
        try:
            told = json.loads(line)
            key, reply, reason = told["key"], told["reply"], told.get("reason")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise self._not_ours(number) from None
        if type(key) is not str or type(reply) not in (str, type(None)):
            raise self._not_ours(number)
        self.replies[key] = Reply(reply, None if reply is not None else str(reason))

    def _not_ours(self, number: int) -> JudgementsError:
        return JudgementsError(
            f"{self.path}:{number}: not a judgement: give another file with --out, "
            "or mend or delete the line"
        )

    def add(self, key: str, reply: Reply, about: dict) -> None:
        """Keep a reply. about: what else its line is to say, `mode` first."""
        self.replies[key] = reply
        line = about | {"key": key, "reply": reply.text}
        if reply.text is None:
            line["reason"] = reply.reason
        data = json.dumps(line).encode() + b"\n"
        try:
            if self._must_cut:
                os.truncate(self.path, self._n_good_bytes)
                self._must_cut = False
            add_whole(self.path, data)
        except OSError as error:
            raise JudgementsError(f"{self.path}: not written: {error.strerror or error}") from None
