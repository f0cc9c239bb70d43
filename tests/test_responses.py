"""A file of answers that somebody has edited: each fault has a line, and none a traceback."""

import json

import pytest

from gpt.errors import UserError
from gpt.records import Record, Turn
from gpt.responses import SIDES, Answer, Responses, outcome, row_of

BOTH = list(SIDES)
N = 6


def begun(path, n=N, limit=None) -> Responses:
    records = [
        Record((Turn("user", f"Q{i}"), Turn("assistant", f"A{i}")), "d", i, {}) for i in range(n)
    ]
    responses = Responses(path, [row_of(r, BOTH) for r in records], BOTH, limit)
    responses.begin({"model": "m"})
    return responses


def answer_rest(responses: Responses) -> None:
    for i in range(responses.n_whole, responses.n):
        for side in BOTH:
            if (i, side) not in responses.answers:
                responses.add(i, side, Answer(f"a{i}", "stop", 1, "", 2.5, 3))
    responses.end()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "r.jsonl"
    answer_rest(begun(path))
    return path


def edit(path, change) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = change(rows) or rows
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.pop("response"), "response is missing or null"),
        (lambda row: row.update(response=None), "response is missing or null"),
        (lambda row: row.update(base_response=7), "base_response is 7"),
        (lambda row: row.pop("finish_reason"), "finish_reason is missing"),
        (lambda row: row.update(n_base_tokens="3"), "n_base_tokens is '3'"),
        (lambda row: row.update(output_nats="x"), "output_nats is 'x'"),
        (lambda row: row.update(note=[]), "note is []"),
        (lambda row: row.update(output="else"), "is not the answer to d:2"),
    ],
)
def test_an_edited_row_is_refused_with_its_line(path, change, said):
    edit(path, lambda rows: change(rows[2]) and None)
    before = path.read_bytes()
    with pytest.raises(UserError) as caught:
        begun(path)
    assert str(caught.value).startswith(f"{path}:3: {said}"), caught.value
    assert "--overwrite" in str(caught.value) and path.read_bytes() == before


@pytest.mark.parametrize("more", [lambda rows: rows[:1], lambda rows: [rows[0] | {"output": "?"}]])
def test_rows_that_answer_nothing_are_refused(path, more):
    edit(path, lambda rows: rows + more(rows))
    with pytest.raises(UserError, match=r"r\.jsonl:7: is one answer more than .* \(6\)"):
        begun(path)


def test_a_limit_counts_the_rows_that_the_file_has(path):
    responses = begun(path, limit=3)
    assert (responses.n, responses.n_whole, responses.n_answers) == (N, N, 2 * N)
    edit(path, lambda rows: rows[:2])
    responses = begun(path, limit=3)
    assert (responses.n, responses.n_whole, responses.n_answers) == (3, 2, 4)
    answer_rest(responses)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_answers_behind_a_limit_stay_in_the_journal(tmp_path):
    path = tmp_path / "r.jsonl"
    begun(path).add(5, "response", Answer("kept", "stop", 1))
    answer_rest(begun(path, limit=2))
    assert begun(path).answers[5, "response"].text == "kept"


@pytest.mark.parametrize(
    "line",
    [
        "[]", "null", "7", '{"x": 1}', "not json", "",
        '{"row": "1", "asked": "a", "side": "response", "answer": ["a", "stop", 1, ""]}',
        '{"row": true, "asked": "a", "side": "response", "answer": ["a", "stop", 1, ""]}',
        '{"row": 2, "asked": ASKED, "side": "response", "answer": ["a"]}',
        '{"row": 2, "asked": ASKED, "side": "response", "answer": "text"}',
        '{"row": 2, "asked": ASKED, "side": "response", "answer": [null, "stop", 1, ""]}',
        '{"row": 2, "asked": ASKED, "side": "response", "answer": ["a", "stop", 1, "", 1, 2, 3]}',
        '{"row": 2, "asked": ASKED, "side": ["response"], "answer": ["a", "stop", 1, ""]}',
        '{"row": 2, "asked": 5, "side": "response", "answer": ["a", "stop", 1, ""]}',
    ],
)  # fmt: skip
def test_a_bad_line_of_the_journal_is_skipped(path, line):
    whole = path.read_bytes()
    edit(path, lambda rows: rows[:2])
    first = begun(path)
    first.add(2, "response", Answer("a2", "stop", 1, "", 2.5, 3))
    good = first.journal.read_bytes()
    asked = json.loads(good.splitlines()[1])["asked"]
    header, told = good.splitlines()
    bad = line.replace("ASKED", json.dumps(asked)).encode()
    first.journal.write_bytes(b"\n".join([header, bad, told, bad, b""]))
    again = begun(path)
    assert again.answers == {(2, "response"): Answer("a2", "stop", 1, "", 2.5, 3)}
    answer_rest(again)
    assert path.read_bytes() == whole


def test_a_journal_from_before_the_references_were_read_is_gone_on_from(path):
    edit(path, lambda rows: rows[:2])
    first = begun(path)
    first.add(2, "response", Answer("a2", "stop", 1))
    header, told = first.journal.read_text(encoding="utf-8").splitlines()
    told = json.loads(told)
    told["answer"] = told["answer"][:4]
    first.journal.write_text(f"{header}\n{json.dumps(told)}\n", encoding="utf-8")
    again = begun(path)
    assert again.answers[2, "response"] == Answer("a2", "stop", 1)
    answer_rest(again)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert "output_nats" not in rows[2] and rows[2]["base_output_nats"] == 2.5
    assert outcome(rows).startswith("tuned exact match")


def test_a_records_own_key_does_not_pass_for_ours():
    record = Record((Turn("user", "Q"), Turn("assistant", "A")), "d", 1, {"output_nats": "x"})
    assert "output_nats" not in row_of(record, ["response"])
