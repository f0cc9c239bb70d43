"""scripts/prepare.py, from files to a folder: nothing lost, all of it told, and readable again."""

import csv
import gzip
import json
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from tqdm import tqdm

from gpt.datacard import FILES, to_json
from gpt.duplicates import prompt_key
from gpt.errors import UserError
from gpt.languages import language_of
from gpt.preparing import Settings
from gpt.records import Record, Turn, load_records
from scripts import prepare

ROOT = Path(__file__).resolve().parents[1]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
    prepare.main()


def alpaca(n, start=0, **more):
    return [
        {"instruction": f"What is {i} plus {i}?", "input": "", "output": f"It is {2 * i}.", **more}
        for i in range(start, start + n)
    ]


def write(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def sides(folder):
    """What the folder's files hold, read by the reader that training uses."""
    names = [name for name in ("train", "validation", "test") if (folder / f"{name}.json").exists()]
    return {name: load_records([folder / f"{name}.json"]) for name in names}


def report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_a_clean_set_comes_out_as_it_went_in(tmp_path, monkeypatch):
    rows = alpaca(100, category="sums")
    run(monkeypatch, write(tmp_path / "a.json", rows), "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    found = [row for r in sides(tmp_path / "out") for row in read(tmp_path / "out" / f"{r}.json")]
    assert sorted(found, key=str) == sorted(rows, key=str)
    told = report(tmp_path / "out")
    assert told["sides"] == {"train": 85, "validation": 5, "test": 10}
    assert told["changes"] == told["faults"] == told["overlaps"] == []
    assert told["categories"] == {"sums": told["sides"]}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def dirty_rows():
    rows = alpaca(30)
    rows[3]["instruction"] += " "  # white space
    rows[4]["output"] += " Ask ada@example.com."
    rows += [
        {"instruction": "What is 1 plus 1?", "output": "It is 2. "},  # exact duplicate of line 2
        {"instruction": "What is 1 plus 1?", "output": "Two."},  # the same prompt only
        {"instruction": "Say it.", "output": "Say it."},  # echo
        {"instruction": "Say more.", "output": "\u200b"},  # nothing left
    ]
    long = " ".join(f"word{i}" for i in range(60))
    rows += [{"instruction": f"Repeat: {long}", "output": long}]
    return [*rows, {"instruction": f"Repeat: {long}!", "output": f"{long} x"}]


def test_every_step_is_counted_and_every_record_accounted_for(tmp_path, monkeypatch):
    lines = "\n".join(json.dumps(row) for row in [*dirty_rows(), {"instruction": "no answer"}])
    data = tmp_path / "a.jsonl"
    data.write_text(lines, encoding="utf-8")
    run(monkeypatch, data, "--out", tmp_path / "out", "--skip-bad")
    told = report(tmp_path / "out")
    assert told["records"] == {"in the files": 37, "refused as faulty": 1, "dropped": 4, "kept": 32}
    steps = {name: (step["changed"], step["dropped"]) for name, step in told["steps"].items()}
    assert {name: counts for name, counts in steps.items() if counts != (0, 0)} == {
        "whitespace": (3, 0),
        "emails": (1, 0),
        "echoes": (0, 1),
        "lengths": (0, 1),
        "duplicates": (0, 1),
        "near-duplicates": (0, 1),
    }
    places = {change["step"]: change["where"] for change in told["changes"] if change["dropped"]}
    assert places == {
        "duplicates": f"{data}:31",
        "echoes": f"{data}:33",
        "lengths": f"{data}:34",
        "near-duplicates": f"{data}:36",
    }
    assert told["duplicate_prompts"] == [f"{data}:32 asks what {data}:2 asks"]
    assert sum(told["sides"].values()) == sum(map(len, sides(tmp_path / "out").values())) == 32


@pytest.mark.parametrize(
    "step", ["whitespace", "emails", "echoes", "lengths", "duplicates", "near-duplicates"]
)
def test_each_step_can_be_switched_off(tmp_path, monkeypatch, step):
    rows = [row for row in dirty_rows() if row["output"] != "\u200b"]
    rows.append({"instruction": "Go on.", "output": "x" * 30_000})
    run(monkeypatch, write(tmp_path / "a.json", rows), "--out", tmp_path / "out", f"--no-{step}")
    told = report(tmp_path / "out")["steps"]
    assert not told[step]["on"]
    off = [name for name, row in told.items() if row["changed"] == row["dropped"] == 0]
    # An exact duplicate that is not looked for is a near one, too.
    assert set(off) == {step, "unicode", "ibans", "cards", "phones"}


def test_a_prepared_set_prepared_again_is_not_changed(tmp_path, monkeypatch):
    data = write(tmp_path / "a.json", dirty_rows())
    run(monkeypatch, data, "--out", tmp_path / "one")
    again = [tmp_path / "one" / f"{side}.json" for side in ("train", "validation", "test")]
    run(monkeypatch, *again, "--out", tmp_path / "two")
    assert report(tmp_path / "two")["changes"] == []
    for name in ("train.json", "validation.json", "test.json"):
        assert sorted(read(tmp_path / "one" / name), key=str) == sorted(
            read(tmp_path / "two" / name), key=str
        )


def test_the_same_command_writes_the_same_bytes(tmp_path, monkeypatch):
    data = write(tmp_path / "a.json", dirty_rows())
    for parent in ("one", "two"):
        run(monkeypatch, data, "--out", tmp_path / parent / "out")
    for name in FILES:
        one, two = (tmp_path / parent / "out" / name for parent in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


CONVERSATIONS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": "Ada."},
            {"role": "user", "content": "When?"},
            {
                "role": "assistant",
                "content": "1843.\n\nIn Turkish: bin sekiz yüz kırk üç \U0001f469",
            },
        ],
        "id": 7,
    },
    {"system": "Answer in French.", "instruction": "Translate", "input": "cat", "output": "chat"},
    {"prompt": "Why?", "completion": "So.", "source": {"url": None, "tags": ["a", 1.5]}},
]


