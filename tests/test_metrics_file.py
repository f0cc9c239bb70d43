"""A run's numbers: every line once, whatever kills the run and wherever it is resumed."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.metrics_file import MetricsError, MetricsFile, RunMetrics

LINES = [{"step": step, "train_loss": 3 / step, "lr": 1e-4 / 3} for step in range(1, 21)]


@pytest.fixture
def file(tmp_path) -> MetricsFile:
    return MetricsFile(tmp_path / "metrics.jsonl")


def written(path, lines=LINES) -> MetricsFile:
    file = MetricsFile(path)
    for line in lines:
        file.append(line)
    return file


def test_what_is_read_is_what_was_written_to_the_last_bit(file):
    lines = [{"step": 0, "val_loss": 0.1 + 0.2}, {"step": 1, "lr": 1e-4 / 3, "tokens": 2**40}]
    written(file.path, lines)
    assert file.read() == lines
    assert file.path.read_bytes().count(b"\n") == 2


def test_each_line_is_on_its_way_to_the_disk_when_append_returns(file):
    for n, line in enumerate(LINES, 1):
        file.append(line)
        assert MetricsFile(file.path).read() == LINES[:n]


def test_what_was_not_measured_is_absent_and_what_is_no_number_is_null(file):
    file.append({"step": 1, "train_loss": math.nan, "grad_norm": math.inf, "val_loss": None})
    text = file.path.read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {
        **{"step": 1, "train_loss": None, "grad_norm": None}
    }
    (line,) = file.read()
    assert math.isnan(line["train_loss"]) and math.isnan(line["grad_norm"])
    assert "val_loss" not in line


@given(st.data())
def test_a_file_cut_at_any_byte_gives_the_whole_lines_and_takes_further_ones(
    tmp_path_factory, data
):
    file = written(tmp_path_factory.mktemp("run") / "metrics.jsonl", LINES[:5])
    whole = file.path.read_bytes()
    size = data.draw(st.integers(0, len(whole)))
    file.path.write_bytes(whole[:size])
    n = len(file.read())
    assert whole[:size].count(b"\n") <= n <= whole[:size].count(b"\n") + 1
    assert file.read() == LINES[:n]

    resumed = MetricsFile(file.path)
    for line in LINES[n:6]:
        resumed.append(line)
    assert resumed.read() == LINES[:6]
    assert file.path.read_bytes()[: len(whole)] == whole


@pytest.mark.parametrize("step", [0, 1, 7, 20, 100])
def test_a_resumed_run_writes_each_line_once(file, step):
    written(file.path)
    whole = file.path.read_bytes()
    resumed = MetricsFile(file.path)
    kept = resumed.cut_after(step)
    assert kept == LINES[:step] == resumed.read()
    for line in LINES[step:]:
        resumed.append(line)
    assert file.path.read_bytes() == whole
    assert [path.name for path in file.path.parent.iterdir()] == ["metrics.jsonl"]


def test_lines_are_kept_byte_for_byte_whoever_wrote_them(file):
    theirs = b'{"step":1,"train_loss":2.50}\r\n\n{ "step": 2, "note": "mine" }\n{"step": 3}\n'
    file.path.write_bytes(theirs)
    assert [line["step"] for line in file.cut_after(2)] == [1, 2]
    assert (
        file.path.read_bytes() == b'{"step":1,"train_loss":2.50}\r\n{ "step": 2, "note": "mine" }\n'
    )


def test_nothing_is_rewritten_where_nothing_is_dropped(file):
    written(file.path)
    before = file.path.stat().st_ino, file.path.stat().st_mtime_ns
    file.cut_after(20)
    assert (file.path.stat().st_ino, file.path.stat().st_mtime_ns) == before


def test_a_cut_that_dies_leaves_the_old_file(file, monkeypatch):
    written(file.path)
    whole = file.path.read_bytes()

    def die(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", die)
    with pytest.raises(KeyboardInterrupt):
        MetricsFile(file.path).cut_after(3)
    assert file.path.read_bytes() == whole
    assert [path.name for path in file.path.parent.iterdir()] == ["metrics.jsonl"]


def test_a_run_killed_before_its_first_line_resumes(file):
    assert file.cut_after(0) == []
    assert not file.path.exists()
    file.append(LINES[0])
    assert file.read() == LINES[:1]


@pytest.mark.parametrize("step", [3, 2, -1, 3.5, True])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_step_is_not_written_twice(file, step, reopened):
    for line in LINES[:3]:
        file.append(line)
    before = file.path.read_bytes()
    with pytest.raises(ValueError, match="after step 3"):
        (MetricsFile(file.path) if reopened else file).append({"step": step})
    assert file.path.read_bytes() == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b'{"step": 3, "train_l', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\x00\xff\x00", "not valid JSON"),
        (b"[3]", "not an object"),
        (b'{"train_loss": 2.0}', "step must be a whole number from 0, not None"),
        (b'{"step": "3"}', "step must be a whole number from 0, not '3'"),
        (b'{"step": true}', "step must be a whole number"),
        (b'{"step": -3}', "step must be a whole number"),
        (b'{"step": 3, "lr": "high"}', "lr must be a number, not 'high'"),
        (b'{"step": 3, "val_loss": [1]}', "val_loss must be a number"),
        (b'{"step": 2}', "step 2 comes after step 2"),
    ],
)
def test_a_fault_is_named_by_file_and_line(file, row, message):
    written(file.path, LINES[:2])
    file.path.write_bytes(file.path.read_bytes() + row + b"\n" + b'{"step": 9}\n')
    for use in (file.read, lambda: MetricsFile(file.path).cut_after(2)):
        with pytest.raises(MetricsError) as error:
            use()
        assert str(error.value).startswith(f"{file.path}:3: ")
        assert message in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_named(file):
    with pytest.raises(MetricsError, match="metrics.jsonl: not found"):
        file.read()


def test_a_full_disk_costs_the_line_and_no_other(small_disk):
    file = MetricsFile(small_disk / "metrics.jsonl")
    file.append({"step": 1, "train_loss": 2.0})
    (small_disk / "ballast").write_bytes(bytes(2**20 - 2 * 4096))
    step = 1
    with pytest.raises(MetricsError, match="not written: No space left"):
        for step in range(2, 1000):
            file.append({"step": step, "train_loss": 2.0})
    assert 1 < step < 999
    assert [line["step"] for line in file.read()] == list(range(1, step))
    assert file.path.read_bytes().endswith(b"}\n")
    (small_disk / "ballast").unlink()
    file.append({"step": step, "train_loss": 2.0})
    assert [line["step"] for line in file.read()] == list(range(1, step + 1))


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_a_run_killed_at_random_and_resumed_has_every_line_once(file):
    writer = textwrap.dedent("""
        import sys
        from gpt.metrics_file import MetricsFile
        file = MetricsFile(sys.argv[1])
        lines = file.cut_after(int(sys.argv[2]))
        print("ready", flush=True)
        for step in range(len(lines) + 1, 10**6):
            file.append({"step": step, "train_loss": 1 / step})
            print(step, flush=True)
    """)
    last = 0
    for reach in (3, 40, 41, 200):
        command = [sys.executable, "-c", writer, str(file.path), str(last)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            for _ in range(reach):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        lines = file.read()
        assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
        assert len(lines) >= last + reach
        last = len(lines) - 2  # the checkpoint was a little before the kill


def test_the_best_is_the_first_with_the_lowest_validation_loss():
    def best(losses: list[float]) -> tuple[float, float] | None:
        lines = [{"step": i, "epoch": i / 4, "val_loss": loss} for i, loss in enumerate(losses)]
        return RunMetrics("", "", [*lines, {"step": 99, "epoch": 25.0, "train_loss": 0.1}]).best()

    assert best([]) is None
    assert best([math.nan, math.inf]) is None
    assert best([2.0, math.nan, 1.5, math.inf, 1.5, -math.inf, 1.7]) == (0.5, 1.5)
