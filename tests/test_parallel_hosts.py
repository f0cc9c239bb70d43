"""Two hosts, as far as one machine has them: each a network of its own, with a cable between."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt import run_folder
from gpt.checkpoint import check_files
from tests.ranks import as_flags, free_port
from tests.runs import ROOT, make_world, settings_in

ADDRESSES = ("10.213.77.1", "10.213.77.2")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Cable:
    """Between two network namespaces."""

    def __init__(self) -> None:
        self.hosts = [f"talimat{os.getpid()}{side}" for side in "ab"]
        self.ends = [f"t{os.getpid()}{side}" for side in "ab"]

    def lay(self) -> None:
        for host in self.hosts:
            ip("netns", "add", host)
        a, b = self.ends
        ip("link", "add", a, "netns", self.hosts[0], "type", "veth",
           "peer", "name", b, "netns", self.hosts[1])  # fmt: skip
        for host, end, address in zip(self.hosts, self.ends, ADDRESSES, strict=True):
            ip("-n", host, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", host, "link", "set", end, "up")
            ip("-n", host, "link", "set", "lo", "up")

    def cut(self) -> None:
        ip("-n", self.hosts[0], "link", "set", self.ends[0], "down")

    def mend(self) -> None:
        ip("-n", self.hosts[0], "link", "set", self.ends[0], "up")

    def take_away(self) -> None:
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", host], capture_output=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    try:
        if shutil.which("ip") is None:
            pytest.skip("there is no ip here, to make networks with")
        made.lay()
    except subprocess.CalledProcessError as error:
        made.take_away()
        pytest.skip(f"this user may make no networks here: {error.stderr.decode().strip()}")
    yield made
    made.take_away()


def n_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until(done, processes, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "nothing goes on"
        assert all(process.poll() is None for process in processes), "a host has ended"
        time.sleep(0.05)


class Hosts:
    """A rank on each, in one run, as docs/scaling.md starts them."""

    def __init__(self, cable: Cable, folder: Path, **changes: object) -> None:
        self.settings = settings_in(
            make_world(folder), batch_size=8, epochs=1000.0, samples=0, validate_every=10_000,
            **changes,
        )  # fmt: skip
        self.cable, self.folder = cable, folder
        self.metrics = Path(self.settings.out) / "metrics.jsonl"
        self.processes: list[subprocess.Popen] = []
        self.logs: list[Path] = []

    def start(self, meeting: Callable[[int], list[str]]) -> None:
        """meeting: how torchrun's agent on a host finds the others."""
        for i, (host, end) in enumerate(zip(self.cable.hosts, self.cable.ends, strict=True)):
            command = [
                "ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run",
                "--nnodes", "2", "--nproc-per-node", "1", *meeting(i),
                str(ROOT / "scripts/train.py"), *as_flags(self.settings), "--no-respond",
            ]  # fmt: skip
            self.logs.append(self.folder / f"host{i}.log")
            with self.logs[i].open("wb") as log:
                environment = os.environ | {"GLOO_SOCKET_IFNAME": end}
                self.processes.append(
                    subprocess.Popen(
                        command, stdout=log, stderr=log, env=environment, cwd=self.folder
                    )
                )

    def wait_for_steps(self, n: int, seconds: float = 120) -> None:
        until = n_lines(self.metrics) + n
        wait_until(lambda: n_lines(self.metrics) > until, self.processes, seconds)

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def hosts(cable, tmp_path) -> Iterator[Hosts]:
    started = Hosts(cable, tmp_path, save_every=5)
    yield started
    started.end()


@pytest.mark.slow
def test_two_hosts_outlive_a_short_cut_of_the_cable_and_both_say_of_a_long_one(hosts, cable):
    port = str(free_port())
    hosts.start(
        lambda i: ["--node-rank", str(i), "--master-addr", ADDRESSES[0], "--master-port", port]
    )
    hosts.wait_for_steps(5, 300)
    cable.cut()
    time.sleep(1)
    cable.mend()
    hosts.wait_for_steps(5)
    cable.cut()
    began = time.monotonic()
    for process in hosts.processes:
        assert process.wait(max(1, began + 60 - time.monotonic())) != 0
    for log in hosts.logs:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1 and ("no sign of life" in errors[0] or "reached" in errors[0])
    check_files(Path(hosts.settings.out) / "last")


@pytest.mark.slow
def test_two_hosts_that_agree_who_is_who_are_saved_when_both_are_asked_to_stop(hosts):
    meeting = ["--max-restarts", "3", "--rdzv-id", "mine", "--rdzv-backend", "c10d"]
    meeting += ["--rdzv-endpoint", f"{ADDRESSES[0]}:{free_port()}"]
    is_host = ["--rdzv-conf", "is_host=true"]  # which one machine's name does not tell
    hosts.start(lambda i: [*meeting, "--local-addr", ADDRESSES[i], *(is_host if i == 0 else [])])
    hosts.wait_for_steps(3, 300)
    for process in hosts.processes:  # as Slurm does before the time is over
        process.terminate()
    for process, log in zip(hosts.processes, hosts.logs, strict=True):
        assert process.wait(60) != 0, log.read_text(encoding="utf-8")[-2000:]
    assert run_folder.read(Path(hosts.settings.out))["ended"] == "stopped"
    assert check_files(Path(hosts.settings.out) / "last")["state"]["step"] >= 3