def test_every_shape_survives_being_written_and_read(tmp_path):
    records = load_records([write(tmp_path / "a.json", CONVERSATIONS)])
    out = tmp_path / "b.json"
    out.write_text(to_json(records), encoding="utf-8")
    again = load_records([out])
    assert [(r.turns, r.extra) for r in again] == [(r.turns, r.extra) for r in records]
    assert [r.line for r in again] == [2, 3, 4, 5]


def test_an_extra_key_never_takes_the_place_of_a_text(tmp_path):
    turns = (Turn("user", "Ne?"), Turn("assistant", "Bu."))
    extra = {"output": "other", "messages": [], "prompt": "x", "system": "y", "category": "z"}
    out = tmp_path / "b.json"
    out.write_text(to_json([Record(turns, "a.json", 1, extra)]), encoding="utf-8")
    (again,) = load_records([out])
    assert again.turns == turns
    kept = ("output", "messages", "prompt", "system")
    assert again.extra == {f"original_{k}": extra[k] for k in kept} | {"category": "z"}


def test_an_extra_key_that_gets_another_name_takes_no_other_keys_place(tmp_path):
    turns = (Turn("user", "Ne?"), Turn("assistant", "Bu."))
    for extra in (
        {"output": 1, "original_output": 2},
        {"original_output": 2, "output": 1, "original_original_output": 3},
    ):
        out = tmp_path / "b.json"
        out.write_text(to_json([Record(turns, "a.json", 1, extra)]), encoding="utf-8")
        (again,) = load_records([out])
        assert sorted(again.extra.values()) == sorted(extra.values())
        assert again.extra["original_output"] == 2


def test_a_category_that_is_null_blank_or_missing_is_none(tmp_path, monkeypatch):
    rows = alpaca(10, category=None) + alpaca(10, 10, category="") + alpaca(10, 20)
    out = tmp_path / "out"
    run(
        monkeypatch, write(tmp_path / "a.json", [*rows, *alpaca(9, 30, category="x")]), "--out", out
    )
    assert [*report(out)["categories"]] == ["(none)", "x"]
    assert "| (none) |" in (out / "README.md").read_text(encoding="utf-8")
    run(monkeypatch, write(tmp_path / "b.json", rows), "--out", tmp_path / "none")
    card = (tmp_path / "none" / "README.md").read_text(encoding="utf-8")
    assert "the records have no `category`" in card


