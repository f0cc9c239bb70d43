"""What a vocabulary's files say, checked.

A model's folder holds its vocabulary: the tokens and their ids, the merges that build them, the
tokens that were added later, and which of them ends a text. Every tool writes them in files of its
own. This module reads all of them into one `Vocabulary`, and refuses, by file and line, what is
damaged or what `tokenizer.py` would encode differently from the tool that the files were made for.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief  # safe for a value of any depth and length

from gpt.byte_alphabet import ALPHABET, unspell
from gpt.errors import UserError

END = "<|endoftext|>"  # how GPT-2 writes the end of a text; a folder may name another

Merges = dict[tuple[str, str], int]  # a pair -> its rank; the dict is in the order of ranks


class TokenizerError(UserError):
    """A vocabulary that is missing or damaged, or that this code would encode differently."""


# 1. From a folder to its vocabulary files, and from the files to what they say.

# They travel with the weights: ids mean something in this vocabulary alone, and a tuned model
# answers well in the prompt alone that it was tuned with (the last two: ours, transformers').
VOCABULARY_FILES = (
    *("vocab.json", "merges.txt", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("template.json", "chat_template.jinja"),
)
GPT2_SETTINGS = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
GPT2_SETTINGS |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END)
_OPENAI_NAMES = {"vocab.json": "encoder.json", "merges.txt": "vocab.bpe"}
_ID_LIMIT = 2**24  # far above any vocabulary: an id is a row of the model's embedding


def read_vocabulary(folder: str | Path) -> dict[str, bytes]:
    """The files of a model's folder that travel with its weights, byte for byte.

    OpenAI's two get the names that all others use; what other tools would miss is added: a
    `tokenizer_config.json`, and `vocab.json` and `merges.txt` where there is a `tokenizer.json`
    alone. Empty where the folder has no vocabulary.
    """
    folder, files = Path(folder), {}
    try:
        for name in VOCABULARY_FILES:
            for path in (folder / _OPENAI_NAMES.get(name, name), folder / name):
                if path.is_file():
                    files[name] = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{error.filename or folder}: {error.strerror or error}") from None
    if "vocab.json" not in files and "tokenizer.json" not in files:
        return {}
    if not {"vocab.json", "merges.txt"} <= files.keys() and "tokenizer.json" in files:
        try:
            ids, _, merges = _read_model(_Files(files, folder))
            files = vocabulary_files(ids, merges) | files
        except TokenizerError:
            pass  # told to whoever makes a Tokenizer of these files; the weights load without one
    files.setdefault("tokenizer_config.json", json.dumps(GPT2_SETTINGS, indent=2).encode() + b"\n")
    return files


def vocabulary_files(ids: dict[str, int], merges: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """A vocabulary in the form that `Tokenizer` reads."""
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    vocab = json.dumps(ids, ensure_ascii=False)
    return {"vocab.json": vocab.encode(), "merges.txt": "\n".join(lines).encode()}


class _Files:
    """Vocabulary files, parsed when asked for."""

    def __init__(self, files: dict[str, bytes], where: str | Path) -> None:
        self.files, self.where, self.parsed = files, Path(where), {}

    def path(self, name: str) -> str:
        """The file as a complaint names it: OpenAI's, if that is the one in the folder."""
        ours, theirs = self.where / name, self.where / _OPENAI_NAMES.get(name, name)
        return str(theirs if theirs.exists() and not ours.exists() else ours)

    def text(self, name: str) -> str:
        try:
            return self.files[name].decode()
        except UnicodeDecodeError as error:
            place = f"{self.path(name)}: byte {error.start}"
            raise TokenizerError(f"{place}: not UTF-8, so the file is damaged") from None

    def json(self, name: str) -> dict:
        """A file's object; an empty one where there is no such file."""
        if name in self.files and name not in self.parsed:
            try:
                fields = json.loads(self.text(name))
            except (ValueError, RecursionError) as error:
                raise TokenizerError(f"{self.path(name)}: not readable as JSON: {error}") from None
            self.parsed[name] = _typed(fields, dict, self.path(name))
        return self.parsed.get(name, {})


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def _typed(value: object, kind: type, place: str):
    if type(value) is not kind:
        raise TokenizerError(f"{place}: expected {_KINDS[kind]}, found {brief(value)}")
    return value


def _check_id(id: object, place: str) -> int:
    if type(id) is not int or not 0 <= id < _ID_LIMIT:
        raise TokenizerError(f"{place}: an id is a whole number below {_ID_LIMIT}, not {brief(id)}")
    return id


def _check_text(text: object, place: str) -> str:
    try:
        if _typed(text, str, place).encode():
            return text
    except UnicodeEncodeError:  # half of a surrogate pair: no text in UTF-8 can hold it
        pass
    raise TokenizerError(f"{place}: a token is one or more whole characters, not {brief(text)}")


@dataclass
class Added:
    """A token that was added to a vocabulary."""

    text: str
    id: int
    special: bool  # only code writes it; in a text, the same characters are ordinary
    normalized: bool  # looked for in the second of two passes


