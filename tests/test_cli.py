"""What every script does with a wrong flag, a mistake, an interruption and a closed pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


def run(*arguments: str, **named) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **named)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_flag_that_does_not_exist_is_refused_with_exit_code_2(script):
    ended = run(f"scripts/{script}", "--hlep")
    assert ended.returncode == 2 and not ended.stdout
    assert ended.stderr.startswith("error: there is no --hlep: did you mean --help?\n")
    assert ended.stderr.count("\n") == 2


def test_a_rank_that_is_left_over_in_the_shell_hides_no_message():
    ended = run("scripts/train.py", "--hlep", env=os.environ | {"RANK": "3"})
    assert ended.returncode == 2 and "there is no --hlep" in ended.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_every_flag(script):
    ended = run(f"scripts/{script}", "--help")
    assert ended.returncode == 0 and "usage:" in ended.stdout and not ended.stderr


def body(code: str) -> tuple[str, str]:
    imports = "from gpt.cli import ArgumentParser, run\nfrom gpt.errors import UserError"
    return "-c", f"{imports}\n{code}"


def test_a_flag_is_neither_shortened_nor_guessed():
    code = "p = ArgumentParser('x'); p.add_argument('--learning-rate'); p.parse_args(['{}', '1'])"
    for flag in ("--learning", "--learning_rate", "--learning_rat"):
        ended = run(*body(code.format(flag)))
        assert ended.returncode == 2 and "did you mean --learning-rate?" in ended.stderr
    assert run(*body(code.format("--learning-rate"))).returncode == 0


def test_a_mistake_is_one_line_and_a_bug_keeps_its_traceback():
    mistake = run(*body("def main(): raise UserError('x.json:3: no output: add one')\nrun(main)"))
    assert (mistake.returncode, mistake.stderr) == (1, "error: x.json:3: no output: add one\n")
    bug = run(*body("def main(): raise KeyError('ours')\nrun(main)"))
    assert bug.returncode == 1 and "Traceback" in bug.stderr


def test_an_interruption_and_a_closed_pipe_end_quietly():
    interrupted = run(*body("def main(): raise KeyboardInterrupt\nrun(main)"))
    assert (interrupted.returncode, interrupted.stderr) == (130, "interrupted\n")
    code = "def main():\n  for i in range(10**6): print(i)\nrun(main)"
    with subprocess.Popen(
        [sys.executable, *body(code)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_a_console_without_emoji_is_no_failure():
    code = "def main(): print('kedi \\U0001F408 ğ')\nrun(main)"
    ended = run(*body(code), env={"PYTHONIOENCODING": "ascii"})
    assert ended.returncode == 0 and ended.stdout == "kedi \\U0001f408 \\u011f\n"
