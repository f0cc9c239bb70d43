"""A signal is a request: noted, granted where nothing is lost, and not left behind."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpt.stopping import StopRequested, StopRequests

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def handlers_are_restored():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_nobody_asked():
    with StopRequests() as stop:
        stop.check()
        assert stop.signal is None and stop.exit_code() == 0
    assert stop.exit_code() == 0


@BOTH
def test_a_request_waits_until_the_loop_looks(number):
    with StopRequests() as stop:
        signal.raise_signal(number)  # here nothing happens
        assert stop.signal == number and stop.exit_code() == 128 + number
        for _ in range(2):  # and it is not forgotten once it was seen
            with pytest.raises(StopRequested):
                stop.check()
    assert stop.exit_code() == 128 + number  # known afterwards, when the process ends


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@BOTH
def test_who_asks_twice_does_not_want_to_wait(number, second):
    with StopRequests() as stop, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
        signal.raise_signal(second)
        pytest.fail("waited")
    assert stop.signal == number


def test_handlers_are_back_after_an_error_too_and_can_be_nested():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), StopRequests():
        assert signal.getsignal(signal.SIGINT) != before
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) == before
    with StopRequests() as outer:
        with StopRequests() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert (inner.signal, outer.signal) == (signal.SIGTERM, None)
        signal.raise_signal(signal.SIGINT)
        assert outer.signal == signal.SIGINT


def test_after_the_block_ctrl_c_is_ctrl_c_again():
    with StopRequests():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_handler_that_was_not_set_from_python_is_no_error(monkeypatch):
    real = signal.signal
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", lambda number, handler: real(number, handler) and None)
        with StopRequests():
            pass
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(number, handler)


def test_in_a_thread_where_no_signal_can_be_handled_it_only_never_hears_one():
    found = []

    def work():
        with StopRequests() as stop:
            stop.check()
            found.append(stop.exit_code())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


@pytest.mark.skipif(os.name == "nt", reason="Windows ends the process at once")
def test_signals_from_outside_are_heard_while_the_loop_works():
    code = """
import sys, time
from gpt.stopping import StopRequested, StopRequests
with StopRequests() as stop:
    print("ready", flush=True)
    try:
        for _ in range(1000):
            time.sleep(0.01)
            stop.check()
    except StopRequested:
        print("saved", flush=True)
sys.exit(stop.exit_code())
"""
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            told, complaints = process.communicate(timeout=30)
        assert (told, complaints, process.returncode) == (
            b"saved\n",
            b"\nstopping as soon as nothing is lost by it; once more: at once\n",
            128 + number,
        )