@dataclass
class Vocabulary:
    """What the files say, checked."""

    ids: dict[str, int]
    spelled: dict[str, bytes]  # the tokens of `ids` that are written in the alphabet: their bytes
    merges: Merges
    added: list[Added]
    end: str


def parse_vocabulary(files: dict[str, bytes], where: str | Path) -> Vocabulary:
    source = _Files(files, where)
    ids, spelled, merges = _read_model(source)
    _refuse_other_classes(source)
    end, special_texts = _special_texts(source)
    added = _read_added(source, ids, special_texts)
    if end not in ids and all(token.text != end for token in added):
        raise TokenizerError(
            f"{where}: the end token is {end!r} and the vocabulary has no such token: name the "
            "right one as eos_token in tokenizer_config.json"
        )
    return Vocabulary(ids, spelled, merges, added, end)


def _read_model(files: _Files) -> tuple[dict[str, int], dict[str, bytes], Merges]:
    if "tokenizer.json" in files.files:  # where it exists, it is the one that transformers reads
        place = files.path("tokenizer.json")
        fields = files.json("tokenizer.json")
        model = _typed(fields.get("model"), dict, f"{place}: model")
        _refuse_other_algorithms(fields, model, place)
        ids = _typed(model.get("vocab"), dict, f"{place}: model.vocab")
        listed = _typed(model.get("merges"), list, f"{place}: model.merges")
        pairs = [pair.split(" ") if type(pair) is str else pair for pair in listed]
        merge_place = f"{place}: merge "
    elif {"vocab.json", "merges.txt"} <= files.files.keys():
        place, merge_place = files.path("vocab.json"), f"{files.path('merges.txt')}:"
        ids = files.json("vocab.json")
        lines = files.text("merges.txt").replace("\r\n", "\n").removesuffix("\n").split("\n")
        # The library skips every line that starts so, not only the one at the top.
        pairs = [None if line.startswith("#version") else line.split(" ") for line in lines]
    else:
        raise TokenizerError(
            f"{files.where}: no vocabulary here: it needs tokenizer.json, or vocab.json and "
            "merges.txt, or OpenAI's encoder.json and vocab.bpe"
        )
    spelled = _spelled(ids, place)
    return ids, spelled, _ranked(pairs, spelled, merge_place)


# What in a `tokenizer.json` decides how it encodes, and GPT-2's values; left out: the first.
_ONLY_RIGHT_WITH = {
    "type": ("BPE",),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False,),
    "ignore_merges": (False,),
}
_GENERIC_CLASSES = (None, "PreTrainedTokenizerFast", "TokenizersBackend")
_GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast", *_GENERIC_CLASSES)


def _refuse(name: str, found: object, right: str) -> None:
    raise TokenizerError(
        f"{name} is {brief(found)}, and this code encodes as GPT-2 does, where it is {right}: "
        "the ids would be wrong"
    )


def _refuse_other_algorithms(fields: dict, model: dict, place: str) -> None:
    """Not read: the post-processor, which adds special tokens (our own code adds the one that we
    use), and truncation and padding, which cut and fill what is no longer a text's ids."""
    for name, allowed in _ONLY_RIGHT_WITH.items():
        if model.get(name, allowed[0]) not in allowed:
            _refuse(f"{place}: model.{name}", model[name], json.dumps(allowed[0]))
    if fields.get("normalizer") is not None:
        _refuse(f"{place}: normalizer", fields["normalizer"], "null")
    splitter = _only_step(fields.get("pre_tokenizer"), "pretokenizers")
    flags = (splitter.get("add_prefix_space"), splitter.get("use_regex", True))
    if splitter.get("type") != "ByteLevel" or flags != (False, True):
        right = "ByteLevel with add_prefix_space false and use_regex true"
        _refuse(f"{place}: pre_tokenizer", fields.get("pre_tokenizer"), right)
    decoder = fields.get("decoder")
    if decoder is not None and _only_step(decoder, "decoders").get("type") != "ByteLevel":
        _refuse(f"{place}: decoder", decoder, "ByteLevel")


def _only_step(step: object, steps: str) -> dict:
    if type(step) is dict and type(step.get(steps)) is list and len(step[steps]) == 1:
        step = step[steps][0]  # a sequence of one
    return step if type(step) is dict else {}


def _refuse_other_classes(files: _Files) -> None:
    """`tokenizer_config.json` can turn the same vocabulary into another tokenizer."""
    place, config = files.path("tokenizer_config.json"), files.json("tokenizer_config.json")
    if config.get("add_prefix_space", False) is not False:
        _refuse(f"{place}: add_prefix_space", config["add_prefix_space"], "false")
    name = config.get("tokenizer_class")
    if "tokenizer.json" not in files.files and name not in _GPT2_CLASSES:
        _refuse(f"{place}: tokenizer_class", name, _GPT2_CLASSES[0])


