"""The page on scaling holds what its script computes, and says all that it takes to compute it."""

import importlib.util
import math
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from gpt import sharding
from gpt.settings import names
from tests.runs import ROOT

PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scaling():
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "scripts/scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(title: str) -> str:
    """From a heading to the next of the same rank, or of a higher one."""
    level = re.search(rf"^(#+) {re.escape(title)}$", PAGE, re.M)
    assert level, title
    rest = PAGE[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """Of all tables in it, without their heads' rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line[1:-1].split("|")] for line in lines if "---" not in line]


def code_blocks(text: str) -> list[str]:
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M)
    return [re.sub(r"^    ", "", block, flags=re.M).strip("\n") for block in blocks]


# ---- the numbers ----------------------------------------------------------------------------


def test_the_page_has_the_tables_of_the_script_and_no_others(scaling):
    tables = (
        scaling.checks_of_calls(), scaling.checks_of_ddp(), scaling.checks_of_shard(),
        scaling.predictions(16_384, 256), scaling.small_steps(),
    )  # fmt: skip
    for table in tables:
        assert "\n".join(table) in PAGE, table[0]
    model = section("What to expect: a cost model")
    n_constants = len(rows(section("The constants")))
    assert len(rows(model)) == n_constants + sum(len(table) - 1 for table in tables)


def constants() -> dict[str, float]:
    return {row[0]: eval(row[1], {}) for row in rows(section("The constants"))[1:]}


def test_the_page_has_each_constant_of_the_script_its_unit_and_where_it_is_from(scaling):
    of_script = {
        name: value
        for name, value in vars(scaling).items()
        if name.isupper() and isinstance(value, int | float)
    }
    assert constants() == of_script
    assert all(all(row) for row in rows(section("The constants"))[1:])
    model = section("What to expect: a cost model").split("### ")[0]
    assert all(name in model for name in of_script)  # each has its place in the formula


def test_a_cell_by_hand_from_the_page_alone():
    """With the page's constants and sizes, and not a line of the script's."""
    c = constants()
    by_hand = section("A cell by hand")
    L, C = (int(re.search(rf"\b{name} = (\d+)", by_hand)[1]) for name in "LC")
    P, PR, PB = 124_439_808, (50_257 + 1_024) * C, 85_056_000
    assert PR + PB == P and all(f"{n:,}" in by_hand for n in (P, PR, PB))
    F = 6 * P + 12 * L * C * 256
    computing = 16_384 * F / c["FLOPS"]
    waiting = 1 + c["JITTER"] * math.log2(64 / c["NODE"])
    a_call = c["START"] + c["HOP"] * math.log2(64 / 8)
    n_calls = math.ceil(4 * PB / c["BUCKET"])
    blocks = n_calls * a_call + 8 * PB * 63 / 64 / c["ACROSS"]
    beneath = c["BACK"] * computing
    rest = a_call + 8 * PR * 63 / 64 / c["ACROSS"]
    adamw = c["TRAFFIC"] * P / c["MEMORY"]
    step = computing * waiting + max(0, blocks - beneath) + rest + adamw
    told = [
        ("F", F / 1e9, 4), ("computing", computing * 1e3, 2), ("waiting", waiting, 3),
        ("a call", a_call * 1e6, 0), ("blocks", blocks * 1e3, 2), ("beneath", beneath * 1e3, 2),
        ("rest", rest * 1e3, 2), ("AdamW", adamw * 1e3, 2), ("step", step * 1e3, 2),
        ("cell", 64 * 16_384 / step / 1e6, 2),
    ]  # fmt: skip
    for name, number, digits in told:
        line = re.search(rf"^    {name} .*= ([\d.]+)[^=]*$", by_hand, re.M)
        assert line and line[1] == f"{number:.{digits}f}", (name, number)
    predicted = rows(section("Prediction, not measurement"))
    cell = next(row for row in predicted if row[:2] == ["gpt2", "64"])
    assert cell[2] == f"{64 * 16_384 / step / 1e6:.2f}M"


def test_what_the_page_says_in_words_of_its_tables(scaling):
    text = " ".join(section("Beside what was published").split())
    per_gpu = [row[-1] for row in scaling.ONE_NODE[:4]]
    found = [
        tokens / scaling.step_seconds(size, n, tokens, 1024, False, parts)
        for size, _, n, tokens, parts, _ in scaling.ONE_NODE
    ]
    kept, says = per_gpu[3] / per_gpu[0], found[3] / found[0]
    assert f"it keeps {kept:.0%}, and the formula says {says:.0%}" in text
    worst = max(f / row[-1] for f, row in zip(found, scaling.ONE_NODE, strict=True)) - 1
    assert f"by up to {worst:.0%} here" in text
    assert f"keeps {5605 / 5762:.0%} and {6514 / 6667:.0%} from 8 H100s to 128" in text
    assert f"JITTER alone leaves {1 / (1 + scaling.JITTER * 4):.0%}" in text
    of_shard = [int(line.split("|")[6].strip(" %")) for line in scaling.checks_of_shard()[2:]]
    assert f"off by {min(of_shard):+}% to {max(of_shard):+}%" in text


def test_what_sharding_says_of_gpt2_xl(scaling):
    needed = 16 * scaling.gpt2_sizes()[-1].n_params / 1e9
    assert f"needs {needed:.0f} GB to be trained, and so {needed / 8:.1f} GB on each of eight" in (
        " ".join(sharding.__doc__.split())
    )


def test_more_to_tell_takes_longer_and_sharding_makes_adamw_cheaper(scaling):
    size = scaling.gpt2_sizes()[-1]

    def seconds(n, tokens=16_384, shard=False, parts=1):
        return scaling.step_seconds(size, n, tokens, 256, shard, parts)

    assert seconds(1) < seconds(8) < seconds(64) < seconds(512)
    assert seconds(8, tokens=64) > seconds(1, tokens=64)
    assert seconds(8, shard=True) < seconds(8)
    assert seconds(8, shard=True, parts=16, tokens=4096) > seconds(8, parts=16, tokens=4096)
    flops = [round(of.flops(256) / 1e9, 2) for of in scaling.gpt2_sizes()]
    assert flops == pytest.approx([0.77, 2.20, 4.78, 9.57], rel=0.01)


# ---- the commands ---------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """All that begin with torchrun, their lines joined; … and comments left out."""
    found = []
    for block in code_blocks(PAGE):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split("torchrun ", 1)[1] if "torchrun " in line else ""
            if line := line.split("  #")[0].replace("…", ""):
                found.append(shlex.split(line.replace("$SLURM_NNODES", "4")))
    return found


def test_torchrun_and_train_know_every_option_of_the_page():
    from torch.distributed.run import get_args_parser

    assert len(commands()) >= 6
    flags = {f"--{name.replace('_', '-')}" for name in names()}
    for command in commands():
        told = get_args_parser().parse_args(command)
        assert told.training_script.startswith("scripts/")
        assert {a for a in told.training_script_args if a.startswith("--")} <= flags, command


SRUN = """#!/bin/sh
printf '%s\\n' "$@" > "$HERE/srun"
sleep 0.05
if [ "$ENDED" ]; then printf '{"ended": "%s"}' "$ENDED" > "$HERE/run/run.json"; fi
exit "$CODE"
"""
SCONTROL = """#!/bin/sh
if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; else echo "$@" > "$HERE/scontrol"; fi
"""


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("bash") is None, reason="no bash of a cluster's here"
)
@pytest.mark.parametrize(
    ("ended", "code"), [("stopped", 1), ("finished", 0), ("not yet", 1), ("", 1)]
)
def test_the_job_for_slurm_asks_to_be_queued_again_when_it_was_stopped(tmp_path, ended, code):
    (script,) = [b for b in code_blocks(section("Slurm")) if b.startswith("#!")]
    assert 'srun --cpus-per-task="$SLURM' in script and "--signal=TERM@" in script
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "run").mkdir()
    before = tmp_path / "run/run.json"  # of the job before this one
    before.write_text('{"ended": "stopped"}', encoding="utf-8")
    os.utime(before, (0, 0))
    job = tmp_path / "job.sh"
    job.write_text(script.replace("/shared/run", str(tmp_path / "run")), encoding="utf-8")
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HERE": str(tmp_path), "ENDED": ended,
        "CODE": str(code), "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "41", "SLURM_CPUS_PER_TASK": "64",
    }  # fmt: skip
    ran = subprocess.run(["bash", str(job)], env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (code, "")
    asked = (tmp_path / "srun").read_text().splitlines()
    assert asked[:2] == ["--cpus-per-task=64", "torchrun"]
    assert asked[asked.index("--rdzv-endpoint") + 1] == "node7:29500"
    assert asked[asked.index("--rdzv-id") + 1] == "41" and "--resume" in asked
    queued = tmp_path / "scontrol"
    assert (queued.read_text().split() if queued.exists() else None) == (
        ["requeue", "41"] if ended == "stopped" else None
    )


def test_no_line_of_prose_is_wider_than_100():
    wide = [
        line
        for line in PAGE.splitlines()
        if len(line) > 100 and not line.startswith(("|", "[")) and "](" not in line
    ]
    assert wide == []
