"""Making mini again: a trial never takes the place of the model, and mistakes are told at once."""

import json
import re
import sys

import pytest

from data import make
from gpt.errors import UserError
from scripts import make_mini
from tests.runs import ROOT


@pytest.fixture
def made(monkeypatch):
    """A function that runs the command, its long parts left out; what it would have exported."""
    exported: list[str] = []
    codes: list[int] = []

    def begin(folder, *_):
        folder.mkdir(exist_ok=True)

    monkeypatch.setattr(make_mini, "write_corpus", lambda path, tokens: path.write_text("corpus"))
    monkeypatch.setattr(make_mini, "write_vocabulary", begin)
    monkeypatch.setattr(make_mini, "export", lambda run, out, corpus: exported.append(str(out)))
    monkeypatch.setattr(make_mini, "pretrain", lambda *_: codes.pop() if codes else 0)

    def run(*arguments, code=0):
        codes[:] = [code] if code else []
        exported.clear()
        monkeypatch.setattr(sys, "argv", ["make_mini.py", *map(str, arguments)])
        make_mini.main()
        return exported

    return run


def test_a_trial_has_a_work_folder_of_its_own(made, tmp_path):
    trial, other = tmp_path / "try", tmp_path / "other"
    assert made("--tokens", "400k", "--steps", 40, "--out", trial) == [str(trial)]
    assert made("--steps", 9, "--out", other) == [str(other)]
    assert (tmp_path / "making-try" / "corpus.txt").exists()
    assert json.loads((tmp_path / "making-other" / "stamp.json").read_text())["steps"] == 9


def test_what_was_begun_otherwise_is_refused_and_exported_nowhere(made, tmp_path, monkeypatch):
    work, out = tmp_path / "work", tmp_path / "out"
    made("--tokens", "400k", "--steps", 40, "--work", work, "--out", out)
    assert made("--tokens", "400k", "--steps", 40, "--work", work, "--out", out)  # goes on
    with pytest.raises(UserError, match=r"work: was begun with other settings \(.*steps 40"):
        made("--tokens", "400k", "--work", work, "--out", out)
    with pytest.raises(UserError, match="tokens 400000"):
        made("--tokens", "500k", "--steps", 40, "--work", work, "--out", out)
    monkeypatch.setitem(make_mini.SHAPE, "n_layer", 3)
    with pytest.raises(UserError, match="shape"):
        made("--tokens", "400k", "--steps", 40, "--work", work, "--out", out)


def test_other_rules_of_the_data_are_another_work(tmp_path, monkeypatch):
    for name in ("data/world/facts.py", "data/make.py", "gpt/bpe.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a = 1\n")
    monkeypatch.setattr(make_mini, "ROOT", tmp_path)
    before = make_mini.stamp(1, 1)
    (tmp_path / "data/make.py").write_bytes(b"a = 1\r\n")  # as git writes it on Windows
    assert make_mini.stamp(1, 1) == before
    for name in ("data/world/facts.py", "gpt/bpe.py"):
        (tmp_path / name).write_bytes(b"a = 2\n")
        after = make_mini.stamp(1, 1)
        assert [key for key in before if before[key] != after[key]] == ["rules of the data"]
        before = after


def test_a_folder_of_unknown_making_is_left_alone(tmp_path):
    (tmp_path / "corpus.txt").write_text("of an earlier attempt, or somebody else's")
    with pytest.raises(UserError, match="no stamp.json"):
        make_mini.claim(tmp_path, make_mini.stamp(1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


@pytest.mark.parametrize(
    "wrong",
    [("--tokens", "foo"), ("--tokens", "0"), ("--steps", "0"), ("--steps", "-1"), ("--steps", "x")],
)
def test_a_wrong_number_is_refused_before_anything_is_written(made, tmp_path, wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        made("--out", tmp_path / "out", *wrong)
    assert ended.value.code == 2
    assert re.search(rf"{wrong[0]}: a number .*, not '{wrong[1]}'", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_none_is_refused_before_anything_is_written(made, tmp_path):
    with pytest.raises(UserError, match="--device gpu"):
        made("--out", tmp_path / "out", "--device", "gpu")
    assert list(tmp_path.iterdir()) == []


def test_it_says_how_to_go_on(made, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        made("--steps", 9, "--out", out, code=143)
    assert ended.value.code == 143
    assert f"python scripts/make_mini.py --steps 9 --out {out}" in capsys.readouterr().out
    made("--steps", 9, "--out", out)
    assert f"next: python scripts/train.py --model {out}\n" in capsys.readouterr().out


def test_no_number_of_the_card_is_typed_in():
    """They come from config.json and run.json of the very run; names of things hold some."""
    card = (ROOT / "data" / "mini_card.md").read_text(encoding="utf-8")
    table = [line for line in card.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(table) > 8
    for line in table:
        typed = re.sub(r"\{\w+\}|GPT-2|fp16|fp32|beta2", "", line)
        assert not re.search(r"\d", typed), line
    assert "templates" in next(line for line in table if line.startswith("| vocabulary"))


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_full_disk_costs_a_line_and_not_the_old_instructions(tmp_path, monkeypatch):
    path = tmp_path / "instructions.json"
    path.write_text("old")
    monkeypatch.setattr("gpt.files.force_to_disk", full)
    with pytest.raises(UserError, match="cannot be written: No space left"):
        make.write_instructions(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("instructions.json", "old")]
    monkeypatch.setattr("data.corpus.stream.documents", full)
    with pytest.raises(UserError, match=r"corpus.txt: cannot be written: No space left"):
        make.write_corpus(tmp_path / "corpus.txt", 1000, 0)
