"""Every command of the README runs, as it stands there, in a small stand-in for a user's folder.

`gpt2` and `gpt2-medium` are folders with a tiny model here (a folder of that name wins over the
hub), the judge is one of ours on this machine, and the chat reads `/quit`.
"""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.tokenizer import Tokenizer
from gpt.weights import save_model
from tests.judge_server import JudgeServer
from tests.runs import ROOT, make_world, run_script

README = (ROOT / "README.md").read_text(encoding="utf-8")
TURKISH = (ROOT / "README.tr.md").read_text(encoding="utf-8")
# What cannot be run in a test: it makes an environment, or fetches half a gigabyte.
ELSEWHERE = ("git clone", "python3 -m venv", "-m pip install", "-m pytest", "py -3.12")


def commands(page: str) -> list[str]:
    """The indented lines that are typed, without their comments; continued lines joined."""
    page = re.sub(r"\\\n\s+", "", page)
    indented = re.findall(r"^ {4}(\S.*)$", page, re.MULTILINE)
    typed = [re.sub(r"\s{2,}#.*", "", line) for line in indented]
    known = (".venv", "make ", "git ", "python", "py ")
    return [line for line in typed if line.startswith(known)]


def test_the_readme_has_commands_and_they_are_all_of_a_known_kind():
    assert len(commands(README)) > 15
    for line in commands(README) + commands(TURKISH):
        is_script = re.match(r"\.venv/bin/python scripts/\w+\.py( |$)", line)
        is_target = re.fullmatch(r"make \w+", line)
        assert is_script or is_target or any(part in line for part in ELSEWHERE), line


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_every_target_is_one_of_the_makefile():
    for page in (README, TURKISH):
        for target in re.findall(r"^ {4}make (\w+)$", page, re.MULTILINE):
            command = ["make", "-n", target, "OUT=."]
            ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr


def tiny_model(vocabulary: dict[str, bytes], folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(vocabulary)
    model = GPT(GPTConfig(tokenizer.n_vocab, 200, 1, 2, 16, end_id=tokenizer.end_id))
    model.vocabulary = vocabulary
    save_model(model, folder)


@pytest.fixture
def a_users_folder(tmp_path, monkeypatch) -> Path:
    world = make_world(tmp_path)
    vocabulary = {path.name: path.read_bytes() for path in (world / "vocabulary").iterdir()}
    for name in ("gpt2", "gpt2-medium", "checkpoints/mini"):
        tiny_model(vocabulary, tmp_path / name)
    (tmp_path / "data").mkdir()
    records = json.loads((world / "letters.json").read_text(encoding="utf-8"))
    for i, record in enumerate(records):
        record["split"] = ("train", "train", "validation", "test")[i % 4]
    (tmp_path / "data" / "instructions.json").write_text(json.dumps(records), encoding="utf-8")
    plain = [{key: record[key] for key in ("instruction", "output")} for record in records]
    for name in ("mine.json", "veri.json"):
        (tmp_path / name).write_text(json.dumps(plain), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [README, TURKISH], ids=["README.md", "README.tr.md"])
def test_every_script_runs_as_the_page_says(page, a_users_folder, monkeypatch):
    with JudgeServer() as judge:
        for line in commands(page):
            if not line.startswith(".venv/bin/python scripts/"):
                continue
            _, script, *arguments = shlex.split(line)
            name = Path(script).stem
            if name == "benchmark":
                continue  # minutes; tests/test_benchmark.py has it in small
            arguments = [a.replace("http://localhost:11434/v1", judge.url) for a in arguments]
            if "owner/" in line or "ytu-ce-cosmos" in line:
                continue  # another model on the hub: tests/test_download.py has a hub of its own
            if name == "plot":  # of runs that the page does not make
                for argument in arguments[:2]:
                    shutil.copytree("checkpoints/gpt2-mine", argument, dirs_exist_ok=True)
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"/quit\n"), "utf-8"))
            ended = run_script(name, *arguments)
            assert ended.returncode == 0, f"{line}\n{ended.stdout[-2000:]}\n{ended.stderr}"


def test_the_python_of_the_readme_runs(a_users_folder):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert Path("my-gpt2/model.safetensors").exists()


def test_pictures_are_there_and_no_number_is_left_to_fill_in():
    for page in (README, TURKISH):
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page):
            assert (ROOT / target).stat().st_size > 5_000, target
        assert not re.search(r"@[A-Z]+@", page)
