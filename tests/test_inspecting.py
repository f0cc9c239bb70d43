"""What is shown is what is trained on, whatever the texts hold, with colours and without."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import inspecting
from gpt.encoding import encode_all
from gpt.inspecting import (
    NoVocabulary,
    Row,
    Summary,
    as_html,
    as_text,
    batch_rows,
    lines_of,
    visible,
    vocabulary_folder,
)
from gpt.records import Record, Turn
from gpt.segments import ANSWER, END, PADDING, PARTS
from gpt.template import BUILT_IN
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from scripts.inspect_data import choose

REPOSITORY = Path(__file__).parents[1]
ALPACA = BUILT_IN["alpaca"]
ROWS = [
    {"instruction": "Add.", "input": "1, 2", "output": "It's 3."},
    {"instruction": "Write <b>", "output": "<script>x</script>\n\n### Response:\n<|endoftext|>"},
    {"instruction": "Say 日本 🙂", "output": "\x1b[31mred"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_vocabulary(learn_merges(ALPACA.preamble, 40)))


@pytest.fixture
def folder(tmp_path, tokenizer) -> Path:
    tokenizer.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path) -> Path:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(ROWS, indent=2), encoding="utf-8")
    return path


def shown(tokenizer: Tokenizer, rows: list[dict], max_length: int = 10_000):
    records = [
        Record(
            (
                Turn("user", row["instruction"], row.get("input", "")),
                Turn("assistant", row["output"]),
            ),
            *("x.json", line, {}),
        )
        for line, row in enumerate(rows, 1)
    ]
    examples = encode_all(records, tokenizer, ALPACA, max_length, "drop")
    return examples, batch_rows(examples, range(len(examples)), records, tokenizer)


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/inspect_data.py", *map(str, arguments)]
    env = os.environ | {"PYTHONUTF8": "1", "COLUMNS": "100"} | environment
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, encoding="utf-8")


# Cells


def test_the_rows_are_those_of_a_batch_with_ends_and_padding(tokenizer):
    examples, rows = shown(tokenizer, ROWS)
    longest = max(examples.lengths) + 1
    for row, (ids, parts) in zip(rows, examples, strict=True):
        assert [cell.id for cell in row.cells[: len(ids)]] == ids.tolist()
        assert [cell.part for cell in row.cells[: len(ids)]] == parts.tolist()
        assert row.cells[len(ids)].part == END
        assert all(cell.part == PADDING for cell in row.cells[len(ids) + 1 :])
        assert sum(cell.n for cell in row.cells) == longest == sum(row.counts().values())
        n_answer = (parts == ANSWER).sum()
        assert sum(cell.in_loss for cell in row.cells) == n_answer + 1


@given(text=st.text(st.characters(codec="utf-8")))
def test_every_character_shows_and_none_commands_the_terminal(text):
    said = visible(text.encode())
    assert said.isprintable()
    assert len(said) >= len(text)


def test_half_a_character_is_shown_by_its_bytes():
    assert visible("🙂".encode()[:2]) == "\\xf0\\x9f"


@settings(max_examples=30)
@given(texts=st.lists(st.sampled_from(["a", "\n", "b\n"]), min_size=1, max_size=8))
def test_lines_lose_no_token_and_end_after_their_line_breaks(texts):
    cells = [inspecting.Cell(visible(text.encode()), 0, 2) for text in texts]
    lines = list(lines_of(cells))
    assert [cell for line in lines for cell in line] == cells
    assert all(line[-1].text.endswith("↵") for line in lines[:-1])
    assert all(not line[0].text.startswith("↵") for line in lines[1:])


# The summary


def test_the_summary_counts_all_and_the_overlong_apart(tokenizer):
    examples, _ = shown(tokenizer, ROWS)
    longest = int(examples.lengths.max())
    whole = Summary.of(examples, longest)
    n_loss = int(examples.supervised.sum()) + 3
    assert f"mean {examples.lengths.mean():.1f}" in whole.lines()[0]
    assert f"{n_loss} of them in the loss" in whole.lines()[1]
    assert len(whole.lines()) == 2

    fewer, _ = shown(tokenizer, ROWS, longest - 1)
    lines = Summary.of(fewer, longest - 1).lines()
    assert lines[2] == f"not among them, as too long for {longest - 1} tokens: 1 of 3 records"
    assert lines[3] == f"  x.json:2: {longest} tokens"

    none, rows = shown(tokenizer, ROWS, 5)
    assert rows == []
    assert "3 of 3 records" in Summary.of(none, 5).lines()[0]
    assert Summary.of(none, 5).histogram() == []


@given(lengths=st.lists(st.integers(0, 5000), min_size=1))
def test_the_histogram_holds_every_example_in_at_most_17_ranges(lengths):
    bars = Summary(np.array(lengths), 0, [], 1).histogram()
    assert len(bars) <= 17
    for span, n in bars:
        low, high = map(int, span.split("-"))
        assert n == sum(low <= length <= high for length in lengths)
    assert sum(n for _, n in bars) == len(lengths)


# Text and page


def test_colours_say_nothing_that_is_not_there_without_them(tokenizer):
    examples, rows = shown(tokenizer, ROWS)
    summary = Summary.of(examples, 1000)
    plain = as_text("title", rows, summary, color=False, width=80)
    coloured = as_text("title", rows, summary, color=True, width=80)
    assert "\x1b" not in plain
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain
    tokens = plain.split("\n\n", 2)[2].split("3 examples;")[0].splitlines()
    assert max(len(line) for line in tokens if line.startswith("  ")) <= 80


def test_below_each_token_are_its_id_and_the_letter_of_its_part(tokenizer):
    examples, rows = shown(tokenizer, ROWS[:1])
    text = as_text("title", rows, Summary.of(examples, 1000), color=False, width=70)
    below = text.split("\n\n", 2)[2].split("1 example")[0]
    groups = [group.splitlines() for group in below.strip("\n").split("\n\n")]
    ids = [int(id) for group in groups for id in group[1].split()]
    letters = [letter for group in groups for letter in group[2].split()]
    assert ids == [*examples[0].ids.tolist(), tokenizer.end_id]
    assert letters == ["psinhAE."[part] for part in [*examples[0].parts.tolist(), END]]


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.tokens = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not {"src", "href"} & dict(attrs).keys()
        if tag == "span":
            self.tokens.append((dict(attrs)["class"].split(), []))

    def handle_data(self, data):
        if self.tokens:
            self.tokens[-1][1].append(data)


def test_the_page_shows_each_token_escaped_and_asks_for_nothing(tokenizer):
    examples, rows = shown(tokenizer, ROWS)
    page = as_html("<title>", rows, Summary.of(examples, 1000))
    parsed = Page(page)
    assert {"script", "b", "link", "img"}.isdisjoint(parsed.tags)
    assert not re.search("https?:|url\\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    cells = [cell for row in rows for cell in row.cells]
    tokens = parsed.tokens[len(PARTS) :]  # after the legend
    assert len(tokens) == len(cells)
    for (classes, (text, id, *_)), cell in zip(tokens, cells, strict=True):
        assert text == (f"{cell.text} ×{cell.n}" if cell.n > 1 else cell.text)
        assert int(id) == cell.id
        assert ("loss" in classes) is cell.in_loss
        assert PARTS[cell.part] in classes


def test_totals_name_each_part_that_is_there():
    end = inspecting.Cell("e", 9, END)
    row = Row("x.json:1", [inspecting.Cell("a", 1, 5), end, end._replace(part=PADDING, n=3)])
    assert row.totals() == "2 tokens, 2 in the loss (100%): answer 1, end 1, padding 3"


# The command


def test_the_command_prints_the_first_examples_and_the_whole_sets_summary(folder, data, tmp_path):
    page = tmp_path / "look.html"
    done = run(data, "--model", folder, "--n", 2, "--html", page)
    assert (done.returncode, done.stderr) == (0, f"written: {page}\n")
    assert "\x1b" not in done.stdout
    assert re.findall(r"data\.json:(\d+): \d+ tokens", done.stdout) == ["2", "7"]
    assert done.stdout.count(" in the loss (") == 3
    assert "3 examples; tokens of prompt and answer" in done.stdout
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_colour_is_for_those_who_want_it(folder, data):
    assert "\x1b[" in run(data, "--model", folder, "--color", "always").stdout
    assert "\x1b[" not in run(data, "--model", folder, NO_COLOR="1").stdout


def test_a_seed_draws_and_the_same_draws_the_same():
    assert choose(5, 3, None) == [0, 1, 2]
    assert choose(2, 3, None) == [0, 1]
    drawn = [choose(1000, 3, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(set(drawn[0]))
    assert choose(2, 3, 1) == [0, 1]


def test_another_template_shows_another_prompt(folder, data):
    assert "template phi3" in run(data, "--model", folder, "--template", "phi3").stdout
    BUILT_IN["plain"].save(folder)
    assert "template plain" in run(data, "--model", folder).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--template", "alpacca"], 1, "did you mean 'alpaca'"),
        (["--n", "-1"], 2, "--n is how many"),
        (["--html", "data.json"], 1, "a page's name ends in .html"),
        (["--html", "no/such/folder/x.html"], 1, "not written: No such file or directory"),
        (["--tempalte", "x"], 2, "there is no --tempalte: did you mean --template?"),
    ],
)
def test_a_mistake_gets_a_line_and_no_traceback(folder, data, arguments, code, complaint):
    done = run(data, "--model", folder, *arguments)
    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_library():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "scripts/inspect_data.py", "--help"],
        **{"cwd": REPOSITORY, "capture_output": True, "encoding": "utf-8", "check": True},
    )
    assert not re.search(r"\b(numpy|tiktoken|torch)\b", done.stderr)


# Whose vocabulary


def test_the_model_named_then_the_one_shipped_then_gpt2(tmp_path, monkeypatch, tokenizer):
    tokenizer.save(tmp_path / "own")
    assert vocabulary_folder(str(tmp_path / "own")) == tmp_path / "own"

    (tmp_path / "gpt").mkdir()
    monkeypatch.setattr(inspecting, "__file__", str(tmp_path / "gpt" / "inspecting.py"))
    monkeypatch.setattr(inspecting, "cached", lambda source: tmp_path / source.name)
    assert vocabulary_folder(None) == tmp_path / "gpt2"
    tokenizer.save(tmp_path / "checkpoints" / "mini")
    assert vocabulary_folder(None) == tmp_path / "checkpoints" / "mini"


def test_without_any_vocabulary_a_line_says_what_to_give(tmp_path, monkeypatch):
    monkeypatch.setattr(inspecting, "__file__", str(tmp_path / "gpt" / "inspecting.py"))
    monkeypatch.setattr(inspecting, "cached", lambda source: None)
    with pytest.raises(NoVocabulary, match="give --model"):
        vocabulary_folder(None)
