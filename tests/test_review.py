"""The report says what the run and the scores say, and takes no answer for anything but text."""

import base64
import hashlib
import json
import os
import re
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.grades import (
    GRADES,
    KIND,
    Grade,
    GradesError,
    agreement,
    ids_of,
    rank_correlation,
    read_grades,
)
from gpt.metrics import score, shown
from gpt.metrics_file import MetricsFile
from gpt.review import paths_of, write_report
from gpt.review_data import Review, ReviewError, gather, in_words
from gpt.review_page import as_html
from gpt.review_text import as_markdown
from gpt.scores import SCORES
from tests.runs import run_script

NASTY = "<script>x</script><!--\u2028]]>&amp;{{data}}\\u003c\x00```"


def row(number: int, response: str, output: str | None = "It is right.", **more) -> dict:
    told = {"instruction": f"Question {number}?", "input": "", "output": output}
    return told | {"response": response} | more


ROWS = [
    row(1, "It is right.", base_response="No.", finish_reason="stop", category="a", held_out=True),
    row(2, "It is wrong.", base_response="", finish_reason="stop", category="b", held_out=False),
    row(3, NASTY, base_response=NASTY, finish_reason="length", category="<b>", held_out=False),
]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "my-run"
    write_rows(folder / "responses.jsonl", ROWS)
    told = {"settings": {"model": "gpt2", "lr": 5e-05, "data": ["a.json"], "compile": False}}
    told |= {"command": ["train.py", "--lr", "5e-5"], "commit": None, "steps": 12000}
    (folder / "run.json").write_text(json.dumps(told), encoding="utf-8")
    metrics = MetricsFile(folder / "metrics.jsonl")
    for step in range(1, 12):
        metrics.append({"step": step, "epoch": step / 10, "train_loss": 2 / step, "val_loss": 1.0})
    return folder


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.inside, self.texts = [], [], (None, None), {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        self.inside = tag, dict(attrs).get("id")

    def handle_endtag(self, tag):
        self.inside = None, None

    def handle_data(self, data):
        self.texts.setdefault(self.inside, []).append(data)

    def text(self, tag: str, id: str | None = None) -> str:
        return "".join(self.texts[tag, id])

    @property
    def data(self) -> dict:
        return json.loads(self.text("script", "data"))


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


# The page


def test_the_page_is_one_file_that_asks_for_nothing(run):
    page = page_of(write_report(run))
    for attributes in page.attributes:
        for key in ("src", "href"):
            assert attributes.get(key, "data:").startswith(("data:", "#"))
    assert not re.search(r"https?:|@import|url\(", page.text("style") + page.text("script"))


def test_the_policy_names_the_pages_own_script_and_style_and_nothing_else(run):
    page = page_of(write_report(run))
    policies = [a["content"] for a in page.attributes if "http-equiv" in a]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "unsafe" not in policies[0]
    for tag in ("script", "style"):
        digest = hashlib.sha256(page.text(tag).encode()).digest()
        assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}';" in policies[0]
    assert not [a for a in page.attributes if any(key.startswith("on") for key in a)]
    assert not [a for a in page.attributes if "style" in a]


def test_the_page_holds_every_answer_to_the_letter(run):
    lines = page_of(write_report(run)).data["rows"]
    assert [line["tuned"]["text"] for line in lines] == [each["response"] for each in ROWS]
    assert [line["base"]["text"] for line in lines] == [each["base_response"] for each in ROWS]
    assert [line["output"] for line in lines] == [each["output"] for each in ROWS]
    assert lines[2]["groups"] == {"category": "<b>", "held_out": "no"}


texts = st.text() | st.sampled_from([NASTY, "</script>", "<!--<script>", "{{style}}", "\ud800"])


@pytest.fixture(scope="module")
def scored() -> Review:
    with tempfile.TemporaryDirectory() as folder:
        return gather(
            write_rows(Path(folder) / "x.jsonl", [row(1, "a"), row(2, "b", category="c")])
        )


@settings(max_examples=40)
@given(instruction=texts, answer=texts, name=texts)
def test_no_text_is_taken_for_markup_or_for_a_placeholder(scored, instruction, answer, name):
    rows = [row(1, answer, name, instruction=instruction, where=name), row(2, "b", category=name)]
    groups = {"category": {name: [0], f"{name}2": [1]}}
    made = replace(scored, name=name, about=name, rows=rows, ids=ids_of(rows), groups=groups)
    page = Page(as_html(made).encode("utf-8", "backslashreplace").decode())
    plain = Page(as_html(scored))
    line = page.data["rows"][0]
    assert (line["instruction"], line["tuned"]["text"]) == (instruction, answer)
    assert page.text("script") == plain.text("script")
    assert page.tags == plain.tags