def test_every_loop_over_the_records_shows_its_progress(tmp_path, monkeypatch):
    shown = set()

    def bar(*arguments, desc=None, **settings):
        assert settings["delay"] == 2 and settings["disable"] is None
        shown.add(desc or arguments[1])
        return tqdm(*arguments, **settings)

    for module in ("cleaning", "duplicates", "near_duplicates", "datacard", "records"):
        monkeypatch.setattr(f"gpt.{module}.tqdm", bar)
    run(monkeypatch, write(tmp_path / "a.json", alpaca(40)), "--out", tmp_path / "out")
    assert shown >= {"reading", "cleaning", "duplicates", "shingles", "prompts", "to JSON"}
    assert shown >= {"lengths", "languages"}


def test_a_prompt_is_normalized_once_to_split_and_once_to_count(tmp_path, monkeypatch):
    asked = []

    def counted(record):
        asked.append(record)
        return prompt_key(record)

    monkeypatch.setattr("gpt.duplicates.prompt_key", counted)
    run(monkeypatch, write(tmp_path / "a.json", alpaca(40)), "--out", tmp_path / "out")
    assert len(asked) == 2 * 40


def test_several_files_of_several_formats_and_other_names_of_keys(tmp_path, monkeypatch):
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("talimat", "cevap"), *((f"Soru {i}", f"{i}") for i in range(9))]
        )
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(f'{{"talimat": "İkinci {i}", "cevap": "{i}"}}\n' for i in range(11))
    out = tmp_path / "out"
    fields = ("--fields", "instruction=talimat,output=cevap")
    run(monkeypatch, tmp_path / "a.csv", tmp_path / "b.jsonl.gz", *fields, "--out", out)
    assert report(out)["sides"] == {"train": 17, "validation": 1, "test": 2}


def test_sides_from_files_of_their_own_lose_nothing_to_train(tmp_path, monkeypatch, capsys):
    train = write(tmp_path / "train.json", alpaca(40))
    rows = alpaca(5) + alpaca(5, start=100)  # the first five are in train, too
    rows[1]["output"] = "Another answer."
    test = write(tmp_path / "test.json", rows)
    run(monkeypatch, train, "--test-data", test, "--out", tmp_path / "out")
    told = report(tmp_path / "out")
    assert told["sides"] == {"train": 34, "validation": 2, "test": 10}
    dropped = [change["where"] for change in told["changes"] if change["step"] == "duplicates"]
    assert len(dropped) == 4 and all(str(train) in where for where in dropped)
    assert len(told["overlaps"]) == 1  # the same question with another answer: told, not dropped
    assert "prompts that an earlier side has too: 1, 1 of test" in capsys.readouterr().out


def test_the_books_split_is_cut_before_anything_is_dropped(tmp_path, monkeypatch):
    rows = alpaca(20)
    rows[0]["output"] = rows[0]["instruction"]  # an echo
    run(monkeypatch, write(tmp_path / "a.json", rows), "--split", "book", "--out", tmp_path / "out")
    found = {side: [r.turns[0].text for r in rs] for side, rs in sides(tmp_path / "out").items()}
    asked = [row["instruction"] for row in rows]
    assert found == {"train": asked[1:17], "test": asked[17:19], "validation": asked[19:]}


def test_the_books_set_shows_its_duplicates_and_leaks(tmp_path, monkeypatch, shared):
    data = shared / "datasets" / "book-1100.json"
    for split, leaks in (("book", {"test": 2, "validation": 4}), ("prompt", {})):
        out = tmp_path / split
        run(monkeypatch, data, "--split", split, "--out", out)
        told = report(out)
        assert told["sides"] == {"train": 935, "validation": 55, "test": 110}
        assert len(told["duplicate_prompts"]) == 25
        sides_of = [line.split("(")[1].split(")")[0] for line in told["overlaps"]]
        assert {side: sides_of.count(side) for side in sides_of} == leaks
        assert told["changes"] == []


