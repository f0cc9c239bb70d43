"""Reading instruction data: every shape and format gives the same records, every fault is told."""

import csv
import gzip
import io
import itertools
import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import textfile
from gpt.errors import UserError
from gpt.records import (
    DataError,
    FieldsError,
    Reading,
    Turn,
    load_records,
    parse_fields,
    read_records,
)
from tests.faulty import ANSWER, CASES, LONG, USER, Case, a_list, lines, one, record, turns

REPOSITORY = Path(__file__).parents[1]
LARGE = ("bomb", "long-", "endless-")

# (instruction, answer, category): what breaks hasty readers
TEXTS = [
    ("Say hi.", "Hi!", "greeting"),
    ("Quote \"this\", please; or 'that'.", 'He said: "no, thanks"', "quotes, and commas"),
    ("Çeviri: günaydın 🙂\n\nİki satır.", "Good\tmorning\n", "çeviri"),
    (
        "### Response:\n<|endoftext|> {[,]} \\n \\ud83d",
        "\u2028 is no line break, nor is \x85.",
        "x",
    ),
    (" leading and trailing ", "日本語", "x"),
]


def in_shape(shape: str, instruction: str, answer: str, category: str) -> dict:
    pair = {
        "alpaca": {"instruction": instruction, "input": "", "output": answer},
        "prompt": {"prompt": instruction, "completion": answer},
        "dolly": {"instruction": instruction, "context": "", "response": answer},
        "question": {"answer": answer, "question": instruction},
        "messages": json.loads(turns(("user", instruction), ("assistant", answer))),
        "conversations": json.loads(
            turns(("human", instruction), ("gpt", answer), key="conversations")
        ),
    }
    return pair[shape] | {"category": category}


SHAPES = ("alpaca", "prompt", "dolly", "question", "messages", "conversations")
OF_LISTS = ("messages", "conversations")  # no cell of a table holds them


def as_json(objects: list[dict], **how: object) -> str:
    return json.dumps(objects, **how)


def as_lines(objects: list[dict]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in objects)


def as_table(objects: list[dict], delimiter: str = ",") -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, objects[0], delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(objects)
    return table.getvalue()


FORMATS = {
    "minified.json": lambda objects: as_json(objects, separators=(",", ":")),
    "indented.json": lambda objects: as_json(objects, indent=4, ensure_ascii=False),
    "flat.json": lambda objects: as_json(objects, indent=0),
    "held.json": lambda objects: f'{{"version": 1, "data": {as_json(objects)}, "end": [1]}}',
    "lines.jsonl": as_lines,
    "lines.json": as_lines,
    "no-extension": as_lines,
    "list.jsonl": as_json,
    "loose.json": lambda objects: "\n".join(json.dumps(value, indent=1) for value in objects),
    "table.csv": as_table,
    "semicolons.csv": lambda objects: as_table(objects, ";"),
    "table.tsv": lambda objects: as_table(objects, "\t"),
    "table.txt": lambda objects: as_table(objects, "\t"),
}


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def without_place(records: list) -> list:
    return [(record.turns, record.extra) for record in records]


EXPECTED = [
    ((Turn("user", instruction), Turn("assistant", answer)), {"category": category})
    for instruction, answer, category in TEXTS
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FORMATS)
def test_every_shape_and_format_gives_the_same_records(tmp_path, shape, name):
    if shape in OF_LISTS and name.startswith(("table", "semicolons")):
        pytest.skip("no shape for a table")
    objects = [in_shape(shape, *texts) for texts in TEXTS]
    text = FORMATS[name](objects)
    for newline, bom, zipped in itertools.product(
        ("\n", "\r\n", "\r"), (b"", b"\xef\xbb\xbf"), (0, 1)
    ):
        data = bom + text.replace("\n", newline).encode()
        path = write(tmp_path, name, gzip.compress(data) if zipped else data)
        reading = read_records([path])
        assert not reading.faults
        assert without_place(reading.records) == EXPECTED
        assert reading.n_records == len(TEXTS)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["indented.json", "lines.jsonl", "table.csv", "loose.json"])