def test_the_page_shows_the_scores_the_curve_and_the_settings(run):
    text = write_report(run).read_text(encoding="utf-8")
    overall = score(ROWS).overall
    for name in SCORES:
        assert f"<td>{shown(name, overall.tuned.scores[name].value)}</td>" in text
        assert f'<td class="base">{shown(name, overall.base.scores[name].value)}</td>' in text
    assert base64.b64encode((run / "loss.svg").read_bytes()).decode() in text
    for setting in ("gpt2", "5e-05", "a.json", "train.py --lr 5e-5", "12,000"):
        assert f"<dd>{setting}</dd>" in text


def test_groups_are_scored_apart_where_rows_have_them(run, tmp_path):
    text = write_report(run).read_text(encoding="utf-8")
    assert "<h2>Held out</h2>" in text
    assert "<h2>Category</h2>" in text
    bare = write_rows(tmp_path / "bare.jsonl", [row(1, "a"), row(2, "b")])
    assert "<h2>Held out</h2>" not in write_report(bare).read_text(encoding="utf-8")


def test_a_curve_older_than_its_numbers_is_drawn_anew(run):
    write_report(run)
    before = (run / "loss.svg").read_bytes()
    MetricsFile(run / "metrics.jsonl").append({"step": 20, "epoch": 2.0, "train_loss": 9.0})
    (run / "loss.svg").touch()
    assert gather(run).curve.svg == before
    later = (run / "loss.svg").stat().st_mtime + 10
    os.utime(run / "metrics.jsonl", (later, later))
    assert gather(run).curve.svg != before


# What may be missing


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_run_without_answers_has_its_curve_and_its_settings(run, is_begun):
    (run / "responses.jsonl").unlink()
    if is_begun:
        (run / "responses.jsonl").touch()
    page = write_report(run)
    assert page_of(page).data["rows"] == []
    assert "No test record has been answered yet" in page.read_text(encoding="utf-8")
    assert "Settings and circumstances" in page.read_text(encoding="utf-8")
    assert "No test record has been answered" in (run / "report.md").read_text(encoding="utf-8")


def test_answers_without_a_reference_are_flagged_and_not_scored(tmp_path):
    rows = [row(1, "", None), row(2, "It is right.")]
    made = gather(write_rows(tmp_path / "responses.jsonl", rows))
    assert made.report.overall.n == 1
    assert made.flags(0) == ("empty",)
    page = Page(as_html(made))
    assert "f1" not in page.data["rows"][0]["tuned"]
    assert page.data["rows"][1]["tuned"]["right"] is True
    assert gather(write_rows(tmp_path / "none.jsonl", rows[:1])).report is None
    write_report(tmp_path / "none.jsonl")


def test_orders_and_outcomes_that_mean_nothing_are_not_offered(tmp_path):
    text = as_html(gather(write_rows(tmp_path / "a.jsonl", [row(1, "a", None)])))
    assert 'value="f1"' not in text
    assert 'id="outcome"' not in text
    text = as_html(gather(write_rows(tmp_path / "b.jsonl", [row(1, "a")])))
    assert 'value="f1"' in text
    assert 'value="gain"' not in text
    assert 'value="ahead"' not in text


def test_a_bare_file_gives_its_name_to_its_reports(tmp_path):
    assert paths_of(tmp_path) == (tmp_path / "report.html", tmp_path / "report.md")
    assert paths_of(tmp_path / "responses.jsonl") == paths_of(tmp_path)
    assert paths_of(tmp_path / "x.json") == (
        tmp_path / "x.report.html",
        tmp_path / "x.report.md",
    )


def test_somebody_elses_report_is_left_alone(run):
    (run / "report.md").write_text("# Mine\n", encoding="utf-8")
    with pytest.raises(ReviewError, match="not a report of ours"):
        write_report(run)
    assert (run / "report.md").read_text(encoding="utf-8") == "# Mine\n"
    (run / "report.md").unlink()
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(ReviewError, match="no such run"):
        gather(tmp_path / "nowhere")
    with pytest.raises(ReviewError, match="not a run's folder"):
        gather(tmp_path)


# report.md


def test_the_text_has_scores_groups_examples_and_flags(run):
    write_report(run)
    text = (run / "report.md").read_text(encoding="utf-8")
    for part in ("by category", "by held_out", "## Good answers", "## Bad answers", "`runaway`"):
        assert part in text
    assert "![The loss: " in text
    assert (run / "loss.svg").is_file()


