"""Processes that were started apart meet, also where others met, and were killed, before."""

import os
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from gpt import meeting, parallel
from gpt.meeting import Meeting, Place, RanksError, connect, meet, n_asked
from tests.ranks import free_port, start_ranks


@pytest.fixture
def places():
    """Four of them, and torchrun's store, which outlives them."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield [Place(rank, 4, rank, "127.0.0.1", server.port, has_store=True) for rank in range(4)]
    del server


def met(places: list[Place], seconds: float = 20) -> list:
    """What each of them has of the meeting, or the error that it ends with."""
    found: list = [None] * len(places)
    stores = []  # of which one may be the only one there is

    def one(i: int, place: Place) -> None:
        try:
            stores.append(connect(place))
            found[i] = meet(stores[-1], place, {"rank": place.rank}, seconds)
        except RanksError as error:
            found[i] = error

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_all_know_the_same_afterwards(places):
    meetings = met(places)
    assert all(meeting == meetings[0] for meeting in meetings)
    assert meetings[0].words == [{"rank": rank} for rank in range(4)]
    assert not meetings[0].is_restart and not meetings[0].missing


def test_a_second_start_at_the_same_store_is_one_of_the_same_launch(places):
    first, second = met(places)[0], met(places)[0]
    assert second.start != first.start
    assert second.launch == first.launch == first.start
    assert second.is_restart and not first.is_restart


def test_nobody_takes_a_killed_process_for_its_successor(places):
    """Ranks 2 and 3 of a start said hello, and were killed; so was rank 0, which had answered."""
    assert all(isinstance(error, RanksError) for error in met(places[2:], seconds=0.3))
    assert "only 1 of 4" in met(places[:1], seconds=0.3)[0].missing
    meetings = met(places)
    assert all(isinstance(found, Meeting) and found == meetings[0] for found in meetings)
    assert not meetings[0].missing and meetings[0].words[3] == {"rank": 3}


def test_who_did_not_come_is_told_to_all_who_did(places):
    zero, one, other = met([places[0], places[1], places[3]], seconds=1)
    assert zero == one == other
    assert zero.missing.startswith("only 3 of 4 ranks came within 1 seconds, and not 2:")
    (alone,) = met(places[1:2], seconds=0.3)
    assert "rank 0 did not answer at 127.0.0.1:" in str(alone)


def test_rank_0_serves_the_store_where_torchrun_has_none():
    port = free_port()
    places = [Place(rank, 2, rank, "127.0.0.1", port, has_store=False) for rank in range(2)]
    one, other = met(places)
    assert one == other and not one.is_restart and one.launch == one.start


def test_an_address_where_nobody_serves_is_named():
    place = Place(1, 2, 1, "127.0.0.1", free_port(), has_store=True)
    with pytest.raises(RanksError, match=r"rank 1 on \S+: 127\.0\.0\.1:\d+, where the"):
        connect(place, seconds=1)


def test_a_world_of_no_size_is_one_process_and_nonsense_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "")
    assert n_asked() == 1
    for nonsense in ("two", "0", "-1"):
        monkeypatch.setenv("WORLD_SIZE", nonsense)
        with pytest.raises(RanksError, match="in the environment, is no number: unset it"):
            n_asked()


def test_one_process_of_torchruns_knows_whether_it_is_a_restart(places, monkeypatch):
    for name, value in {
        "WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": places[0].port, "TORCHELASTIC_USE_AGENT_STORE": True,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    met = []
    for _ in range(2):
        with parallel.joined() as ranks:
            assert ranks.n == 1
            met.append(ranks.meeting)
    assert not met[0].is_restart and met[1].is_restart and met[1].launch == met[0].launch

    def nobody(*args, **more):
        raise RanksError("nobody is there: the environment is that of an ended torchrun")

    monkeypatch.setattr(parallel, "connect", nobody)
    with parallel.joined() as ranks:
        assert ranks is parallel.ALONE


# ---- as processes ----------------------------------------------------------------------------


def join_as(devices: list[str], n_gpus: int, seconds: float) -> int:
    """A rank that looks for the device of its number."""
    meeting.PATIENCE = seconds
    kind = devices[int(os.environ["RANK"])]
    meeting.find_device = lambda asked: torch.device(kind)
    torch.cuda.device_count, torch.cuda.set_device = lambda: n_gpus, lambda index: None
    with parallel.joined():
        return 0


def ended(tmp_path: Path, n: int, *arguments: object) -> tuple[list[int], list[str]]:
    processes = start_ranks(n, join_as, *arguments, log=tmp_path / "log")
    for process in processes:
        process.join(60)
        process.kill()
    texts = [path.read_text(errors="replace") for path in sorted(tmp_path.glob("log.*"))]
    return [process.exitcode for process in processes], "".join(texts).splitlines()


def test_what_speaks_against_beginning_is_told_once(tmp_path):
    codes, said = ended(tmp_path, 3, ["cuda", "cuda", "cuda"], 1, 20)
    assert codes == [1, 1, 1]
    assert len(said) == 1 and "rank 1 on" in said[0] and "has no GPU of its own" in said[0]
    assert said[0].endswith("--nproc-per-node 1 (and 1 more such faults)")


def test_ranks_of_two_kinds_do_not_begin(tmp_path):
    codes, said = ended(tmp_path, 2, ["cpu", "cuda"], 2, 20)
    assert codes == [1, 1] and len(said) == 1
    assert "rank 0 on" in said[0] and "has cpu and rank 1 on" in said[0]
