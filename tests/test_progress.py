"""What a person sees of a run: a bar that is redrawn on a terminal, few plain lines in a file."""

import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt import progress as chapter
from gpt.progress import Progress

ROOT = Path(__file__).parents[1]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves; the bar has its own."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(chapter, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def line(step: int, **more) -> dict:
    return {
        "step": step, "epoch": step / 10, "tokens": 100 * step, "train_loss": 2.5, "lr": 5e-5,
        "grad_norm": 1.25, "tokens_per_second": 12345.6, "memory_bytes": 3_400_000_000, **more,
    }  # fmt: skip


def run(clock, stream, n_steps=100, seconds=1.0, done=0, every=20, **more) -> str:
    progress = Progress(n_steps, done, stream)
    for step in range(done + 1, n_steps + 1):
        clock.now += seconds
        validated = {"val_loss": 2.25} if step % every == 0 else {}
        progress.step(line(step, **validated, **more))
    progress.close()
    return stream.getvalue()


# ---- in a file -----------------------------------------------------------------------------


def test_in_a_file_there_are_lines_and_no_bar(clock):
    written = run(clock, io.StringIO())
    assert "\r" not in written and "\x1b" not in written and "█" not in written
    lines = written.splitlines()
    assert written.endswith("\n") and all(re.match(r"step +\d+/100  loss ", one) for one in lines)


def test_in_a_file_there_is_a_line_every_ten_seconds_and_for_each_validation(clock):
    steps = [int(n) for n in re.findall(r"step +(\d+)/", run(clock, io.StringIO()))]
    assert steps == [1, 11, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    fast = run(clock, io.StringIO(), n_steps=1000, seconds=0.001, every=1000)
    assert len(fast.splitlines()) == 2  # the first, and the validation of the last
    slow = run(clock, io.StringIO(), n_steps=5, seconds=60)
    assert len(slow.splitlines()) == 5


def test_a_line_holds_each_number_with_its_unit_and_the_time_that_is_left(clock):
    written = run(clock, io.StringIO(), n_steps=40, seconds=2.0, every=20)
    [told] = [one for one in written.splitlines() if one.startswith("step 20/40")]
    assert told == (
        "step 20/40  loss 2.500  validation 2.250  lr 5.0e-05  grad  1.25  12,346 tok/s  "
        "3.4 GB  00:40 left"
    )


def test_lines_stand_one_under_another(clock):
    written = run(clock, io.StringIO(), n_steps=1200, seconds=10.0, every=10**6).splitlines()
    assert len({one.index("loss") for one in written}) == 1 and len(written) == 1200
    assert written[0].startswith("step     1/1,200") and written[-1].startswith("step 1,200/1,200")


def test_what_was_not_measured_is_left_out_and_what_is_no_number_is_shown(clock):
    stream = io.StringIO()
    progress = Progress(10, 0, stream)
    progress.step({"step": 0, "epoch": 0.0, "tokens": 0, "supervised_tokens": 0, "val_loss": 10.8})
    assert stream.getvalue() == "step  0/10  validation 10.800  --:-- left\n"
    stream.truncate(0)
    clock.now += 60
    progress.step(line(1, train_loss=math.nan, grad_norm=math.inf, memory_bytes=None, lr=None))
    told = stream.getvalue()
    assert "loss nan" in told and "grad   inf" in told
    assert "lr" not in told and "GB" not in told and "None" not in told


def test_a_bare_step_is_told_too(clock):
    stream = io.StringIO()
    Progress(3, 0, stream).step({"step": 3})
    assert stream.getvalue().startswith("step 3/3")


# ---- on a terminal -------------------------------------------------------------------------


def test_on_a_terminal_a_bar_is_redrawn_and_only_validations_leave_a_line(clock):
    written = run(clock, Terminal())
    kept = [part.rpartition("\r")[2] for part in written.split("\n")]
    kept = [part for part in kept if part.strip()]
    told = [part for part in kept if part.startswith("step")]
    assert [int(re.match(r"step +(\d+)/100  loss", part)[1]) for part in told] == list(
        range(20, 101, 20)
    )
    assert not any("left" in part for part in told)  # the bar says it
    assert "\r" in written and "█" in written and "100/100" in written
    assert "loss 2.500" in written and "12,346 tok/s" in written and "3.4 GB" in written


IN_A_TERMINAL = "import pty, sys; pty.spawn([sys.executable, '-c', sys.argv[1]])"
SHORT_RUN = """
import fcntl, os, struct, sys, termios
from gpt.progress import Progress
fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
progress = Progress(1234, 0)
line = {"train_loss": 2.5, "lr": 5e-5, "grad_norm": 1.25, "tokens_per_second": 12345.6,
        "memory_bytes": 3.4e9}
progress.step({"step": 1000, "val_loss": 2.25, **line})
progress.step({"step": 1234, **line})
progress.close()
"""


@pytest.mark.parametrize("width", [40, 80, 200])
def test_on_a_real_terminal_a_bar_fits_and_at_80_columns_it_says_everything(width):
    pytest.importorskip("pty", reason="a terminal of Unix's")
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_TERMINAL, SHORT_RUN.replace("WIDTH", str(width))],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "TERM": "xterm"},
    )  # fmt: skip
    parts = re.split(r"[\r\n]+", ended.stdout)
    bars = [part for part in parts if part.startswith("1234/1234 ")]
    assert bars and all(len(bar) <= width for bar in bars), ended
    assert sum("validation 2.250" in part for part in parts) == 1
    if width >= 80:
        for told in ("left", "loss 2.500", "lr 5.0e-05", "grad 1.25", "12,346 tok/s", "3.4 GB"):
            assert told in bars[-1]