def test_no_answer_leaves_its_block_or_commands_the_terminal(tmp_path):
    answers = ["```\n# heading", "````text\n\x1b[31m", "`", "a\r\nb\u202e"]
    rows = [row(i, answer) for i, answer in enumerate(answers)]
    text = as_markdown(gather(write_rows(tmp_path / "x.jsonl", rows)))
    assert "\x1b" not in text
    assert "\u202e" not in text
    fence = None
    for line in text.splitlines():
        if fence is None and line.startswith("```"):
            fence = re.match("`+", line)[0]
        elif fence is not None and line == fence:
            fence = None
        elif "heading" in line:
            assert fence is not None
    assert fence is None


# Grades


def exported(rows: list[dict], grades: list[str | None], **more) -> dict:
    lines = [
        {"id": id, "grade": grade, "note": "why"}
        for id, grade in zip(ids_of(rows), grades, strict=True)
    ]
    return {"kind": KIND, "grades": lines} | more


@pytest.fixture
def grades(tmp_path) -> Path:
    path = tmp_path / "grades.json"
    path.write_text(json.dumps(exported(ROWS, ["good", "so-so", "bad"])), encoding="utf-8")
    return path


def test_grades_stay_with_their_answers_whatever_their_order(grades):
    mixed = [ROWS[2], row(9, "new"), ROWS[0], ROWS[1]]
    given = read_grades(grades, ids_of(mixed))
    assert [given.get(id, Grade(None)).grade for id in ids_of(mixed)] == [
        "bad",
        None,
        "good",
        "so-so",
    ]
    changed = [each | {"response": "another"} for each in ROWS]
    assert set(ids_of(changed)).isdisjoint(given)


def test_the_same_answer_twice_has_two_grades():
    ids = ids_of([ROWS[0], ROWS[1], ROWS[0]])
    assert len(set(ids)) == 3
    assert ids_of([ROWS[0]]) == ids[:1]


def test_agreement_counts_what_a_person_counts():
    answers = ["It is right."] * 3 + ["No."] * 3
    given = ["good", "good", "bad", "bad", "so-so", "good"]
    rows = [row(i, answer) for i, answer in enumerate(answers)] + [row(7, "ungraded")]
    ids = ids_of(rows)
    grades = {id: Grade(g) for id, g in zip(ids, given, strict=False)} | {"elsewhere": Grade("bad")}
    report = score(rows)
    found = agreement(grades, ids, report.answers)
    assert (found.n, found.n_answers, found.n_elsewhere) == (6, 7, 1)
    assert found.counts == {"good": 3, "so-so": 1, "bad": 2}
    assert found.share_good.value == 0.5
    assert found.n_clear == 5  # so-so is neither right nor wrong
    assert found.exact_match.value == 3 / 5
    assert found.means["exact_match"] == {"good": 2 / 3, "so-so": 0.0, "bad": 0.5}
    json.dumps(found.to_dict(), allow_nan=False)


def test_an_answer_without_a_reference_is_graded_and_compared_with_nothing():
    ids = ids_of([row(1, "a", None)])
    found = agreement({ids[0]: Grade("good")}, ids, [None])
    assert found.share_good.value == 1.0
    assert found.exact_match is None
    assert set(found.rank.values()) == {None}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=2, max_size=40))
def test_rank_correlation_equals_torchmetrics(pairs):
    functional = pytest.importorskip("torchmetrics.functional", reason="the reference")
    import torch

    a, b = ([float(x) for x in side] for side in zip(*pairs, strict=True))
    ours = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert ours is None
    else:
        theirs = functional.spearman_corrcoef(torch.tensor(a), torch.tensor(b)).item()
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_grades_go_into_the_page_and_come_out_of_it_again(run, grades):
    page = write_report(run, grades)
    text = page.read_text(encoding="utf-8")
    assert "3 of 3 answers graded: 1 good, 1 so-so, 1 bad." in text
    embedded = page_of(page).data["grades"]
    assert [embedded[id]["grade"] for id in ids_of(ROWS)] == list(GRADES)
    assert {of["note"] for of in embedded.values()} == {"why"}
    told = (run / "report.md").read_text(encoding="utf-8")
    assert "graded: 3 of 3 answers" in told
    assert "graded good: why" in told  # with all notes
    assert all(line == line.rstrip() for line in told.splitlines())


