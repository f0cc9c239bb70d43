"""Files of instruction data with something wrong, each with what has to be said about it.

`CASES` is the corpus; a case is made in memory when it is asked for, so that the large ones cost
nothing until then. tests/test_records.py reads each of them.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    name: str  # of the file: its extension counts
    make: Callable[[], bytes]
    says: str  # a regular expression that one of the faults matches
    line: int = 0  # which that fault names; 0: it is one of the whole file
    n_good: int = 0  # records that can be used all the same
    n_bad: int = 1  # records that are refused
    n_faults: int = 1


def record(n: int, **changes: object) -> dict:
    fields = {"instruction": f"Add {n} and {n}.", "output": f"{2 * n}"} | changes
    return {key: value for key, value in fields.items() if value is not ...}


def one(n: int = 1, **changes: object) -> str:
    return json.dumps(record(n, **changes))


def a_list(*records: str, end: str = "\n]\n") -> bytes:
    """The records from line 2 on, one a line."""
    return ("[\n  " + ",\n  ".join(records) + end).encode()


def lines(*records: str) -> bytes:
    return "".join(f"{text}\n" for text in records).encode()


def turns(*pairs: tuple[object, object], key: str = "messages") -> str:
    names = ("role", "content") if key == "messages" else ("from", "value")
    return json.dumps({key: [dict(zip(names, pair, strict=True)) for pair in pairs]})


USER, ANSWER = ("user", "Add 1 and 1."), ("assistant", "2")
HUMAN, GPT = ("human", "Add 1 and 1."), ("gpt", "2")

CASES: list[Case] = []


def case(name: str, data: bytes | str | Callable[[], bytes], says: str, **expected: int) -> None:
    if isinstance(data, str):
        data = data.encode()
    make = data if callable(data) else lambda: data
    CASES.append(Case(name, make, says, **expected))


# ---- the file as a whole --------------------------------------------------------------------

case("empty.json", b"", "is empty", n_bad=0)
case("empty.jsonl", b"", "is empty", n_bad=0)
case("empty.csv", b"", "is empty", n_bad=0)
case("empty.json.gz", gzip.compress(b""), "is empty", n_bad=0)
case("only-a-bom.json", b"\xef\xbb\xbf", "is empty", n_bad=0)
case("blank.json", b" \r\n\t\n", "no records", n_bad=0)
case("blank.csv", b"\n\n", "no records", n_bad=0)
case("no-records.json", b"[]", "no records", n_bad=0)
case("no-records-held.json", b'{"data": []}', "no records", n_bad=0)
case("only-a-header.csv", b"instruction,output\n", "no records", n_bad=0)
case("prose.txt", b"Once upon a time\nthere was no data.\n", "not JSON.*'O'", n_bad=0)
case("prose.json", b"Once upon a time", "not JSON.*'O'", n_bad=0)
case("yaml.json", b"- instruction: Add.\n  output: '2'\n", "not JSON.*'-'", n_bad=0)
case("xml.json", b"<html><body>404 Not Found</body></html>", "not JSON.*'<'", n_bad=0)
case("book.xlsx", b"PK\x03\x04" + bytes(50), "workbook of Excel", n_bad=0)
case("data.parquet", b"PAR1" + bytes(50), "Parquet.*JSON lines", n_bad=0)
case("data.json.bz2", b"BZh91AY&SY" + bytes(9), "bzip2", n_bad=0)
case("data.json.xz", b"\xfd7zXZ\0\0\4", "packed with xz", n_bad=0)
case("data.json.zst", b"\x28\xb5\x2f\xfd\4\0", "zstd", n_bad=0)
case("picture.json", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "byte 0x89 at offset 0;", n_bad=0)

# ---- bytes that are not UTF-8 ---------------------------------------------------------------

utf16 = one().encode("utf-16")
case("utf-16.json", utf16, r"not UTF-8: byte 0xf[ef] at offset 0; it looks like UTF-16", n_bad=0)
case("utf-16-be.json", b"\xfe\xff" + one().encode("utf-16-be"), "looks like UTF-16", n_bad=0)
case("utf-16-bare.json", one().encode("utf-16-le"), "0x00 at offset 1; .*UTF-16", n_bad=0)
case("utf-16.csv", "instruction,output\nadd,2\n".encode("utf-16"), "UTF-16", n_bad=0)
case("utf-16.jsonl.gz", gzip.compress(utf16), "looks like UTF-16", n_bad=0)
case("utf-32.json", one().encode("utf-32"), "not UTF-8", n_bad=0)
turkish = '{"instruction": "Topla.", "output": "İki"}'.encode("iso8859-9")
case(
    "latin5.json",
    a_list(one(1)).replace(b"\n]", b",\n  " + turkish + b",\n  " + one(3).encode() + b"\n]"),
    f"not UTF-8: byte 0xdd at offset {len(a_list(one(1))) - 3 + 4 + turkish.index(0xDD)};",
    line=3,
    n_good=2,
)
crlf = b'{"instruction": "a", "output": "b"}\r\n'
case(
    "latin5.jsonl",
    b"\xef\xbb\xbf" + crlf + turkish + b"\r\n" + crlf,
    f"0xdd at offset {3 + len(crlf) + turkish.index(0xDD)};",
    line=2,
    n_good=2,
)
case(
    "latin5.csv",
    b"instruction,output\na,b\n\xc7ar\xfe\xfd,c\nd,e\n",
    "byte 0xc7 at offset 23;",
    line=3,
    n_good=2,
)
case("latin5-header.csv", b"instruction,output,a\xe7\na,b,c\nd,e,f\n", "0xe7", line=1, n_bad=2)
case("cut-character.json", b'[{"instruction": "a", "output": "\xc4', "byte 0xc4", line=1)
case(
    "surrogate-bytes.json",
    b'[{"instruction": "a", "output": "\xed\xa0\x80"}]',
    "byte 0xed at offset 33",
    line=1,
)
case("bad-byte-between.json", b'[\xff{"instruction": "a", "output": "b"}]', "byte 0xff", line=1)
case("nul.json", b'[{"instruction": "a\0", "output": "b"}]', "invalid control character", line=1)

# ---- gzip -----------------------------------------------------------------------------------

many = a_list(*(one(n) for n in range(5000)))


BOMB = 40_000_000


def flipped_byte() -> bytes:
    data = bytearray(gzip.compress(lines(*(one(n) for n in range(10))), mtime=0))
    data[-6] ^= 1  # in the checksum
    return bytes(data)


stored = gzip.compress(a_list(one(1), one(2)), 0)  # not compressed: any zlib gives the same part
case("cut.json.gz", stored[:-20], "gzip file is cut short", n_good=1)
case("cut.jsonl.gz", gzip.compress(lines(one(1), one(2)), 0)[:-12], "cut short", n_good=1)
case("cut.csv.gz", gzip.compress(b"instruction,output\na,b\nc,d\n", 0)[:-9], "cut short", n_good=1)
case("cut-head.json.gz", gzip.compress(many)[:8], "gzip file is cut short", n_bad=0)
case("flipped.jsonl.gz", flipped_byte, "gzip file is damaged", n_good=10, n_bad=0)
case("bomb-of-blanks.json.gz", lambda: gzip.compress(b" " * BOMB), "gzip bomb", n_bad=0)
case("bomb-of-one-text.json.gz", lambda: gzip.compress(b'["' + b"a" * BOMB), "gzip bomb")
case("bomb-of-one-line.jsonl.gz", lambda: gzip.compress(b"a" * BOMB), "gzip bomb")
case("bomb-of-a-row.csv.gz", lambda: gzip.compress(b'a,b\n"' + b"a" * BOMB), "gzip bomb")

# ---- JSON -----------------------------------------------------------------------------------

case("no-comma.json", b'[\n{"instruction": "a" "output": "b"}]', "expecting ','", line=2)
case("single-quotes.json", b"[{'instruction': 'a', 'output': 'b'}]", "double quotes", line=1)
case("python.json", b'[{"instruction": "a", "output": None}]', "expecting value", line=1)
case("comment.json", b'[\n// mine\n{"instruction": "a", "output": "b"}]', "value", line=2, n_good=1)
case("bad-escape.json", b'[{"instruction": "C:\\data", "output": "b"}]', "escape", line=1)
case(
    "open-quote.json",
    a_list(one(1), one(2)[:-2] + "}", one(3)),
    "line ends within quotes",
    line=3,
    n_good=2,
)
case(
    "open-brace.json",
    a_list(one(1), one(2)[:-1], one(3)),
    "in the record that begins on line 3",
    line=4,
    n_good=2,
)
case(
    "two-broken.json",
    a_list(one(1)[:-1], "{,", one(3)),
    "begins on line 2",
    line=3,
    n_good=1,
    n_bad=2,
    n_faults=2,
)
pretty = json.dumps([record(n) for n in range(1, 5)], indent=4)
case(
    "pretty.json",
    pretty.replace('"Add 2', "Add 2"),
    "expecting value at 'Add 2 and 2",
    line=7,
    n_good=3,
)
case(
    "pretty-nested.json",
    json.dumps([json.loads(turns(USER, ANSWER))] * 3, indent=2).replace('"user",', '"user"', 1),
    "not valid JSON",
    line=6,
    n_good=2,
)
case(
    "flat-nested.json",
    json.dumps([json.loads(turns(USER, ANSWER))] * 3, indent=0).replace('"user",', '"user"', 1),
    "not valid JSON",
    line=6,
    n_good=2,
)
case(
    "minified.json",
    json.dumps([record(n) for n in range(4)], separators=(",", ":")).replace('"Add 1', "Add 1"),
    "not valid JSON",
    line=1,
    n_good=3,
)
case("loose-bracket.json", f"{one(1)}\n]\n{one(2)}", "expecting value", line=2, n_good=2)
case("comma-left-out.json", f"[\n{one(1)}\n{one(2)}]", "no comma", line=3, n_good=2, n_bad=0)
case("comma-at-end.json", f"[\n{one(1)},\n]", "comma before the closing", line=3, n_good=1, n_bad=0)
case("two-commas.json", f"[\n{one(1)},\n,{one(2)}]", "no record before", line=3, n_good=2, n_bad=0)
case("not-closed.json", a_list(one(1), end="\n"), "not closed", line=3, n_good=1, n_bad=0)
case("cut.json", a_list(one(1), one(2))[:-15], "not valid JSON", line=3, n_good=1)
cut_answer = '{"instruction": "a", "output": "He said "}'
for n, rest in enumerate((', and left"}', ' and left"}', ', "and", left"}', '} and left"}')):
    case(
        f"cut-answer-{n}.json",
        f"[{cut_answer}{rest},{one(2)}]",
        "record before it, of line 1, may have been cut short",
        line=1,
        n_good=1,
    )
case(
    "cut-answer.json",
    a_list(one(1), cut_answer + ', and left"}', one(3)),
    "record before it, of line 3",
    line=3,
    n_good=2,
)
case(
    "cut-answer-held.json",
    f'{{"data": [{cut_answer}, and left"}},{one(2)}]}}',
    "cut short",
    line=1,
    n_good=1,
)
case("text-between.json", a_list(one(1), '"b"', one(2)), "this is a text", line=3, n_good=2)
case("two-lists.json", f"[{one(1)}]\n[{one(2)}]", "behind the closing", line=2, n_good=2, n_bad=0)
case("tail.json", f"[{one(1)}]\n\nend", "behind the closing", line=3, n_good=1, n_faults=2)
case("loose-with-commas.json", f"{one(1)},\n{one(2)}", "no list round", line=1, n_good=2, n_bad=0)
case("held-cut.json", f'{{"data": [{one(1)}]', "round the list", line=1, n_good=1, n_bad=0)
case(
    "two-held.json",
    f'{{"train": [{one(1)}],\n"test": [{one(2)}, {one(3)}]}}',
    "second list.*line 2",
    n_good=1,
    n_bad=2,
)
case(
    "same-key-twice.json", a_list(one(1)[:-1] + ', "output": "3"}'), "'output' stands twice", line=2
)
case(
    "same-key-twice-within.jsonl",
    '{"messages": [{"role": "user", "role": "user", "content": "a"}]}',
    "'role' stands twice",
    line=1,
)
case("nan.json", a_list(one(1), one(2, score=float("nan"))), "NaN is no JSON", line=3, n_good=1)
case("infinity.jsonl", lines(one(1, score=float("-inf"))), "-Infinity is no JSON", line=1)
case("float.jsonl", lines(one(1)[:-1] + ', "score": 1e999}'), "'1e999' is too large", line=1)
case("digits.jsonl", lines(one(1)[:-1] + f', "n": {"9" * 5000}}}'), "5,000 digits", line=1)
case("deep.json", b"[" * 100_000, "nested too deeply|nested more than", line=1)
case("deep-objects.jsonl", b'{"a":' * 50_000, "nested too deeply", line=1)
case("deep-but-whole.json", a_list(one(1, a=json.loads("[" * 99 + "]" * 99))), "than 64", line=2)
case(
    "number.json",
    b"[1, true, null]",
    r"an object, and this is a number \(1\)",
    line=1,
    n_bad=3,
    n_faults=3,
)
case("texts.json", b'["Add.",\n"2"]', "an object, and this is a text", line=2, n_bad=2, n_faults=2)
case("list-of-lists.json", b'[["Add.", "2"]]', "an object, and this is a list", line=1)
case("lists.jsonl", b'["a", "b"]\n["c", "d"]\n', "this is a list", line=2, n_bad=2, n_faults=2)
case(
    "half-emoji.json",
    b'[{"instruction": "a", "output": "\\ud83d"}]',
    r"unpaired surrogate, \\ud83d",
    line=1,
)
case(
    "half-emoji-in-a-key.jsonl",
    b'{"instruction": "a", "output": "b", "\\uDE00": 1}',
    r"unpaired surrogate, \\ude00",
    line=1,
)

# ---- JSON lines -----------------------------------------------------------------------------

case(
    "cut.jsonl",
    lines(one(1)) + one(2)[:-9].encode(),
    "does not end on its line|not valid",
    line=2,
    n_good=1,
)
case(
    "over-two.jsonl",
    lines(one(1)[:-1], "}", one(2)),
    "not end on its line",
    line=1,
    n_good=1,
    n_bad=2,
    n_faults=2,
)
case(
    "two-a-line.jsonl",
    lines(one(1) + one(2), one(3)),
    "more on this line",
    line=1,
    n_good=1,
    n_bad=2,
)
case(
    "four-a-line.jsonl",
    lines(one(1) + one(2, a=[{}]) + ", " + one(3) + one(4)[:-3], one(5)),
    "more on this line",
    line=1,
    n_good=1,
    n_bad=4,
)
case("comma.jsonl", lines(one(1) + ",", one(2)), "more on this line", line=1, n_good=1)
case("words.jsonl", lines(one(1), "see below", "", one(2)), "expecting value", line=2, n_good=2)
case("broken-in-json.json", lines(one(1), one(2)[:-2], one(3)), "not valid", line=2, n_good=2)

# ---- tables ---------------------------------------------------------------------------------

case(
    "short-row.csv",
    b"instruction,output\na\nb,c\n",
    "2 columns, and this row has 1",
    line=2,
    n_good=1,
)
case("long-row.csv", b"instruction,output\na,b\nc,d,e\n", "has 3; put quotes", line=3, n_good=1)
case("long-row.tsv", b"instruction\toutput\na\tb\tc\n", r"has 3.*'\\t'", line=2)
case("open-quote.csv", b'instruction,output\na,"b\nc,d\ne,f\n', "not valid CSV", line=2, n_good=2)
case(
    "text-after-quote.csv", b'instruction,output\n"a"b,c\nd,e\n', "expected after", line=2, n_good=1
)
case("same-column-twice.csv", b"instruction,output,output\na,b,c\n", "names 'output' twice", line=1)
case(
    "other-columns.csv",
    b"id;text\n1;a\n2;b\n",
    "no shape known.*'id', 'text'",
    line=3,
    n_bad=2,
    n_faults=2,
)
case("empty-cell.csv", b'instruction,output\n"a\nb",\nc,d\n', "'output' is empty", line=2, n_good=1)
case("sep.csv", b"sep=;\r\ninstruction;output\r\na;b\r\nc;\r\n", "is empty", line=4, n_good=1)
case(
    "nameless-column.csv",
    b"instruction,output,,\na,b,,\nc,d,,e\nf,g,,,\n",
    "2 columns, and this row has 4",
    line=3,
    n_good=1,
    n_bad=2,
    n_faults=2,
)
case("no-header.csv", b"Add.,2\nSubtract.,0\n", "no shape known", line=2)
case(
    "json-in-a-cell.csv",
    b'messages\n"[{""role"": ""user""}]"\n',
    "list of turns, not a text",
    line=2,
)

# ---- keys and types -------------------------------------------------------------------------

case("no-output.json", a_list(one(1, output=...)), "'output' is missing", line=2)
case("no-instruction.json", a_list(one(1, instruction=...)), "'instruction' is missing", line=2)
case("misspelt.json", a_list(one(1, output=..., outptu="2")), "'outptu': did you mean", line=2)
case(
    "capitals.json", a_list('{"Instruction": "a", "Output": "b"}'), "'Instruction': did you", line=2
)
for slip in ("inptu", "Input", "inputs", "imput", "INPUT", "contex", "sytem", "System-Prompt"):
    case(
        f"slip-{slip}.json",
        a_list(one(1, **{slip: "He go."})),
        f"'{slip}' is no key we know: did you mean '.*--fields (input|system)={slip} ",
        line=2,
    )
case(
    "slip-beside-turns.json",
    a_list(turns(USER, ANSWER)[:-1] + ', "sistem": "a"}'),
    "mean 'system'",
    line=2,
)
case("shouted.json", a_list('{"INSTRUCTION": "a", "OUTPUT": "b"}'), "'INSTRUCTION': did", line=2)
case("half-shouted.json", a_list(one(1, output=..., OUTPUT="2")), "'OUTPUT': did you", line=2)
case(
    "two-inputs.json",
    a_list(one(1, input="a", context="b")),
    "which is the input, 'input' or 'context'.*--fields input=",
    line=2,
)
case(
    "two-systems.json",
    a_list(turns(USER, ANSWER)[:-1] + ', "system": "a", "system_prompt": "b"}'),
    "which is the system, 'system' or 'system_prompt'",
    line=2,
)
case(
    "two-pairs.json",
    a_list(one(1, prompt="Add.", completion="3")),
    "which pair is it, 'instruction' and 'output' or 'prompt' and 'completion'.*--fields",
    line=2,
)
case("misspelt-list.json", a_list('{"mesages": []}'), "'messages' is missing.*'mesages'", line=2)
case(
    "other-keys.json",
    a_list('{"text": "a", "label": 1}'),
    "no shape known.*'text', 'label'",
    line=2,
)
case("no-keys.json", b"[{}]", "no shape known.*(none)", line=1)
case("one-object.json", b'{\n"text": "a"\n}', "no shape known", line=1)
case(
    "two-answers.json",
    a_list('{"instruction": "a", "answer": "b", "response": "c"}'),
    "which is the output, 'answer' or 'response'.*--fields output=",
    line=2,
)
case("number-as-output.json", a_list(one(1, output=2)), r"text, not a number \(2\)", line=2)
case("null-as-output.json", a_list(one(1, output=None)), "'output' must be text, not null", line=2)
case("list-as-output.json", a_list(one(1, output=["2"])), "must be text, not a list", line=2)
case("flag-as-input.json", a_list(one(1, input=True)), "or null, not true or false", line=2)
case("object-as-instruction.json", a_list(one(1, instruction={})), "not an object", line=2)
case("empty-output.json", a_list(one(1), one(2, output="")), "'output' is empty", line=3, n_good=1)
case("blank-output.json", a_list(one(1, output=" \u3000\n")), "'output' is empty", line=2)
case("empty-instruction.json", a_list(one(1, instruction="")), "'instruction' is empty", line=2)
case(
    "both-empty.json",
    a_list('{"prompt": "", "completion": ""}'),
    "'completion' is empty",
    line=2,
    n_faults=2,
)
case(
    "mixed.jsonl",
    lines(one(1), turns(USER, ANSWER), turns(HUMAN, GPT, key="conversations"), '{"q": "a"}'),
    "no shape known",
    line=4,
    n_good=3,
)

# ---- turns ----------------------------------------------------------------------------------

case("no-turns.json", a_list(turns()), "holds no turns", line=2)
case("system-only.json", a_list(turns(("system", "Be kind."))), "holds no turns", line=2)
case(
    "two-users.json", a_list(turns(USER, USER, ANSWER)), "turns 1 and 2 are both the user's", line=2
)
case("two-answers-on.json", a_list(turns(USER, ANSWER, ANSWER)), "turns 2 and 3 are both", line=2)
case("answer-first.json", a_list(turns(ANSWER, USER, ANSWER)), "turn 1 is the assistant's", line=2)
case("user-last.json", a_list(turns(USER, ANSWER, USER)), "turn 3, the last, is the user's", line=2)
case(
    "late-system.json",
    a_list(turns(USER, ("system", "a"), ANSWER)),
    "turn 2 is the system's",
    line=2,
)
case(
    "tool.json",
    a_list(turns(USER, ("tool", "2"), ANSWER)),
    "unknown role 'tool'; known are",
    line=2,
)
case(
    "role.json",
    a_list(turns(("humn", "a"), GPT, key="conversations")),
    "unknown role 'humn'; 'human': did you",
    line=2,
)
case("role-number.json", a_list(turns((1, "a"), ANSWER)), "unknown role 1", line=2)
case(
    "no-content.json", a_list('{"messages": [{"role": "user"}]}'), "turn 1 has no 'content'", line=2
)
case(
    "no-role.json",
    a_list('{"messages": [{"rol": "user", "content": "a"}]}'),
    "no 'role'.*'rol'",
    line=2,
)
case("null-content.json", a_list(turns(USER, ("assistant", None))), "turn 2: .* not null", line=2)
case("parts.json", a_list(turns(("user", [{"type": "text"}]), ANSWER)), "text, not a list", line=2)
case(
    "empty-turn.json", a_list(turns(USER, ("assistant", " "))), "turn 2: 'content' is empty", line=2
)
case("turns-as-text.json", a_list('{"messages": "user: a"}'), "list of turns, not a text", line=2)
case("turn-as-text.json", a_list('{"messages": ["a"]}'), "turn 1 must be an object", line=2)
case(
    "weight.json",
    a_list(turns(USER, ANSWER)[:-3] + ', "weight": 0}]}'),
    "turn 2: a 'weight' other than 1",
    line=2,
)
for name, value in (("tool_calls", '[{"id": 1}]'), ("function_call", '{"name": "add"}')):
    case(
        f"{name}.json",
        a_list(turns(USER, ANSWER)[:-3] + f', "{name}": {value}}}]}}'),
        f"turn 2: '{name}' is not supported",
        line=2,
    )

# ---- large ----------------------------------------------------------------------------------

LONG = 50_000_000
case(
    "long-line.jsonl",
    lambda: lines(one(1, output="a" * LONG), one(2, output="")),
    "empty",
    line=2,
    n_good=1,
)
case(
    "endless-text.json",
    lambda: b'[{"instruction": "' + b"a" * (70 << 20),
    "67,108,864 characters",
    line=1,
)
case("endless-line.jsonl", lambda: lines("a" * (70 << 20), one(1)), "67,108,864", line=1, n_good=1)
case(
    "endless-quote.csv",
    lambda: b'a,b\n"' + b"a\n" * 20_000,
    "10,000 lines",
    line=2,
    n_bad=20_000,
    n_faults=20_000,
)
