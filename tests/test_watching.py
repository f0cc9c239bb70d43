"""What a watch makes of what the ranks say, and whose fault an error is."""

import errno

import pytest
import torch.distributed as dist

from gpt import watching
from gpt.errors import UserError
from gpt.pieces import PiecesError
from gpt.watching import Watch, is_collateral


class Ranks:
    """Three of them, as a watch hears of them second by second."""

    def __init__(self) -> None:
        store = dist.HashStore()
        self.watches = [Watch(store, rank, 3) for rank in range(3)]
        self.now = self.watches[0]._moved

    def hear(self, seconds: int, at_work: tuple[int, ...] = ()) -> str | None:
        """The first fault that rank 0 finds in so many seconds."""
        for _ in range(seconds):
            self.now += 1
            for rank, watch in enumerate(self.watches):
                watch._works += rank in at_work
                watch._tell()
            first = self.watches[0]
            first._told, first._heard = first._all_told(), [self.now] * 3
            if fault := first._fault(self.now):
                return fault
        return None

    def pass_on(self, *ranks: int) -> None:
        for rank in ranks:
            self.watches[rank].progress += 1


@pytest.fixture
def ranks():
    ranks = Ranks()
    assert ranks.hear(3) is None
    return ranks


def test_who_is_idle_while_others_wait_is_named_within_a_minute(ranks):
    ranks.pass_on(0, 2)  # they wait, and one of them in a busy way
    fault = ranks.hear(60, at_work=(2,))
    assert fault.startswith("rank 1 on ") and "no progress for 4" in fault
    assert fault.endswith(", and the others wait")


def test_who_is_at_work_is_waited_for(ranks):
    ranks.pass_on(0, 2)
    assert ranks.hear(3000, at_work=(1,)) is None
    assert "rank 1 on" in ranks.hear(60)  # and then at work no more


def test_all_that_are_idle_are_found_as_well(ranks):
    ranks.pass_on(0, 1, 2)
    assert "all 3 ranks: no progress" in ranks.hear(60)


def test_a_disk_may_be_waited_for_longer(ranks):
    with ranks.watches[0].patient("saving"), ranks.watches[1].patient("saving"):
        ranks.pass_on(1, 2)
        ranks.pass_on(2)
        assert ranks.hear(290) is None
        fault = ranks.hear(60)
        assert fault.startswith("rank 0 on") and "in saving" in fault


def test_who_had_less_to_do_alone_is_not_behind(ranks):
    ranks.pass_on(1, 2)  # they wait, with fewer answers given than the first rank will have
    ranks.watches[0].alone += 1000
    assert ranks.hear(3000, at_work=(0,)) is None
    assert "rank 0 on" in ranks.hear(60)
    ranks.watches[0].alone += 1  # is a sign of life, if the only one
    assert ranks.hear(40) is None


def test_a_model_may_be_fetched_slowly(ranks):
    with ranks.watches[0].unhurried("fetching a model"):
        ranks.pass_on(1, 2)
        ranks.pass_on(1, 2)
        assert ranks.hear(3000) is None
    assert "rank 0 on" in ranks.hear(60)


def test_where_the_store_is_gone_with_whoever_has_spoken_nobody_speaks_again():
    class Gone(dist.HashStore):
        def add(self, *args):
            raise RuntimeError("Connection reset by peer")

        check = add

    watch = Watch(Gone(), 1, 2)
    assert not watch._is_said_within(0.1) and watch._may_speak("lost the other ranks")
    watch._others_failed = True
    assert watch._is_said_within(0.1) and not watch._may_speak("lost the other ranks")


def test_a_step_stands_still_only_so_long_even_at_work(ranks):
    inside = [watch.hurried("a step") for watch in ranks.watches]
    for step in inside:
        step.__enter__()
    assert ranks.hear(2) is None
    ranks.pass_on(0, 2)
    fault = ranks.hear(60, at_work=(0, 1, 2))
    assert fault.startswith("rank 1 on") and "no progress for 41 seconds in a step" in fault


def test_a_step_may_take_five_times_the_longest_before_it(ranks):
    ranks.watches[0].expect(20.0)
    inside = [watch.hurried("a step") for watch in ranks.watches]
    for step in inside:
        step.__enter__()
    ranks.hear(1)
    assert ranks.hear(95, at_work=(1,)) is None
    assert "no progress for 101 seconds" in ranks.hear(10, at_work=(1,))


def test_a_rank_of_which_nothing_was_ever_heard_is_named():
    store = dist.HashStore()
    watch = Watch(store, 0, 2)
    watch._tell()
    watch._told, now = watch._all_told(), watch._moved
    watch._heard[0] = now + watching.SILENT
    assert watch._told[1] == "" and watch._fault(now + 5) is None
    assert watch._fault(now + watching.SILENT + 1).startswith("rank 1 on ?: no sign of life")


def chained(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def test_an_error_follows_from_anothers_end_only_if_a_connection_broke():
    broken = RuntimeError(
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"
    )
    assert is_collateral(broken)
    assert is_collateral(chained(UserError("out of memory?"), broken))
    assert is_collateral(dist.DistNetworkError("Failed to recv"))
    assert is_collateral(RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1275"))
    # Words of a user's, and faults of one's own:
    assert not is_collateral(UserError("/data/gloo/nccl.json: not found"))
    assert not is_collateral(RuntimeError("No such file or directory: /data/gloo/mine"))
    assert not is_collateral(ValueError("broken pipe"))
    assert not is_collateral(None)


def test_of_pieces_the_rank_whose_disk_is_full_is_at_fault():
    from torch.distributed.checkpoint.api import CheckpointException

    from gpt.pieces import _told

    full = OSError(errno.ENOSPC, "No space left on device")
    broken = RuntimeError("gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    both = CheckpointException("", {2: (full, None), 0: (broken, None)})
    assert not is_collateral(chained(PiecesError("last"), both))
    only_broken = CheckpointException("", {0: (broken, None)})
    assert is_collateral(chained(PiecesError("last"), only_broken))
    alone = CheckpointException("", {0: (full, None)})
    assert _told(alone) == "[Errno 28] No space left on device"  # where there are no ranks