def test_an_empty_side_is_named_and_has_no_file(tmp_path, monkeypatch, capsys):
    run(monkeypatch, write(tmp_path / "a.json", alpaca(3)), "--out", tmp_path / "out")
    assert "validation: 0 records: too few" in capsys.readouterr().out
    assert [*sides(tmp_path / "out")] == ["train"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "**Empty: validation, test.**" in card


# Refusals: nothing is written, and the message says what to do.


def refused(monkeypatch, *arguments):
    with pytest.raises(UserError) as error:
        run(monkeypatch, *arguments)
    return str(error.value)


def test_a_folder_that_is_not_empty_stays_as_it_is_without_overwrite(tmp_path, monkeypatch):
    data = write(tmp_path / "a.json", alpaca(20))
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    assert "--overwrite" in refused(monkeypatch, data, "--out", out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_overwrite_replaces_a_preparation_and_keeps_what_else_is_there(tmp_path, monkeypatch):
    data = write(tmp_path / "a.json", alpaca(20))
    out = tmp_path / "out"
    run(monkeypatch, data, "--out", out)
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    run(monkeypatch, data, "--out", out, "--overwrite")
    assert (out / "mine.txt").read_text(encoding="utf-8") == "mine"
    run(monkeypatch, write(tmp_path / "b.json", alpaca(2)), "--out", out, "--overwrite")
    assert not (out / "test.json").exists()  # of the earlier preparation, and not of this one


@pytest.mark.parametrize("report", [None, "{}", "[]", "no JSON", '{"settings": {}, "sides": {}}'])
def test_overwrite_replaces_nothing_but_an_earlier_preparation(tmp_path, monkeypatch, report):
    data = write(tmp_path / "a.json", alpaca(20))
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("precious", encoding="utf-8")
    if report:
        (out / "report.json").write_text(report, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    message = refused(monkeypatch, data, "--out", out, "--overwrite")
    assert "it holds README.md" in message
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_files_that_are_read_are_never_replaced(tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(monkeypatch, write(tmp_path / "a.json", alpaca(20)), "--out", out)
    before = read(out / "train.json")
    message = refused(monkeypatch, out / "train.json", "--out", out, "--overwrite")
    assert "would be replaced" in message
    assert read(out / "train.json") == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, monkeypatch):
    data = write(tmp_path / "a.json", alpaca(20))
    assert "is a file" in refused(monkeypatch, data, "--out", data)


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def no_disk_left(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpt.datacard.plot_lengths", no_disk_left)
    data = write(tmp_path / "a.json", alpaca(20))
    assert "No space left" in refused(monkeypatch, data, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_all_faults_are_listed_and_nothing_is_written(tmp_path, monkeypatch):
    data = write(tmp_path / "a.json", [{"instruction": "a"}, {"instruction": "b"}])
    message = refused(monkeypatch, data, "--out", tmp_path / "out")
    assert message.count("a.json:1") == 2
    assert not (tmp_path / "out").exists()


def test_a_set_of_which_nothing_is_left_is_refused(tmp_path, monkeypatch):
    data = write(tmp_path / "a.json", [{"instruction": "a", "output": "a"}])
    message = refused(monkeypatch, data, "--out", tmp_path / "out")
    assert "no record is left to train on" in message and "echoes: 1" in message


@pytest.mark.parametrize(
    "flags",
    [
        ["--threshold", "0"],
        ["--min-answer", "x"],
        ["--min-answer", "9", "--max-answer", "3"],
        ["--split", "random"],
        ["--split", "book", "--test-data", "b.json"],
        ["--split", "book", "--seed", "3"],
        ["--val-fraction", "1"],
        ["--val-fraction", "-0.1"],
        ["--test-fraction", "nan"],
        ["--val-fraction", "0.5", "--test-fraction", "0.5"],
        ["--test-fraction", "0.95"],  # with the default of the other
        ["--no-everything"],
        ["--thresh", "0.7"],
    ],
)
def test_bad_usage_ends_with_code_2(tmp_path, monkeypatch, flags):
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "a.json", "--out", tmp_path / "out", *flags)
    assert end.value.code == 2


IGNORED = """
    --val-fraction 0.4 beside --val-data f.json
    --val-fraction 0.05 beside --val-data f.json
    --test-fraction 0.4 beside --test-data f.json
    --threshold 0.3 beside --no-near-duplicates
    --min-answer 500 beside --no-lengths
    --max-answer 500 beside --no-lengths
    --seed 0 beside --split book
    --seed 3 beside --val-data f.json --test-fraction 0
""".strip().splitlines()


@pytest.mark.parametrize("flags", [flags.strip() for flags in IGNORED])
def test_a_flag_that_would_be_ignored_is_refused(tmp_path, monkeypatch, capsys, flags):
    flag, value, _, *others = flags.split()
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "a.json", "--out", tmp_path / "out", *others, flag, value)
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert all(name in message for name in (flag, *others) if name.startswith("--"))


def test_a_fraction_is_not_added_to_a_default_that_decides_nothing():
    flags = ["a.json", "--out", "out", "--val-data", "b.json", "--test-fraction", "0.96"]
    assert prepare.parse_arguments(flags).test_fraction == 0.96


def test_only_settings_that_decide_something_are_told(tmp_path, monkeypatch):
    data = write(tmp_path / "a.json", alpaca(20))
    test = write(tmp_path / "b.json", alpaca(5, start=50))
    run(monkeypatch, data, "--out", tmp_path / "all")
    assert report(tmp_path / "all")["settings"].keys() == {f.name for f in fields(Settings)}
    off = ("--no-lengths", "--no-near-duplicates", "--val-fraction", "0", "--test-data", test)
    run(monkeypatch, data, "--out", tmp_path / "few", *off)
    assert report(tmp_path / "few")["settings"].keys() == {
        *("steps", "split", "val_fraction", "test_data")
    }


def test_help_comes_at_once_and_a_mistake_has_no_traceback(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "prepare.py")]
    start = time.perf_counter()
    help_ = subprocess.run([*command, "--help"], capture_output=True, text=True, encoding="utf-8")
    assert time.perf_counter() - start < 5  # 0.3 s, on a machine that has nothing else to do
    assert help_.returncode == 0 and "--no-near-duplicates" in help_.stdout
    missing = [*command, str(tmp_path / "none.json"), "--out", str(tmp_path / "out")]
    failed = subprocess.run(missing, capture_output=True, text=True, encoding="utf-8")
    assert failed.returncode == 1
    assert "none.json" in failed.stderr and "Traceback" not in failed.stderr


# The card.


def test_the_card_has_a_picture_and_its_lengths_in_tokens_where_there_is_a_vocabulary(
    tmp_path, monkeypatch, shared
):
    data = write(tmp_path / "a.json", alpaca(40))
    out = tmp_path / "out"
    run(monkeypatch, data, "--out", out, "--tokenizer", shared / "gpt2")
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "## Lengths, in tokens" in card and "](lengths.png)" in card
    assert (out / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert report(out)["lengths"]["train"]["prompt"]["mean"] < 10


def test_names_from_the_data_do_not_break_the_tables(tmp_path, monkeypatch):
    rows = alpaca(20, category="a | b\nc `d` <i>")
    run(monkeypatch, write(tmp_path / "a.json", rows), "--out", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if "c `d`" in line]
    assert row.replace("\\|", "").count("|") == 5


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "English"),
        ("Türkiye'nin başkenti neresidir ve bu şehir ne kadar büyük?", "Turkish"),
        ("Türkiye'nin başkenti neresidir?", "Turkish"),
        ("Işık hızı kaçtır?", "Turkish"),
        ("Aşağıdaki cümleyi düzeltin.", "Turkish"),
        ("İstanbul'da hava", "Turkish"),
        ("Who is Recep Tayyip Erdoğan?", "English"),
        ("Compare Atatürk and Kılıçdaroğlu's policies", "English"),
        ("Describe Iğdır, Diyarbakır, Beşiktaş", "undecided"),
        ("Popular singers, singular Ağrı, smaller Şırnak", "undecided"),
        ("Azərbaycanın paytaxtı haradır?", "undecided"),
        ("Paytexta Tirkiyeyê kîjan bajar, başnin", "undecided"),
        ("İle başla", "Turkish"),
        ("Was ist die Hauptstadt von Frankreich?", "German"),
        ("Quelle est la capitale de la France et pour qui?", "French"),
        ("¿Cuál es la capital de España y qué más es?", "Spanish"),
        ("Qual è la capitale dell'Italia e come si chiama?", "Italian"),
        ("Qual é a capital do Brasil? Não sei.", "Portuguese"),
        ("Wat is de hoofdstad van het land?", "Dutch"),
        ("Какая столица?", "Cyrillic script"),
        ("東京は日本の首都です", "Japanese"),
        ("北京是中国的首都", "Chinese"),
        ("서울은 수도입니다", "Korean"),
        ("12 + 12 = 24", "undecided"),
        ("Jane Austen", "undecided"),
        ("", "undecided"),
    ],
)
def test_the_guess_at_a_language(text, language):
    assert language_of(text) == language


def test_the_books_set_is_english(shared):
    records = load_records([shared / "datasets" / "book-1100.json"])
    guesses = [language_of(" ".join(turn.text for turn in record.turns)) for record in records]
    assert guesses.count("English") > 0.95 * len(guesses)