def test_the_bar_of_a_resumed_run_begins_where_it_was_stopped(clock):
    stream = Terminal()
    progress = Progress(100, 40, stream)
    assert "40/100" in stream.getvalue()
    progress.step(line(41))
    progress.step(line(100))
    progress.close()
    assert "100/100" in stream.getvalue() and "140" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_what_is_said_stands_on_a_line_of_its_own(clock, stream):
    stream = stream()
    progress = Progress(10, 0, stream)
    progress.step(line(1))
    progress.say("saved as it was")
    progress.step(line(2))
    progress.close()
    progress.close()
    assert "saved as it was" in re.split(r"[\r\n]+", stream.getvalue())


# ---- time left -----------------------------------------------------------------------------


def test_the_time_left_is_that_of_as_many_steps_as_are_left(clock):
    progress = Progress(100, 0, io.StringIO())
    assert progress.seconds_left() is None
    for step, seconds, expected in ((1, 3.0, 297.0), (2, 1.0, 196.0), (4, 4.0, 192.0)):
        clock.now += seconds
        progress.step(line(step))
        assert progress.seconds_left() == pytest.approx(expected)
    clock.now += 2
    progress.step(line(100))
    assert progress.seconds_left() == 0


def test_of_a_resumed_run_only_its_own_steps_are_timed(clock):
    progress = Progress(100, 90, io.StringIO())
    progress.step(line(90, val_loss=1.0))  # a validation that a stop had cut off
    assert progress.seconds_left() is None
    clock.now += 2
    progress.step(line(91))
    assert progress.seconds_left() == pytest.approx(18)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "00:00"), (59.4, "00:59"), (59.6, "01:00"), (3599, "59:59"), (3600, "1:00:00"),
     (90061, "25:01:01")],
)  # fmt: skip
def test_a_time_is_read_as_a_clock(clock, seconds, shown):
    stream = io.StringIO()
    progress = Progress(2, 0, stream)
    clock.now += seconds
    progress.step(line(1))
    assert stream.getvalue().endswith(f"  {shown} left\n")