def test_a_record_knows_its_line(tmp_path, monkeypatch, name, newline):
    monkeypatch.setattr(textfile, "CHUNK", 1000)
    objects = [in_shape("alpaca", f"Question {n}?\n" * (n % 4 + 1), "b", "c") for n in range(300)]
    text = FORMATS[name](objects).replace("\n", newline)
    records = read_records([write(tmp_path, name, text)]).records
    file_lines = text.split(newline)
    opening = {"indented.json": "    {", "loose.json": "{"}.get(name)
    if opening:
        assert [file_lines[r.line - 1] for r in records] == [opening] * 300
    else:
        for n, r in enumerate(records):
            assert f"Question {n}?" in file_lines[r.line - 1]
            assert f"Question {n - 1}?" not in file_lines[r.line - 1]
    assert records[7].where == f"{tmp_path / name}:{records[7].line}"


def test_several_files_of_several_shapes_are_read_in_order_and_said_aloud(tmp_path):
    a = write(tmp_path, "a.json", a_list(one(1, input="x"), turns(USER, ANSWER), one(2)))
    b = write(tmp_path, "b.csv", "question,answer,category\nWhy?,So.,c\n")
    reading = read_records([a, str(b)])
    assert [r.where for r in reading.records] == [f"{a}:2", f"{a}:3", f"{a}:4", f"{b}:2"]
    assert reading.notes == [
        f"{a}: 3 records, 2 Alpaca (instruction, input, output) and 1 OpenAI (messages)",
        f"{b}: 1 record, prompt/completion (question, answer); further keys: category",
    ]
    assert reading.records[0].turns[0] == Turn("user", "Add 1 and 1.", "x")
    assert reading.records[3].extra == {"category": "c"}


def test_what_may_be_left_out_may_be_null_or_blank(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(one(1), *(one(1, input=x) for x in (None, "", " \n"))))
    assert len({record.turns for record in load_records([path])}) == 1


def test_a_system_message_comes_first_wherever_it_stood(tmp_path):
    conversation = turns(HUMAN := ("human", "Hi."), ("gpt", "Hi!"), key="conversations")
    expected = (Turn("system", "Be kind."), Turn("user", "Hi."), Turn("assistant", "Hi!"))
    path = write(
        tmp_path,
        "a.jsonl",
        lines(
            turns(("system", "Be kind."), ("user", "Hi."), ("assistant", "Hi!")),
            turns(("developer", "Be kind."), ("user", "Hi."), ("assistant", "Hi!")),
            turns(("system", "Be kind."), HUMAN, ("gpt", "Hi!"), key="conversations"),
            conversation[:-1] + ', "system": "Be kind."}',
            '{"system_prompt": "Be kind.", "question": "Hi.", "response": "Hi!"}',
            '{"instruction": "Hi.", "output": "Hi!", "system": "Be kind."}',
        ),
    )
    assert {record.turns for record in load_records([path])} == {expected}
    path = write(tmp_path, "b.jsonl", lines(turns(("system", " "), USER, ANSWER)))
    assert [turn.role for turn in load_records([path])[0].turns] == ["user", "assistant"]
    twice = turns(("system", "Be kind."), USER, ANSWER)[:-1] + ', "system": "Be rude."}'
    [fault] = read_records([write(tmp_path, "c.jsonl", twice)]).faults
    assert "two system messages" in fault.message


def test_a_known_pair_of_keys_wins_over_others_that_could_be_one(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(one(1, response="3", prompt="Formatted: add.")))
    [r] = load_records([path])
    assert [turn.text for turn in r.turns] == ["Add 1 and 1.", "2"]
    assert r.extra == {"response": "3", "prompt": "Formatted: add."}


def test_a_column_of_nulls_does_not_decide_the_shape(tmp_path):
    objects = [one(1, messages=None), turns(USER, ANSWER)[:-1] + ', "output": null}']
    reading = read_records([write(tmp_path, "a.jsonl", lines(*objects))])
    assert not reading.faults
    assert [turn.text for turn in reading.records[0].turns] == ["Add 1 and 1.", "2"]


# ---- names of one's own ---------------------------------------------------------------------


def test_other_names_by_a_mapping(tmp_path):
    fields = parse_fields("instruction=talimat, output=cevap,input=girdi")
    path = write(tmp_path, "a.csv", "talimat;girdi;cevap;output\nTopla.;2 ve 2;4;x\n")
    [r] = load_records([path], fields)
    assert r.turns == (Turn("user", "Topla.", "2 ve 2"), Turn("assistant", "4"))
    assert r.extra == {"output": "x"}
    assert "as --fields says (talimat, girdi, cevap)" in read_records([path], fields).notes[0]
    [*_, fault] = read_records([write(tmp_path, "b.csv", "talimat;cevab\na;b\n")], fields).faults
    assert "'cevap' is missing; there is 'cevab': did you mean that?" in fault.message
    other = write(tmp_path, "c.json", a_list(turns(USER, ANSWER, key="messages")))
    assert len(load_records([path, other], fields)) == 2, "conversations are left alone"


