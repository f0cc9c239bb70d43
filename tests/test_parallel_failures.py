"""Whatever befalls one of several ranks: all end soon, one of them says why, nothing is lost."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from torch.distributed.checkpoint import FileSystemWriter

from gpt import files, learner, run_folder, watching
from gpt import train as train_chapter
from gpt.checkpoint import check_files
from gpt.files import folder_to_read
from gpt.settings import TrainSettings
from gpt.tuning import tune
from tests.ranks import as_flags, free_port, start_ranks
from tests.runs import ROOT, make_world, settings_in, told

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such signals"),
]
RUN = {
    "validate_every": 8,
    "batch_size": 6,
    "dropout": 0.1,
    "epochs": 8.0,
    "samples": 0,
    "save_every": 1,
    "respond": False,
    "lr": 1e-3,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("world"))
    ended = wait_for(start_ranks(3, tune, settings_in(world, "never-stopped", **RUN), ()), 600)
    assert ended == [0, 0, 0]
    return world


def wait_for(processes: list, seconds: float = 60) -> list[int]:
    """The exit codes. All are to be gone within a minute."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0, until - time.monotonic()))
    alive = [process.pid for process in processes if process.is_alive()]
    for process in processes:
        process.kill()
    assert not alive, "ranks that hang"
    return [process.exitcode for process in processes]


def said(log: Path) -> list[str]:
    """The errors that all ranks together have told."""
    texts = [p.read_text(errors="replace") for p in sorted(log.parent.glob(f"{log.name}.*"))]
    return [line for text in texts for line in text.splitlines() if line.startswith("error:")]


def assert_same_run(one: Path, other: Path) -> None:
    assert told(one) == told(other)
    for name in ("best/model.safetensors", "last/model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_ranks_killed_at_random_moments_end_all_and_leave_a_whole_checkpoint(world, tmp_path):
    """Ten times: in steps, in validations, between; and every other time in the midst of a save."""
    settings = settings_in(world, "killed", **RUN, resume=True)
    draw, longest, at_steps = random.Random(0), 0.0, []
    for i in range(10):
        # (The second save of a sitting or the third, so that each kill finds the run further on.)
        place = "save" if i % 2 else f"{draw.random() * 0.15}"
        how = f"dies {draw.randrange(3)} {draw.choice((2, 3))} {place}"
        processes = start_ranks(3, tune_with, settings, how, log=tmp_path / f"log{i}")
        while all(process.is_alive() for process in processes):
            time.sleep(0.02)
        began = time.monotonic()
        codes = wait_for(processes)
        assert codes.count(-signal.SIGKILL) == 1 and 0 not in codes, (i, how, codes)
        longest = max(longest, time.monotonic() - began)
        assert len(said(tmp_path / f"log{i}")) == 1, said(tmp_path / f"log{i}")
        last = Path(settings.out) / "last"
        assert folder_to_read(last).is_dir()
        at_steps.append(check_files(last)["state"]["step"])
        told_of = run_folder.read(Path(settings.out))
        assert len(told_of["sittings"]) == i + 1 and told_of["sittings"][i]["ranks"] == 3
    assert at_steps == sorted(at_steps) and at_steps[0] < at_steps[-1] < 60
    assert longest < 60
    assert wait_for(start_ranks(3, tune, settings, ()), 300) == [0, 0, 0]
    assert_same_run(world / "never-stopped", Path(settings.out))


# ---- what a rank says, and what the others do ------------------------------------------------


# What a test has no minute for. (Of one cause, another may be told first, if it is noticed sooner.)
SOONER = {
    "hangs": {"STANDING": 6.0, "_LEAVE": 2.0},
    "hangs drawing": {"IDLE": 6.0, "_LEAVE": 2.0},
    "hangs saving": {"PATIENT": 8.0, "_LEAVE": 2.0},
    "freezes": {"SILENT": 10.0, "_LEAVE": 2.0},
    "sleeps": {"SILENT": 6.0},
    "is killed": {"_LAST_WORD": 3.0},
}


def tune_with(settings: TrainSettings, how: str) -> int:
    """A rank that does something at its third step, if it is rank 1."""
    for name, seconds in SOONER.get(how, {}).items():
        setattr(watching, name, seconds)
    if how.startswith("dies"):
        die(*how.split()[1:])
        return tune(settings, ())
    gradient, steps = learner.Learner.gradient, []
    if how == "hangs drawing" and os.environ["RANK"] == "0":
        train_chapter.draw = lambda *args, **more: time.sleep(3600)
    if how == "hangs saving" and os.environ["RANK"] == "1":
        FileSystemWriter.write_data = lambda *args: time.sleep(3600)

    def learn_badly(self, *args):
        steps.append(1)
        if os.environ["RANK"] == "1" and len(steps) == 3:
            if how == "hangs":
                time.sleep(3600)
            if how == "freezes":
                os.kill(os.getpid(), signal.SIGSTOP)
            if how == "runs out of memory":
                self.loss_of = out_of_memory
            if how == "is broken":
                raise ZeroDivisionError("of rank 1 alone")
            if how == "is asked to stop":
                os.kill(os.getpid(), signal.SIGTERM)
        return gradient(self, *args)

    learner.Learner.gradient = learn_badly
    return tune(settings, ())


def die(rank: str, number: str, place: str) -> None:
    """Let this rank be killed, if it is the one: in its nth save, or some time after its nth."""
    if os.environ["RANK"] != rank:
        return
    of = train_chapter.save
    saves: list[int] = []

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def save(*args):
        saves.append(1)
        if len(saves) == int(number) and place == "save":
            if rank == "0":
                files.force_to_disk = lambda path: kill()  # all is written, and not yet in place
            else:
                FileSystemWriter.write_data = lambda *args: kill()
        of(*args)
        if len(saves) == int(number):
            threading.Timer(float(place), kill).start()

    train_chapter.save = save


def out_of_memory(batch):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("hangs", r"rank 1 on \S+: no progress for \d+ seconds in a step, and the others wait"),
        ("hangs drawing", r"rank 0 on \S+: no progress for \d+ seconds, and the others wait"),
        ("hangs saving", r"(rank 1 on|all 3 ranks)\S*: no progress for \d+ seconds in saving"),
        ("freezes", r"rank 1 on \S+: no sign of life for 10 seconds"),
        ("runs out of memory", r"rank 1 on \S+: out of memory on cpu in training, with a batch"),
        ("is broken", r"rank 1 on \S+: of rank 1 alone"),
    ],
)
def test_the_cause_is_told_once_and_the_last_save_stands(world, tmp_path, how, message):
    settings = settings_in(world, how.replace(" ", "-"), **RUN)
    processes = start_ranks(3, tune_with, settings, how, log=tmp_path / "log")
    if how == "freezes":
        processes[0].join(60)
        processes[2].join(60)
        processes[1].kill()  # as torchrun would
    codes = wait_for(processes)
    assert all(codes)
    errors = said(tmp_path / "log")
    assert len(errors) == 1 and re.match(f"error: {message}", errors[0]), errors
    saved = {"hangs drawing": 7, "hangs saving": 0}.get(how, 2)
    if saved:
        assert check_files(Path(settings.out) / "last")["state"]["step"] == saved
    ended = run_folder.read(Path(settings.out))["ended"]
    assert ended == "not yet" or (ended.startswith("failed: ") and errors[0].endswith(ended[8:]))
    tracebacks = sum(
        path.read_text(errors="replace").count("Traceback") for path in tmp_path.glob("log.*")
    )
    assert tracebacks == (how == "is broken")


