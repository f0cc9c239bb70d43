"""The shapes that instruction data comes in: an object from a file -> the turns of a conversation.

    Alpaca             {"instruction": …, "input": …, "output": …}
    prompt/completion  {"prompt": …, "completion": …}; Dolly's and question/answer are like it
    OpenAI             {"messages": [{"role": "user", "content": …}, …]}
    ShareGPT           {"conversations": [{"from": "human", "value": …}, …]}

Which one it is, the keys tell. Where they do not tell clearly, that is a problem to report and not
a choice to make: a wrong guess trains on the wrong text, and looks like a run that went well.
`records.py` comes next.

Sources: Taori et al., "Alpaca" (2023); OpenAI's fine-tuning guide; the files of ShareGPT, OpenOrca
and databricks-dolly-15k as they are.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import NamedTuple

from gpt.textfile import brief

# What we call a field -> what its key may be. The first instruction goes with the first output,
# and so on; `--fields` puts a name of one's own in the place of all of a row.
KEYS = {
    "instruction": ("instruction", "prompt", "question"),
    "output": ("output", "completion", "answer", "response"),
    "input": ("input", "context"),
    "system": ("system", "system_prompt"),
    "messages": ("messages", "conversations"),
}
ROLES = {
    "system": "system",
    "developer": "system",  # OpenAI's newer name
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_SHAPES = (
    "instruction and output (Alpaca), prompt and completion, messages (OpenAI) or conversations "
    "(ShareGPT); or name its keys: --fields instruction=…,output=…"
)
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
_KINDS |= {int: "a number", float: "a number", type(None): "null"}

_WORD = re.compile(r"[^\W\d_]+|\d+")
_CAPITAL_WITHIN = re.compile(r"(?<=[a-z])(?=[A-Z])")  # contextId
_NO_SLIPS = ("content", "contents")  # words of their own, one letter away from "context"

Keys = dict[str, tuple[str, ...]]
Group = tuple[str, ...]  # keys that belong together: a pair, or one alone


class Turn(NamedTuple):
    """One utterance."""

    role: str  # "system", "user" or "assistant"
    text: str
    input: str = ""  # Alpaca's second field: what the instruction is about; of a user's turn only


class Layout(NamedTuple):
    """Which key of an object holds what; those that it has not are None."""

    system: str | None = None
    messages: str | None = None
    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    problems: tuple[str, ...] = ()
    used: tuple[str, ...] = ()  # the keys above, in this order
    rivals: tuple[tuple[Group, ...], ...] = ()  # groups of which only one may hold text


class ShapeReader:
    """Makes turns of objects of any shape. What their keys mean is decided once for all alike.

    fields: the names of keys where they are others: {"instruction": "talimat"}.
    need_answers: False where a bare prompt will do, one that ends with the user's turn.
    """

    def __init__(self, fields: dict[str, str], need_answers: bool) -> None:
        self._keys = KEYS | {name: (key,) for name, key in fields.items()}
        self._need_answers = need_answers
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self.unseen = dict(fields)  # those of `fields` that no object has had yet
        self.seen: dict[str, None] = {}  # keys that objects have; enough of them for a hint

    def layout(self, value: dict) -> Layout:
        there = tuple(value)
        layout = self._layouts.get(there)
        if layout is None:
            if len(self._layouts) > 1000:  # no two objects are alike: nothing is gained
                self._layouts.clear()
            layout = self._layouts[there] = _layout_of(there, self._keys, self._need_answers)
            self.unseen = {name: key for name, key in self.unseen.items() if key not in value}
            if len(self.seen) < 1000:
                self.seen |= dict.fromkeys(there)
        if layout.messages and value[layout.messages] is None:  # a column that others need
            return self.layout({key: value[key] for key in value if key != layout.messages})
        for groups in layout.rivals:
            full = [group for group in groups if not any(_is_blank(value[key]) for key in group)]
            kept = full or groups[:1]
            if len(kept) == 1:  # the others are columns that other records need
                left_out = {key for group in groups if group not in kept for key in group}
                return self.layout({key: value[key] for key in value if key not in left_out})
        return layout

    def turns(self, value: dict, layout: Layout, problems: list[str]) -> tuple[Turn, ...]:
        """The conversation in an object. What is wrong with it is added to `problems`."""
        system_key, messages, instruction, input_key, output, wrong_keys, *_ = layout
        problems += wrong_keys
        turns = []
        if system_key and (text := _optional(value, system_key, problems)):
            turns.append(Turn("system", text))
        if messages:
            turns += _from_messages(value, messages, bool(turns), self._need_answers, problems)
        if instruction:
            about = _optional(value, input_key, problems) if input_key else ""
            turns.append(Turn("user", _text(value, instruction, problems), about))
        if output and (self._need_answers or _optional(value, output, problems)):
            turns.append(Turn("assistant", _text(value, output, problems)))
        return tuple(turns)


# ---- what the keys mean ---------------------------------------------------------------------


def _layout_of(there: tuple[str, ...], keys: Keys, need_answers: bool) -> Layout:
    """What the keys of an object mean, or why that is not clear."""
    first = {name: next((key for key in row if key in there), None) for name, row in keys.items()}
    system, problems = first["system"], []
    rivals: list[tuple[Group, ...]] = []
    optional = ("system",) if first["messages"] else ("input", "system")
    if first["messages"]:
        layout = Layout(system=system, messages=first["messages"])
    else:
        asked, answered = _pair(there, keys, problems, rivals)
        if not problems and not (asked and (answered or not need_answers)):
            problems.append(_what_is_missing(asked, answered, keys, there))
        layout = Layout(system, None, asked, first["input"], answered)
    for name in optional:
        candidates = [key for key in keys[name] if key in there]
        if len(candidates) > 1:
            problems.append(_which_is(name, candidates))
            rivals.append(tuple((key,) for key in candidates))
        elif not candidates:
            problems += _slips(name, keys, there)
    used = tuple(key for key in layout[:5] if key)
    return layout._replace(problems=tuple(problems), used=used, rivals=tuple(rivals))


def _pair(
    there: tuple[str, ...], keys: Keys, problems: list[str], rivals: list[tuple[Group, ...]]
) -> tuple[str | None, str | None]:
    """The keys of the instruction and of its answer."""
    rows = zip(keys["instruction"], keys["output"], strict=False)
    pairs = [pair for pair in rows if pair[0] in there and pair[1] in there]
    if len(pairs) > 1:
        which = " or ".join(f"{asked!r} and {answered!r}" for asked, answered in pairs)
        problems.append(f"which pair is it, {which}? Say --fields instruction=…,output=…")
        rivals.append(tuple(pairs))
    if pairs:
        return pairs[0]
    pair = []
    for name in ("instruction", "output"):
        candidates = [key for key in keys[name] if key in there]
        pair.append(candidates[0] if candidates else None)
        if len(candidates) > 1:
            problems.append(_which_is(name, candidates))
    return pair[0], pair[1]


def _which_is(name: str, candidates: list[str]) -> str:
    return f"which is the {name}, {' or '.join(map(repr, candidates))}? Say --fields {name}=…"


def _slips(name: str, keys: Keys, there: tuple[str, ...]) -> list[str]:
    """Keys so close to one that may be left out that its text would be lost without a word."""
    known = {key for row in keys.values() for key in row}
    return [
        f"{brief(key)} is no key we know: did you mean {wanted!r}? --fields {name}={key} takes it "
        "for that; if it is something else, rename it"
        for key in there
        if key.isprintable() and len(key) <= 40 and key not in known
        for wanted in [next((wanted for wanted in keys[name] if _is_slip(key, wanted)), None)]
        if wanted
    ]


def _is_slip(key: str, wanted: str) -> bool:
    """inptu, Input, inputs; but not context_id or input_2, which say more than a key of ours."""
    words, wanted_words = _words(key), _words(wanted)
    if words == wanted_words:
        return True
    if wanted_words < words or key.casefold() in _NO_SLIPS:
        return False
    return bool(get_close_matches(wanted.casefold(), [key.casefold()], n=1, cutoff=0.8))


def _words(key: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(_CAPITAL_WITHIN.sub("_", key))}


def _what_is_missing(
    asked: str | None, answered: str | None, keys: Keys, there: tuple[str, ...]
) -> str:
    strangers = [key for key in there if not any(key in row for row in keys.values())]
    pairs = list(zip(keys["instruction"], keys["output"], strict=False))
    partners = dict(pairs) | {answer: instruction for instruction, answer in pairs}
    wanted = keys["output"] if asked else keys["instruction"]
    best = partners.get(asked or answered, wanted[0])
    others = () if asked or answered else keys["messages"]
    for name in (best, *wanted, *others):
        if hint := did_you_mean(name, strangers):
            return f"{name!r} is missing{hint}"
    shown = ", ".join(map(brief, there[:8])) + (", …" if len(there) > 8 else "")
    if asked or answered:
        return f"{best!r} is missing; there are {shown}"
    return f"no shape known has the keys {shown or '(none)'}: it needs {_SHAPES}"


def did_you_mean(name: str, others: Iterable[str]) -> str:
    likely = {other.casefold(): other for other in islice(others, 100) if len(other) <= 40}
    close = get_close_matches(name.casefold(), likely, n=1, cutoff=0.7)
    return f"; there is {brief(likely[close[0]])}: did you mean that?" if close else ""


def name_of(keys: tuple[str, ...]) -> str:
    """What a shape is called: ("prompt", "completion") -> "prompt/completion"."""
    names = {key: name for name, row in KEYS.items() for key in row}
    if not all(key in names for key in keys):
        return "as --fields says"
    if names[keys[-1]] == "messages":
        return {"messages": "OpenAI", "conversations": "ShareGPT"}[keys[-1]]
    if names[keys[-1]] != "output":
        return "prompts without answers"
    return "Alpaca" if {"instruction", "output"} <= {*keys} else "prompt/completion"


# ---- a list of messages ---------------------------------------------------------------------


def _from_messages(
    value: dict, key: str, has_system: bool, need_answers: bool, problems: list[str]
) -> list[Turn]:
    entries = value[key]
    if type(entries) is not list:
        problems.append(f"{key!r} must be a list of turns, not {kind_of(entries)}")
        return []
    n_before = len(problems)
    turns = [_turn(n, entry, problems) for n, entry in enumerate(entries, 1)]
    if len(problems) == n_before:
        problem = _out_of_order(turns, has_system, need_answers)
        problems += [problem] if problem else []
    # A blank system message is what ShareGPT writes where there is none.
    return [turn for turn in turns if turn.text or turn.role != "system"]


def _turn(n: int, entry: object, problems: list[str]) -> Turn:
    """One message, {"role": …, "content": …} or {"from": …, "value": …}."""
    if type(entry) is not dict:
        problems.append(f"turn {n} must be an object, not {kind_of(entry)}")
        return Turn("", "")
    role_key = "role" if "role" in entry else "from"
    text_key = "content" if "content" in entry else "value"
    role, text = entry.get(role_key), entry.get(text_key)
    speaker = ROLES.get(role, "") if type(role) is str else ""
    if role_key not in entry:
        problems.append(f"turn {n} has no 'role' (or 'from')" + did_you_mean("role", [*entry]))
    elif not speaker:
        hint = did_you_mean(role, [*ROLES]) if type(role) is str else ""
        known = hint.replace("there is ", "") or f"; known are {', '.join(ROLES)}"
        problems.append(f"turn {n}: unknown role {brief(role)}{known}")
    if text_key not in entry:
        hint = did_you_mean("content", [*entry]) or did_you_mean("value", [*entry])
        problems.append(f"turn {n} has no 'content' (or 'value'){hint}")
    elif type(text) is not str:
        problems.append(f"turn {n}: {text_key!r} must be text, not {kind_of(text)}")
    elif not text or text.isspace():
        text = ""
        if speaker != "system":
            problems.append(f"turn {n}: {text_key!r} is empty")
    for call in ("tool_calls", "function_call"):
        if entry.get(call):
            problems.append(f"turn {n}: {call!r} is not supported: it would not be learnt")
    if entry.get("weight", 1) not in (1, None):
        problems.append(f"turn {n}: a 'weight' other than 1 is not supported: it would be learnt")
    return Turn(speaker, text)


def _out_of_order(turns: list[Turn], has_system: bool, need_answers: bool) -> str | None:
    """[system] (user assistant)+ is the order; what is the first that breaks it?"""
    expected = "user"
    for n, turn in enumerate(turns, 1):
        if turn.role == "system":
            if n > 1:
                return f"turn {n} is the system's, which may only come first"
            if has_system and turn.text:
                return "two system messages: a key of the record, and turn 1"
        elif turn.role == expected:
            expected = "user" if expected == "assistant" else "assistant"
        elif n == 1 or turns[n - 2].role == "system":
            return f"turn {n} is the assistant's, and the user has said nothing yet"
        else:
            return f"turns {n - 1} and {n} are both the {turn.role}'s"
    if not any(turn.role == "user" for turn in turns):
        return "holds no turns"
    if expected == "assistant" and need_answers:
        return f"turn {len(turns)}, the last, is the user's: there is no answer to learn"
    return None


# ---- one text -------------------------------------------------------------------------------


def _text(value: dict, key: str, problems: list[str]) -> str:
    text = value[key]
    if type(text) is not str:
        problems.append(f"{key!r} must be text, not {kind_of(text)}")
    elif not text or text.isspace():
        problems.append(f"{key!r} is empty")
    return text


def _optional(value: dict, key: str, problems: list[str]) -> str:
    """A text that may be left out: null and blanks are "" too."""
    text = value[key]
    if type(text) is str:
        return text if text and not text.isspace() else ""
    if text is not None:
        problems.append(f"{key!r} must be text, or null, not {kind_of(text)}")
    return ""


def _is_blank(text: object) -> bool:
    return text is None or (type(text) is str and (not text or text.isspace()))


def kind_of(value: object) -> str:
    shown = f" ({brief(value)})" if type(value) in (int, float) else ""
    return _KINDS[type(value)] + shown