def _spelled(ids: dict[str, int], place: str) -> dict[str, bytes]:
    """Check the ids; give the bytes of each token that is written in the alphabet."""
    spelled, owner = {}, {}
    for token, id in ids.items():
        if type(id) is not int or not 0 <= id < _ID_LIMIT:  # so that only a fault costs a text
            _check_id(id, f"{place}: {token!r:.80}")
        if owner.setdefault(id, token) is not token:
            raise TokenizerError(f"{place}: {owner[id]!r} and {token!r} have one id, {id}")
        try:
            spelled[token] = unspell(token)
        except UnicodeEncodeError:  # special tokens may be written in any characters
            _check_text(token, place)
    missing = [f"0x{byte:02x}" for byte, char in enumerate(ALPHABET) if char not in ids]
    if missing:
        raise TokenizerError(
            f"{place}: not a byte-level vocabulary: {len(missing)} of the 256 bytes have no token: "
            f"{', '.join(missing[:8])}{', …' if len(missing) > 8 else ''}"
        )
    return spelled


def _ranked(pairs: list, spelled: dict[str, bytes], place: str) -> Merges:
    """Rank the pairs by their lines; one that is listed twice counts where it stands last."""
    merges = {}
    for line, pair in enumerate(pairs, start=1):
        if pair is None:
            continue
        if type(pair) is not list or [type(part) for part in pair] != [str, str] or "" in pair:
            raise TokenizerError(f"{place}{line}: a merge is two tokens, not {brief(pair)}")
        a, b = pair
        if a not in spelled or b not in spelled or a + b not in spelled:
            absent = next(token for token in (a, b, a + b) if token not in spelled)
            raise TokenizerError(
                f"{place}{line}: merges {a!r} and {b!r}, and {absent!r} is no byte-level token of "
                "the vocabulary"
            )
        merges.pop((a, b), None)
        merges[a, b] = line
    return merges


# 2. Tokens that were added to a vocabulary, special ones among them.


def _special_texts(files: _Files) -> tuple[str, set[str]]:
    """The end token's text, and the texts of all tokens that the configuration calls special."""
    config, listed = files.json("tokenizer_config.json"), files.json("special_tokens_map.json")
    texts = set()
    for fields in (config, listed):
        values = [value for name, value in fields.items() if name.endswith("_token")]
        for name in ("additional_special_tokens", "extra_special_tokens"):
            more = fields.get(name)
            values += more.values() if type(more) is dict else more if type(more) is list else ()
        texts |= {text for text in map(_content, values) if type(text) is str}
    # As in transformers: the map is the older file, and rules only if the other adds no tokens.
    end = _content(config.get("eos_token"))
    if "added_tokens_decoder" not in config and "eos_token" in listed:
        end = _content(listed["eos_token"])
    end = END if end is None else _check_text(end, f"{files.where}: eos_token")
    return end, texts | {end}


def _content(token: object) -> object:
    return token.get("content") if type(token) is dict else token


def _added_rows(files: _Files) -> Iterator[tuple[str, dict]]:
    """Each added token as the file writes it, in the order in which transformers adds them."""
    if "tokenizer.json" in files.files:
        place = f"{files.path('tokenizer.json')}: added_tokens"
        rows = _typed(files.json("tokenizer.json").get("added_tokens") or [], list, place)
        yield from ((place, _typed(row, dict, place)) for row in rows)
    config = files.json("tokenizer_config.json")
    if "added_tokens_decoder" in config:
        place = f"{files.path('tokenizer_config.json')}: added_tokens_decoder"
        tokens = _typed(config["added_tokens_decoder"], dict, place).items()
        is_number = re.compile("[0-9]{1,9}").fullmatch
        rows = [
            _typed(row, dict, place) | {"id": int(id) if is_number(id) else id}
            for id, row in tokens
        ]
    else:
        place = files.path("added_tokens.json")
        rows = [{"content": t, "id": id} for t, id in files.json("added_tokens.json").items()]
    for row in rows:
        _check_id(row["id"], f"{place}: {brief(row.get('content'))}")
    yield from ((place, row) for row in sorted(rows, key=lambda row: row["id"]))


def _read_added(files: _Files, ids: dict[str, int], special_texts: set[str]) -> list[Added]:
    added, owned, top = {}, set(ids.values()), -1
    for place, row in _added_rows(files):
        text = _check_text(row.get("content"), place)
        place = f"{place}: {text!r:.80}"
        id = _check_id(row.get("id"), place)
        special = _typed(row.get("special", False), bool, place) or text in special_texts
        normalized = _typed(row.get("normalized", not special), bool, place)
        # The library does not read ids, it counts on from the vocabulary's size: they must agree.
        expected = ids.get(text, max(len(ids), top + 1))
        if text in added:
            expected = added[text].id
        elif text not in ids and id in owned:
            raise TokenizerError(f"{place}: id {id} belongs to another token")
        if id != expected:
            raise TokenizerError(f"{place}: has id {id}, and other tools give it id {expected}")
        unusual = [flag for flag in ("lstrip", "rstrip", "single_word") if row.get(flag)]
        if unusual and not special:
            raise TokenizerError(f"{place}: {unusual[0]} is true, which this code does not do")
        added.setdefault(text, Added(text, id, special, normalized))
        top = max(top, id)
    return list(added.values())