def test_asked_to_stop_one_rank_saves_and_ends_all(world, tmp_path):
    settings = settings_in(world, "asked", **RUN)
    codes = wait_for(start_ranks(3, tune_with, settings, "is asked to stop", log=tmp_path / "log"))
    assert codes == [128 + signal.SIGTERM] * 3 and not said(tmp_path / "log")
    assert run_folder.read(Path(settings.out))["ended"] == "stopped"
    assert check_files(Path(settings.out) / "last")["state"]["step"] == 3
    assert wait_for(start_ranks(3, tune, replace(settings, resume=True), ()), 300) == [0, 0, 0]
    assert_same_run(world / "never-stopped", Path(settings.out))


def test_ranks_that_sleep_together_go_on_when_they_are_woken(world, tmp_path):
    settings = settings_in(world, "slept", **RUN)
    processes = start_ranks(2, tune_with, settings, "sleeps", log=tmp_path / "log")
    metrics = Path(settings.out) / "metrics.jsonl"
    while all(p.is_alive() for p in processes) and not metrics.exists():
        time.sleep(0.02)
    for number, seconds in ((signal.SIGSTOP, 10), (signal.SIGCONT, 0)):
        for process in processes:
            os.kill(process.pid, number)
        time.sleep(seconds)
    assert wait_for(processes, 120) == [0, 0] and not said(tmp_path / "log")


def test_a_users_mistake_is_told_once(world, tmp_path):
    settings = settings_in(world, "mistaken", **RUN | {"data": [str(world / "nothing.json")]})
    codes = wait_for(start_ranks(3, tune, settings, (), log=tmp_path / "log"))
    assert all(codes) and len(said(tmp_path / "log")) == 1, said(tmp_path / "log")
    settings = settings_in(world, "never-stopped", **RUN)
    codes = wait_for(start_ranks(2, tune, settings, (), log=tmp_path / "other"))
    (error,) = said(tmp_path / "other")
    assert all(codes) and "is not empty: give another --out" in error


