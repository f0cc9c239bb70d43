"""What TensorBoard shows of a run is what its metrics.jsonl says, each point once."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from gpt.metrics_file import KEYS
from gpt.tracking import TAGS, TensorBoard, TrackingError

ROOT = Path(__file__).parents[1]


def a_line(step: int) -> dict:
    line = {"step": step, "epoch": step / 8, "tokens": 450 * step, "train_loss": 2 / (step + 1)}
    return line if step % 3 else line | {"val_loss": 1 / (step + 1)}


@pytest.fixture
def tensorboard():
    """TensorBoard's own reader."""
    why = "TensorBoard is an extra: pip install tensorboard"
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason=why
    )

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        events = accumulator.EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        return {
            tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }

    return read


def expected(lines: list[dict]) -> dict[str, list]:
    """Each curve, as exact as 32 bits can be."""
    return {
        TAGS[key]: [(line["step"], pytest.approx(line[key])) for line in lines if key in line]
        for key in ("epoch", "tokens", "train_loss", "val_loss")
    }


def test_every_number_of_every_line_is_there(tmp_path, tensorboard):
    lines = [a_line(step) for step in range(10)]
    board = TensorBoard(tmp_path)
    for line in lines:
        board.log(line)
    board.close()
    assert tensorboard(tmp_path) == expected(lines)


def test_a_resumed_run_leaves_no_point_missing_or_twice(tmp_path, tensorboard):
    killed = TensorBoard(tmp_path)
    for step in range(10):
        killed.log(a_line(step) | {"train_loss": -1.0 if step > 6 else a_line(step)["train_loss"]})
    resumed = TensorBoard(tmp_path, last_step=6)  # with no close before: it was killed
    for step in range(7, 14):
        resumed.log(a_line(step))
    resumed.close()
    assert tensorboard(tmp_path) == expected([a_line(step) for step in range(14)])


def test_a_line_is_there_when_log_returns(tmp_path, tensorboard):
    board = TensorBoard(tmp_path)
    for step in range(3):
        board.log(a_line(step))
        assert tensorboard(tmp_path)["loss/training"][-1][0] == step
    board.close()


def test_what_is_no_number_is_shown_as_that_and_what_was_not_measured_is_not(tmp_path, tensorboard):
    board = TensorBoard(tmp_path)
    board.log({"step": 1, "train_loss": math.nan, "val_loss": None, "note": "mine", "extra": 2})
    board.close()
    read = tensorboard(tmp_path)
    assert sorted(read) == ["extra", "loss/training"]
    assert math.isnan(read["loss/training"][0][1])


def test_every_key_of_the_metrics_has_a_curve_of_its_own():
    assert {*TAGS, "step"} == set(KEYS)
    assert len(set(TAGS.values())) == len(TAGS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its writer's
def test_a_full_disk_ends_the_mirror_and_not_the_run(small_disk, tensorboard):
    said = []
    board = TensorBoard(small_disk, say=said.append)
    board.log(a_line(1))
    (small_disk / "ballast").write_bytes(bytes(2**20 - 4 * 4096))
    for step in range(2, 2000):
        board.log(a_line(step))
    board.close()
    assert len(said) == 1 and "tensorboard: no more is written: No space left" in said[0]
    assert tensorboard(small_disk)["loss/training"][0][0] == 1


def test_without_tensorboard_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrackingError) as error:
        TensorBoard(tmp_path)
    assert str(error.value).endswith("pip install tensorboard") and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra: pip install tensorboard")
    (tmp_path / "tensorboard").write_text("a file", encoding="utf-8")
    with pytest.raises(TrackingError, match="tensorboard: not written"):
        TensorBoard(tmp_path)


def test_nothing_is_imported_before_it_is_asked_for():
    code = "import sys, gpt.tracking; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