def test_a_mapping_to_a_key_that_no_record_has_is_a_fault_that_skip_bad_does_not_skip(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(one(1), one(2, girdi="x")))
    other = write(tmp_path, "b.jsonl", lines(one(1)))
    assert not read_records([other, path], {"input": "girdi"}).faults
    reading = read_records([path, other], {"input": "grdi", "system": "rol"})
    assert [str(fault) for fault in reading.faults[:2]] == [
        "--fields: input=grdi, but no record has this key; there is 'girdi': did you mean that?",
        "--fields: system=rol, but no record has this key",
    ]
    with pytest.raises(DataError, match="input=grdi"):
        load_records([path, other], {"input": "grdi"}, skip_bad=True)
    assert "--fields" not in str(read_records([tmp_path / "absent"], {"input": "grdi"}).faults)


ORDINARY = "id index category source output_2 intent context_id contextId input_2 input_ids input2"
ORDINARY += " inputText content text items import outputs system_id n_inputs title label language"


def test_ordinary_further_keys_are_no_slips(tmp_path):
    extra = dict.fromkeys(ORDINARY.split(), "x")
    [r] = load_records([write(tmp_path, "a.jsonl", one(1, **extra))])
    assert r.extra == extra


def test_a_slip_is_used_when_the_mapping_says_so(tmp_path):
    path = write(tmp_path, "a.jsonl", one(1, Input="x"))
    [r] = load_records([path], {"input": "Input"})
    assert r.turns[0].input == "x"


def test_of_two_keys_for_one_field_that_with_text_counts(tmp_path):
    path = write(
        tmp_path,
        "a.jsonl",
        lines(
            one(1, input="", context="x"),
            one(1, input="x", context=None),
            one(1, input="x", prompt="", completion=""),
            one(1, context="x", instruction="", output=None, question="Add 1 and 1.", answer="2"),
        ),
    )
    assert {r.turns for r in load_records([path])} == {
        (Turn("user", "Add 1 and 1.", "x"), Turn("assistant", "2"))
    }
    both = one(1, prompt="Add.", completion="3", input="a", context="b")
    names = {"instruction": "prompt", "output": "completion", "input": "context"}
    [r] = load_records([write(tmp_path, "b.jsonl", both)], names)
    assert r.turns == (Turn("user", "Add.", "b"), Turn("assistant", "3"))
    empty = one(1, output="", prompt="", completion="")
    [fault] = read_records([write(tmp_path, "c.jsonl", empty)]).faults
    assert fault.message == "'output' is empty"


@pytest.mark.parametrize("key", ["items", "examples"])
def test_a_record_with_a_list_of_its_own_holds_no_records(tmp_path, key):
    for value in (json.loads(one(1)) | {key: [{"a": 1}]}, {key: [{"a": 1}]} | json.loads(one(1))):
        [r] = load_records([write(tmp_path, "a.json", json.dumps(value))])
        assert r.extra == {key: [{"a": 1}]}


def test_what_excel_adds_to_a_table_is_no_data(tmp_path):
    for newline, sep in itertools.product(("\n", "\r\n", "\r"), ("sep=;", '"sep=;"', "SEP=;")):
        table = f"{sep}\ninstruction;output;;\nAdd 1, and 1.;2;;\nAdd.;3;; \n"
        for name in ("a.csv", "a.txt"):
            path = write(tmp_path, name, b"\xef\xbb\xbf" + table.replace("\n", newline).encode())
            records = load_records([path])
            assert [(r.line, r.turns[1].text, r.extra) for r in records] == [
                (3, "2", {}),
                (4, "3", {}),
            ]


def test_a_list_that_is_never_closed_is_not_searched_over_and_over(tmp_path):
    path = write(tmp_path, "a.jsonl", '["' + "a" * 200_000)
    start = time.perf_counter()
    assert len(read_records([path]).faults) == 1
    assert time.perf_counter() - start < 1