# ---- with torchrun ---------------------------------------------------------------------------

KILLED = """
import os, runpy, signal, sys
sys.path.insert(0, {root!r})
from gpt import learner
gradient, steps = learner.Learner.gradient, []
def learn_and_die(self, *args):
    steps.append(1)
    if len(steps) == 4 and os.environ["RANK"] == "1" and {dies}:
        open({mark!r}, "a").write("killed ")
        os.kill(os.getpid(), signal.SIGKILL)
    return gradient(self, *args)
learner.Learner.gradient = learn_and_die
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""


def torchrun(
    tmp_path: Path, settings: TrainSettings, n_kills: int, *more: str, n: int = 3
) -> list[str]:
    """Rank 1 is killed at its fourth step, as many times."""
    script, mark = tmp_path / "train.py", tmp_path / "kills"
    there = str(ROOT / "scripts/train.py")
    mark.touch()
    dies = f"len(open({str(mark)!r}).read().split()) < {n_kills}"
    text = KILLED.format(root=str(ROOT), script=there, dies=dies, mark=str(mark))
    script.write_text(text, encoding="utf-8")
    return [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n), *more,
        str(script), *as_flags(settings), "--no-respond",
    ]  # fmt: skip


def test_torchrun_asked_to_stop_has_the_run_saved(world, tmp_path):
    settings = settings_in(world, "preempted", **RUN | {"epochs": 500.0})
    command = torchrun(tmp_path, settings, 0, "--master-port", str(free_port()))
    log = tmp_path / "log.0"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=tmp_path)
    metrics = Path(settings.out) / "metrics.jsonl"
    while process.poll() is None and not (
        metrics.exists() and b'"step": 2,' in metrics.read_bytes()
    ):
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) != 0
    assert run_folder.read(Path(settings.out))["ended"] == "stopped", log.read_text()[-2000:]
    assert not said(tmp_path / "log")
    state = check_files(Path(settings.out) / "last")["state"]
    assert state["step"] >= 2 and b"and saved. To go on:" in log.read_bytes()


def test_torchrun_restarts_what_was_killed_and_it_goes_on_by_itself(world, tmp_path):
    settings = settings_in(world, "restarted", **RUN)
    port = ("--master-port", str(free_port()))
    command = torchrun(tmp_path, settings, 3, "--max-restarts", "3", *port)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-3000:]
    for step in (3, 6, 9):
        assert f"resumed after step {step} of" in ran.stdout
    assert ran.stdout.count("finished after") == 1  # one rank prints
    assert "3 ranks:" in ran.stdout and "longer than the mean" in ran.stdout
    told_of = run_folder.read(Path(settings.out))
    assert told_of["ranks"] == 3 and len(told_of["of_ranks"]) == 3 and len(told_of["sittings"]) == 4
    assert_same_run(world / "never-stopped", Path(settings.out))


@pytest.mark.parametrize("rendezvous", ["static", "c10d"])
def test_torchruns_of_two_machines_restart_together(world, tmp_path, rendezvous):
    """As far as one machine can show it. The torchruns count their restarts each for itself."""
    settings = settings_in(world, f"together-{rendezvous}", **RUN)
    port, processes, logs = free_port(), [], []
    for i in range(2):
        ways = {
            "static": ["--node-rank", str(i), "--master-addr", "127.0.0.1"],
            "c10d": ["--rdzv-backend", "c10d", "--rdzv-id", "7", "--local-addr", "127.0.0.1"],
        }[rendezvous]
        ways += {
            "static": ["--master-port", str(port)],
            "c10d": ["--rdzv-endpoint", f"127.0.0.1:{port}"],
        }[rendezvous]
        more = ["--nnodes", "2", "--max-restarts", "3", *ways]
        command = torchrun(tmp_path, settings, 2, *more, n=1)
        logs.append(tmp_path / f"log.{i}")
        with logs[i].open("wb") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path))
    try:
        until = time.monotonic() + 240
        codes = [process.wait(max(1, until - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill()
    texts = [log.read_text(errors="replace") for log in logs]
    assert codes == [0, 0], texts
    assert "".join(texts).count("resumed after step") == 2
    assert len(run_folder.read(Path(settings.out))["sittings"]) == 3


def test_a_restart_does_not_go_on_with_a_run_that_it_was_not_to_touch(world, tmp_path):
    """Refused the first time, as the folder is another run's, it is refused each time."""
    settings = settings_in(world, "never-stopped", **RUN)
    port = ("--master-port", str(free_port()))
    command = torchrun(tmp_path, settings, 0, "--max-restarts", "1", *port, n=2)
    before = told(Path(settings.out))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert ran.returncode != 0 and told(Path(settings.out)) == before
    assert ran.stderr.count("is not empty: give another --out") == 2