def test_a_note_without_a_grade_is_in_the_report(run, grades):
    told = json.loads(grades.read_text(encoding="utf-8"))
    told["grades"] = [told["grades"][1] | {"grade": None, "note": "odd *word*\nhere"}]
    grades.write_text(json.dumps(told), encoding="utf-8")
    write_report(run, grades)
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "## Notes\n\n- **2**: odd \\*word\\* here (Question 2?)\n" in text


def test_the_report_says_how_surprised_the_models_are(run):
    rows = [
        row(i, "It is right.", base_response="No.", output_nats=3.0 + i, n_output_tokens=4,
            base_output_nats=9.0 + i, n_base_output_tokens=4)
        for i in range(9)
    ]  # fmt: skip
    write_rows(run / "responses.jsonl", rows)
    page = write_report(run).read_text(encoding="utf-8")
    overall = score(rows).overall
    for name in ("perplexity", "bits_per_byte"):
        tuned, base = getattr(overall.tuned, name).value, getattr(overall.base, name).value
        assert f"<td>{shown(name, tuned)}</td>" in page
        assert f'<td class="base">{shown(name, base)}</td>' in page
        assert shown(name, tuned) in (run / "report.md").read_text(encoding="utf-8")
    assert "less is better" in page and "ROUGE counts the words" in page


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "no file of grades"),
        ('{"kind": "other"}', "no file of grades"),
        (json.dumps({"kind": KIND, "grades": 1}), "must be a list"),
        (json.dumps({"kind": KIND, "grades": [{"id": "a", "grade": "fine"}]}), "grade 1: needs"),
        (json.dumps({"kind": KIND, "grades": [None]}), "grade 1: needs"),
        (json.dumps(exported([row(8, "other")], ["good"])), "none of its 1 grades"),
    ],
)
def test_what_is_no_file_of_grades_is_refused(run, tmp_path, content, said):
    path = tmp_path / "g.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(GradesError, match=said):
        write_report(run, path)
    assert not (run / "report.html").exists()


# The command


def test_the_command_writes_both_and_prints_the_agreement(run, grades):
    done = run_script("review", str(run))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"written: {run / 'report.html'}, {run / 'report.md'}\n"
    done = run_script("review", str(run), "--grades", str(grades))
    assert done.returncode == 0
    assert "exact match says what the grade says in 100.0%" in done.stdout
    done = run_script("review", str(run / "none"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


def test_two_runs_are_compared_and_nothing_is_written(run, tmp_path):
    other = write_rows(tmp_path / "other.jsonl", [each | {"response": "No."} for each in ROWS[:2]])
    before = sorted(run.iterdir())
    done = run_script("review", str(run), "--against", str(other))
    assert done.returncode == 0, done.stderr
    assert "2 questions that both have answered" in done.stdout and " other " in done.stdout
    [line] = [line for line in done.stdout.splitlines() if line.startswith("exact match")]
    assert line.split()[2:5] == ["50.0%", "0.0%", "+50.0%"] and " to " in line
    assert "of 3 answers of my-run and 2 of other" in done.stdout
    assert sorted(run.iterdir()) == before
    done = run_script("review", str(run), "--against", str(other), "--grades", "x")
    assert done.returncode == 2


def test_the_books_answers_have_their_scores_in_the_report(shared, tmp_path):
    rows = json.loads(
        (shared / "datasets" / "book-test-110-with-responses.json").read_text(encoding="utf-8")
    )
    path = tmp_path / "book.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    text = write_report(path).read_text(encoding="utf-8")
    assert "<td>15.5%</td>" in text  # 17 of 110
    assert "<td>0.5816</td>" in text


def test_sittings_are_in_words_too(run):
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    sitting = {"started": "today", "command": ["train.py", "--lr"], "versions": {"torch": "2.9"}}
    told["sittings"] = [sitting, sitting | {"from_step": 7}]
    (run / "run.json").write_text(json.dumps(told), encoding="utf-8")
    text = write_report(run).read_text(encoding="utf-8")
    told = "started today, command train.py --lr, versions torch 2.9"
    assert (
        f"<dt>1</dt><dd>{told}</dd>" in text and f"<dt>2</dt><dd>{told}, from_step 7</dd>" in text
    )
    assert "sittings.2: started today" in (run / "report.md").read_text(encoding="utf-8")


def test_settings_are_in_words():
    assert [in_words(x) for x in (None, True, 5e-05, 12000, ["a", "b"], {"a": 1})] == [
        "none", "yes", "5e-05", "12,000", "a b", "a 1",
    ]  # fmt: skip