def test_a_list_of_numbers_behind_a_record_is_not_kept(tmp_path):
    path = write(tmp_path, "a.json", f"[{one(1)}{', 1' * 300}]")
    reading = read_records([path])
    assert (len(reading.records), len(reading.faults), reading.n_records) == (1, 300, 301)


def test_a_mapping_knows_the_usual_names_for_ours():
    assert parse_fields("prompt=a,completion=b,conversations=c") == {
        "instruction": "a",
        "output": "b",
        "messages": "c",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("talimat", "not NAME=KEY"),
        ("instruction=", "not NAME=KEY"),
        ("", "not NAME=KEY"),
        ("instuction=a", "'instruction': did you mean"),
        ("label=a", "known are instruction, output, input"),
        ("instruction=a,prompt=b", "a second time"),
        ("instruction=a,output=a", "a second time"),
    ],
)
def test_an_unclear_mapping_is_bad_usage(text, says):
    with pytest.raises(FieldsError, match=says) as error:
        parse_fields(text)
    assert error.value.exit_code == 2


def test_bare_prompts_are_records_only_where_no_answer_is_needed(tmp_path):
    prompts = lines(
        one(1, output=...), one(2, output=""), one(3, output=None), turns(USER), one(4),
        '{"prompt": "a"}',
    )  # fmt: skip
    path = write(tmp_path, "a.jsonl", prompts)
    assert len(read_records([path]).faults) == 5
    reading = read_records([path], need_answers=False)
    assert not reading.faults
    assert [r.turns[-1].role for r in reading.records] == ["user"] * 4 + ["assistant", "user"]
    [fault] = read_records([write(tmp_path, "b.json", b'[{"output": "a"}]')], None, False).faults
    assert "'instruction' is missing" in fault.message


# ---- faults ---------------------------------------------------------------------------------


def check(case: Case, reading: Reading, path: Path) -> None:
    told = [fault for fault in reading.faults if fault.line == case.line]
    assert any(re.search(case.says, fault.message) for fault in told), reading.faults[:9]
    assert len(reading.faults) == case.n_faults, reading.faults[:9]
    assert len(reading.records) == case.n_good
    assert reading.n_records == case.n_good + case.n_bad
    for fault in reading.faults[:100]:
        assert len(fault.message) < 400
        assert fault.message.isprintable()
        place = f"{path}:{fault.line}: " if fault.line else f"{path}: "
        assert str(fault) == place + fault.message
    with pytest.raises(DataError):
        reading.refuse_faults()


SMALL = [case for case in CASES if not case.name.startswith(LARGE)]


