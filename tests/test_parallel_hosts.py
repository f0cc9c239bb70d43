"""Two hosts, as far as one machine has them: each a network of its own, with a cable between."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_two_hosts_outlive_a_short_cut_of_the_cable_and_both_say_of_a_long_one(tmp_path, cable):
    world = make_world(tmp_path)
    settings = settings_in(
        world, batch_size=8, epochs=1000.0, samples=0, validate_every=10_000, save_every=5
    )
    metrics = Path(settings.out) / "metrics.jsonl"
    port, processes, logs = free_port(), [], []
    for i, (host, end) in enumerate(zip(cable.hosts, cable.ends, strict=True)):
        command = [
            "ip", "netns", "exec", host,
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(i),
            "--nproc-per-node", "1", "--master-addr", ADDRESSES[0], "--master-port", str(port),
            str(ROOT / "scripts/train.py"), *as_flags(settings), "--no-respond",
        ]  # fmt: skip
        logs.append(tmp_path / f"host{i}.log")
        with logs[i].open("wb") as log:
            environment = os.environ | {"GLOO_SOCKET_IFNAME": end}
            processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path)
            )
    try:
        wait_until(lambda: n_lines(metrics) > 5, processes, 300)
        cable.cut()
        time.sleep(1)
        cable.mend()
        before = n_lines(metrics)
        wait_until(lambda: n_lines(metrics) > before + 5, processes)
        cable.cut()
        began = time.monotonic()
        for process in processes:
            assert process.wait(max(1, began + 60 - time.monotonic())) != 0
        for log in logs:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            errors = [line for line in lines if line.startswith("error: ")]
            assert len(errors) == 1 and ("no sign of life" in errors[0] or "reached" in errors[0])
        check_files(Path(settings.out) / "last")
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