def test_the_corpus_is_as_large_as_promised():
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_each_fault_is_told_with_its_place_and_nothing_is_lost(case, tmp_path):
    path = write(tmp_path, case.name, case.make())
    check(case, read_records([path]), path)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name.startswith(LARGE)], ids=lambda case: case.name
)
def test_large_faults_take_little_memory(case, tmp_path):
    path = write(tmp_path, case.name, case.make())
    size = path.stat().st_size
    tracemalloc.start()
    reading = read_records([path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size + (50e6 if "bomb" in case.name else 100e6)
    check(case, reading, path)


def test_a_long_line_is_read(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(one(1, output="a" * LONG)))
    [r] = load_records([path])
    assert len(r.turns[1].text) == LONG


def test_files_that_cannot_be_opened_are_faults_too(tmp_path):
    good = write(tmp_path, "good.json", a_list(one(1)))
    reading = read_records([tmp_path, tmp_path / "absent.json", good, tmp_path / "a\0b"])
    told = [fault.message for fault in reading.faults]
    assert told[0].startswith("a folder, not a file")
    assert told[1] == "no such file"
    assert told[2].startswith("not readable")
    assert len(reading.records) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_a_fault(tmp_path):
    path = write(tmp_path, "a.json", a_list(one(1)))
    path.chmod(0)
    [fault] = read_records([path]).faults
    assert "ermission denied" in fault.message


def test_a_data_error_shows_the_first_faults_and_says_what_to_do(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(*(one(n, output="") for n in range(25)), one(25)))
    with pytest.raises(DataError) as error:
        load_records([path])
    told = str(error.value).splitlines()
    assert told[0] == "25 faults in the data:"
    assert told[1] == f"  {path}:1: 'output' is empty"
    assert len(told) == 13
    assert "15 more" in told[11]
    assert "--skip-bad" in told[12]


def test_skip_bad_goes_on_and_counts_but_not_past_the_fault_of_a_whole_file(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(one(1, output=""), one(2)))
    assert [r.line for r in load_records([path], skip_bad=True)] == [2]
    assert "2 records, 1 of them refused" in read_records([path]).notes[0]
    with pytest.raises(DataError, match="no such file") as error:
        load_records([path, tmp_path / "absent.json"], skip_bad=True)
    assert "--skip-bad" not in str(error.value)
    with pytest.raises(DataError, match="no record is left"):
        load_records([write(tmp_path, "b.jsonl", lines(one(1, output="")))], skip_bad=True)


def test_a_file_of_nothing_but_faults_is_not_read_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("gpt.records.MAX_FAULTS", 100)
    reading = read_records([write(tmp_path, "a.json", b"[" + b",\n" * 5000)])
    assert len(reading.faults) == 102
    assert reading.faults[-1][1:] == (0, "more than 100 faults: read no further than line 102")


def test_all_faults_of_one_record_are_told(tmp_path):
    bad = turns(("humn", "a"), ("assistant", ""), ("user", 3))
    reading = read_records([write(tmp_path, "a.jsonl", lines(bad))])
    assert len(reading.faults) == 3
    assert reading.n_records == 1


# ---- whatever the bytes ---------------------------------------------------------------------

LAYOUTS = {
    "minified.json": json.dumps([record(n) for n in range(6)], separators=(",", ":")),
    "indented.json": json.dumps([record(n) for n in range(6)], indent=2),
    "one-a-line.json": a_list(*(one(n) for n in range(6))).decode(),
    "nested.json": json.dumps([json.loads(turns(USER, ANSWER))] * 6, indent=2),
    "lines.jsonl": lines(*(one(n) for n in range(6))).decode(),
    "table.csv": as_table([record(n) for n in range(6)]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_wrong_byte_costs_two_records_at_most(tmp_path, name):
    data = LAYOUTS[name].encode()
    first = data.index(b"{") if name != "table.csv" else data.index(b"\n") + 1
    for at, new in itertools.product(range(first, len(data), 7), (b"", b"\xff", b'"', b"{", b"]")):
        path = write(tmp_path, name, data[:at] + new + data[at + 1 :])
        reading = read_records([path])
        assert len(reading.records) >= 4, (at, new, reading.faults)
        assert len(reading.faults) <= 5, (at, new, reading.faults)
        assert reading.n_records >= 5, (at, new, reading.faults)


def outcome(path: Path) -> tuple:
    reading = read_records([path])
    for fault in reading.faults:
        assert fault.message
    return reading.records, reading.faults, reading.n_records


EXTENSIONS = st.sampled_from([".json", ".jsonl", ".csv", ".tsv", "", ".json.gz"])
SYNTAX = st.text("[]{}\",:\\\n\r \t0123.-eE'aáç🙂\ud800ntu", max_size=60)


@settings(max_examples=150)
@given(
    st.binary(max_size=200) | SYNTAX.map(lambda s: s.encode("utf-8", "surrogatepass")), EXTENSIONS
)
def test_any_bytes_are_records_or_faults(tmp_path_factory, data, extension):
    folder = tmp_path_factory.getbasetemp()
    records, faults, n_records = outcome(write(folder, "fuzz" + extension, data))
    assert records or faults
    assert n_records >= len(records)
    try:
        load_records([folder / ("fuzz" + extension)])
    except UserError:
        assert faults


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A valid file with a few of its bytes replaced, deleted or doubled; perhaps gzipped."""
    name = draw(st.sampled_from(sorted(LAYOUTS)))
    data = LAYOUTS[name].encode()
    zipped = draw(st.booleans())
    data = gzip.compress(data, mtime=0) if zipped else data
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 5)))
        new = draw(
            st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"]", b"\xff", b"\n", b"NaN", b","])
        )
        data = data[:start] + new + data[stop:]
    return name + (".gz" if zipped else ""), data


@settings(max_examples=150)
@given(mutated())
def test_damaged_files_give_records_or_faults(tmp_path_factory, file):
    path = write(tmp_path_factory.getbasetemp(), *file)
    records, faults, n_records = outcome(path)
    assert records or faults
    if path.suffix == ".jsonl" and not any(fault.line == 0 for fault in faults):
        text = path.read_bytes().decode("utf-8", "replace")
        assert n_records >= sum(1 for line in re.split(r"\r\n?|\n", text) if line.strip(" \t"))


@settings(max_examples=100)
@given(mutated(), st.integers(300, 1500))
def test_how_much_is_read_at_once_changes_nothing(tmp_path_factory, file, chunk):
    name, data = file
    if not name.endswith(".gz"):
        data += b"\n" + data * 4
    path = write(tmp_path_factory.getbasetemp(), name, data)
    whole = outcome(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "CHUNK", chunk)
        assert outcome(path) == whole


# ---- real data, the script, the demonstration -----------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_records", "n_faults"),
    [
        ("book-1100.json", 1100, 0),
        ("book-1100-preference.json", 1100, 0),
        ("book-test-110-with-responses.json", 110, 0),
        ("alpaca-eval-805-davinci003.json", 805, 2),  # that model gave two empty answers
    ],
)
def test_published_sets_equal_what_json_reads(shared, name, n_records, n_faults):
    path = shared / "datasets" / name
    reading = read_records([path])
    assert [fault.message for fault in reading.faults] == ["'output' is empty"] * n_faults
    objects = json.loads(path.read_text(encoding="utf-8"))
    assert reading.n_records == len(objects) == n_records
    good = [value for value in objects if value["output"]]
    for r, value in zip(reading.records, good, strict=True):
        user, assistant = r.turns
        made = {"instruction": user.text, "input": user.input, "output": assistant.text, **r.extra}
        assert made == {"input": ""} | value


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8")


def test_check_data_lists_every_fault_and_ends_with_1(tmp_path):
    paths = [write(tmp_path, case.name, case.make()) for case in SMALL]
    done = run("scripts/check_data.py", *paths)
    assert done.returncode == 1
    assert done.stderr == "", "no traceback, and no progress bar where nobody watches"
    faults = read_records(paths).faults
    assert done.stdout.splitlines()[: len(faults)] == [str(fault) for fault in faults]
    assert f"{len(paths)} files" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("case", SMALL[::12], ids=lambda case: case.name)
def test_check_data_fails_for_each_file_alone(tmp_path, case):
    done = run("scripts/check_data.py", write(tmp_path, case.name, case.make()))
    assert done.returncode == 1
    assert done.stderr == ""
    assert re.search(case.says, done.stdout)


def test_check_data_ends_with_0_for_good_data_and_counts_categories(tmp_path):
    good = lines(*(one(n, category="abc"[n % 2]) for n in range(5)), one(5))
    done = run("scripts/check_data.py", write(tmp_path, "a.jsonl", good))
    assert (done.returncode, done.stderr) == (0, "")
    *_, summary, categories = done.stdout.splitlines()
    assert summary == "1 file, 6 records, 6 good, no faults"
    assert categories == "by category: a 3, b 2, (none) 1"


def test_check_data_shows_no_control_characters_of_the_data(tmp_path):
    made = [one(1, category="\x1b[31m\n"), one(2, **{"\x1b[2J": 1}), one(3, category=None)]
    done = run("scripts/check_data.py", write(tmp_path, "a.jsonl", lines(*made)))
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    *_, note, _, categories = done.stdout.splitlines()
    assert note.endswith(r"further keys: category, '\x1b[2J'")
    assert categories == r"by category: (none) 2, '\x1b[31m\n' 1"


def test_check_data_takes_a_mapping_and_bare_prompts(tmp_path):
    path = write(tmp_path, "a.csv", "talimat\nTopla.\n")
    assert run("scripts/check_data.py", path).returncode == 1
    done = run("scripts/check_data.py", path, "--fields", "instruction=talimat", "--no-answers")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["--fild", "a"], ["a.json", "--fields", "instruktion=a"]], ids=str
)
def test_check_data_ends_with_2_when_asked_nonsense(arguments):
    done = run("scripts/check_data.py", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_demonstration_is_the_same_each_time():
    first, second = run("-m", "gpt.records"), run("-m", "gpt.records")
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert "faulty.json:4: 'output' is missing; there is 'outptu': did you mean" in first.stdout


def test_records_take_little_more_memory_than_their_text(tmp_path):
    text = lines(
        *(one(n, output="A sentence that is about as long as one is. " * 8) for n in range(5000))
    )
    path = write(tmp_path, "a.jsonl", text)
    tracemalloc.start()
    records = load_records([path])
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(records) == 5000
    assert kept < len(text) + 5000 * 700
    assert peak < kept + 2e6
