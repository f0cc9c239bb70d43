"""`scripts/train.py` as a person meets it: what it says, refuses, leaves, and goes on from."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpt.meeting import Meeting
from gpt.parallel import Ranks
from gpt.run_folder import RunFolderError
from gpt.tuning import _refuse_unless_shared
from tests.runs import Ended, assert_same_run, make_world, run_script

ROOT = Path(__file__).parents[1]
SMALL = [
    *("--from-scratch", "--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--n-ctx", "40"),
    *("--template", "plain", "--lr", "1e-2", "--device", "cpu", "--threads", "1"),
    *("--samples", "1", "--no-respond"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def arguments(world: Path, out: Path, *more: str, small=SMALL) -> list[str]:
    named = ["--model", str(world / "vocabulary"), "--data", str(world / "letters.json")]
    return [sys.executable, "scripts/train.py", *named, "--out", str(out), *small, *more]


def train(world: Path, out: Path, *more: str, small=SMALL) -> Ended:
    """The script in this process, which has torch imported already."""
    return run_script("train", *arguments(world, out, *more, small=small)[2:])


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    given = arguments(world, out, "--epochs", "3", "--save-every", "2", "--dropout", "0.1")
    ended = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    return out, ended


def test_a_run_tells_what_it_is_and_what_it_made(finished):
    out, ended = finished
    said = ended.stdout
    assert re.search(r"^model: new, [\d,]+ random weights", said, re.M)
    assert re.search(r"^device: cpu \(.*\); (fp32|bf16): \S", said, re.M)
    assert re.search(r"^\* lr +0.01\b", said, re.M) and re.search(r" patience +0$", said, re.M)
    assert "letters.json" in said and "train 44, validation 6, test 0 records" in said
    assert "capitals: in the loss" in said and "2 of the first batch's 8 examples" in said
    for name in ("best", "last", "loss.png", "samples.md", "metrics.jsonl", "run.json"):
        assert f"{out / name}: " in said and (out / name).exists()
    assert said.splitlines()[-1].startswith("next: python scripts/")
    assert (out / "loss.svg").exists()


def test_progress_in_a_file_is_lines_and_not_a_bar(finished):
    _, ended = finished
    assert "\r" not in ended.stderr
    last = [line for line in ended.stderr.splitlines() if line.startswith("step 18/18")]
    assert re.search(r"loss \d.*validation \d.*lr \d.*grad .*tok/s .*00:00 left", last[0])


def test_run_json_says_what_it_takes_to_do_it_again(finished):
    out, _ = finished
    told = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert told["settings"]["lr"] == 1e-2 and told["settings"]["validate_every"] == 2
    assert told["versions"]["torch"] and told["hardware"] and "commit" in told
    assert told["data"] == {
        "fingerprint": told["data"]["fingerprint"],
        "train": 44,
        "validation": 6,
        "test": 0,
        "train_tokens": told["data"]["train_tokens"],
    }
    assert told["ended"] == "finished" and told["result"]["step"] == told["steps"] == 18
    assert None not in [told["settings"][name] for name in ("lr", "save_every", "max_length")]


def test_transformers_opens_best_and_last(finished):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    out, _ = finished
    for name in ("best", "last"):
        model = transformers.AutoModelForCausalLM.from_pretrained(out / name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(out / name)
        prompt = [{"role": "user", "content": "What comes after c?"}]
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)
        assert model.config.vocab_size >= len(tokenizer) and len(ids["input_ids"]) > 5


def test_a_folder_that_holds_a_run_is_not_written_into_unasked(finished, world):
    out, _ = finished
    before = (out / "run.json").read_bytes()
    ended = train(world, out)
    assert ended.returncode == 1 and "is not empty" in ended.stderr and "--resume" in ended.stderr
    assert (out / "run.json").read_bytes() == before


def interrupted(world, out, *more, after, second=False):
    """Send SIGINT after so many lines of metrics."""
    command = arguments(world, out, *more)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8",
    ) as process:  # fmt: skip
        metrics = out / "metrics.jsonl"
        while process.poll() is None and (
            not metrics.exists() or metrics.read_bytes().count(b"\n") < after
        ):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        if second:
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_saves_says_how_to_go_on_and_going_on_gives_the_same_run(finished, world, tmp_path):
    whole, _ = finished
    out = tmp_path / "stopped"
    given = ("--epochs", "3", "--save-every", "2", "--dropout", "0.1")
    code, said, errors = interrupted(world, out, *given, after=4)
    if code == 0:
        pytest.skip("it was done before the signal came")
    assert code == 130, errors
    assert f"--out {out} --resume" in said and "Traceback" not in errors
    resumed = run_script("train", "--out", str(out), "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"^resumed after step \d+ of 18$", resumed.stdout, re.M)
    assert_same_run(out, whole)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_a_second_ctrl_c_quits_at_once(world, tmp_path):
    # Validation of a large batch that would take its time.
    code, _, errors = interrupted(
        world, tmp_path / "out", "--epochs", "5000", "--validate-every", "100000",
        after=3, second=True,
    )  # fmt: skip
    assert code == 130 and "Traceback" not in errors


def test_resuming_with_another_setting_is_refused_by_name(finished, world):
    out, _ = finished
    ended = train(world, out, "--resume", "--lr", "0.5", small=[])
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --lr 0.5: the run that is resumed has 0.01")


def test_resuming_on_other_data_is_refused(finished, world, tmp_path):
    out, _ = finished
    told = json.loads((out / "run.json").read_text(encoding="utf-8"))
    letters = world / "letters.json"
    before = letters.read_text(encoding="utf-8")
    try:
        letters.write_text(before.replace("after c?", "after cc?"), encoding="utf-8")
        ended = train(world, out, "--resume", small=[])
    finally:
        letters.write_text(before, encoding="utf-8")
    assert ended.returncode == 1 and "the data is not what the run began with" in ended.stderr
    assert told["data"]["fingerprint"] in ended.stderr


def test_a_damaged_checkpoint_is_named_and_the_best_model_offered(world, tmp_path):
    out = tmp_path / "run"
    assert train(world, out, "--max-steps", "4").returncode == 0
    path = out / "last" / "training.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)
    ended = train(world, out, "--resume", small=[])
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "training.safetensors: damaged" in ended.stderr
    assert f"--model {out / 'best'}" in ended.stderr
    anew = train(world, tmp_path / "new", "--max-steps", "2", "--model", str(out / "best"),
                 small=["--device", "cpu", "--threads", "1", "--no-respond"])  # fmt: skip
    assert anew.returncode == 0, anew.stderr
    assert "best, " in anew.stdout


def test_a_preflight_trains_nothing_and_leaves_the_folder_free(world, tmp_path):
    out = tmp_path / "run"
    ended = train(world, out, "--preflight")
    assert ended.returncode == 0 and "nothing was trained" in ended.stdout
    assert not out.exists()
    assert train(world, out, "--max-steps", "2").returncode == 0


def test_an_earlier_run_stays_until_the_one_that_replaces_it_begins(world, tmp_path):
    out = tmp_path / "run"
    assert train(world, out, "--max-steps", "2").returncode == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for fault in (["--data", "typo.json"], ["--preflight"], ["--max-length", "12"]):
        train(world, out, "--overwrite", "--max-steps", "3", *fault)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    own = ["--model", str(out / "best"), "--max-steps", "3", "--device", "cpu", "--no-respond"]
    ended = train(world, out, "--overwrite", *own, small=[])
    assert ended.returncode == 0, ended.stderr
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["steps"] == 3


REFUSED = {
    "a negative rate": (["--lr=-1"], "--lr must be above 0, not -1.0"),
    "no batch": (["--batch-size", "0"], "--batch-size must be at least 1"),
    "no number": (["--epochs", "two"], "argument --epochs: invalid float value: 'two'"),
    "an unknown name": (["--schedule", "cosin"], "--schedule cosin: did you mean cosine?"),
    "an unknown flag": (["--learning_rat", "1"], "there is no --learning_rat"),
    "a split of split data": (["--val-fraction", "0.2"], "--val-fraction would be ignored: each"),
    "records as text": (["--objective", "pretrain"], "--template would be ignored"),
    "an idle setting": (["--min-lr", "0.5", "--schedule", "constant"], "--min-lr would be ignored"),
    "no such device": (["--device", "cuda:7"], "--device cuda:7: this torch"),
    "no such template": (["--template", "alpacca"], "did you mean 'alpaca'"),
    "more tokens than context": (["--max-length", "41"], "more than this model's context of 40"),
    "an over-long record": (["--max-length", "12"], "records do not fit into 12 tokens"),
    "no such data": (["--data", "nowhere.json"], "nowhere.json"),
    "no such model": (["--model", "./nowhere"], "nowhere"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_fault_is_refused_in_a_line_before_any_work(world, tmp_path, fault):
    more, message = REFUSED[fault]
    ended = train(world, tmp_path / "run", *more)
    assert ended.returncode in (1, 2) and message in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "run").exists()


def test_an_empty_validation_set_is_refused(world, tmp_path):
    records = json.loads((world / "letters.json").read_text(encoding="utf-8"))
    for record in records:
        del record["split"]
    (tmp_path / "few.json").write_text(json.dumps(records[:4]), encoding="utf-8")
    ended = train(world, tmp_path / "run", "--data", str(tmp_path / "few.json"))
    assert ended.returncode == 1 and "validation has no examples" in ended.stderr


def test_a_vocabulary_that_does_not_fit_the_model_is_refused(world, finished, tmp_path):
    import shutil

    from gpt.tokenizer import learn_merges, tiny_vocabulary

    broken = tmp_path / "broken"
    shutil.copytree(finished[0] / "best", broken)
    text = "many more words than the model has ever had rows for in its embedding matrix of tokens"
    for name, content in tiny_vocabulary(learn_merges(text * 3, 70)).items():
        (broken / name).write_bytes(content)
    few = ["--device", "cpu", "--threads", "1"]
    ended = train(world, tmp_path / "run", "--model", str(broken), small=few)
    assert ended.returncode == 1 and "they do not belong together" in ended.stderr


def test_a_disk_without_room_is_refused_at_the_start(world, small_disk):
    ended = train(world, small_disk / "run", "--n-embd", "96")
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert re.search(r"needs [\d,]+ bytes, and [\d,]+ are free", ended.stderr)
    assert not (small_disk / "run" / "run.json").exists()


def test_a_disk_that_fills_up_in_the_midst_of_a_run_is_told_in_a_line(world, small_disk):
    from gpt import train as loop

    out = small_disk / "run"
    take_step = loop.take_step

    def and_fill(run, *arguments):
        if run.state.step == 3:
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
            (small_disk / "filler").write_bytes(bytes(free))
        return take_step(run, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", and_fill)
        ended = train(world, out, "--max-steps", "8", "--save-every", "4")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert re.search(r"^error: .*(No space|not saved: it needs [\d,]+ bytes)", ended.stderr, re.M)
    (small_disk / "filler").unlink()
    assert train(world, out, "--resume", small=[]).returncode == 0


def test_a_run_whose_last_is_gone_is_not_begun_again(world, tmp_path):
    import shutil

    out = tmp_path / "run"
    assert train(world, out, "--max-steps", "2").returncode == 0
    shutil.rmtree(out / "last")
    (out / "best" / "mine.txt").write_text("mine", encoding="utf-8")
    ended = train(world, out, "--resume", small=[])
    assert ended.returncode == 1 and "last/ is gone" in ended.stderr
    assert (out / "best" / "mine.txt").exists()


def test_a_run_goes_on_where_its_data_has_moved_to_and_tells_each_sitting(world, tmp_path):
    import shutil

    out, moved = tmp_path / "run", tmp_path / "elsewhere.json"
    assert train(world, out, "--max-steps", "2").returncode == 0
    shutil.copy(world / "letters.json", moved)
    ended = train(world, out, "--resume", "--data", str(moved), "--patience", "3", small=[])
    assert ended.returncode == 0, ended.stderr
    told = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert told["settings"]["data"] == [str(moved)] and told["settings"]["patience"] == 3
    assert [sitting["from_step"] for sitting in told["sittings"]] == [0, 2]


def test_two_processes_do_not_share_a_folder(world, tmp_path):
    from gpt.run_folder import locked

    with locked(tmp_path / "run"):
        ended = train(world, tmp_path / "run")
    assert ended.returncode == 1 and "another process is at work in it" in ended.stderr


def test_the_numbers_go_to_tensorboard_as_well(world, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is an extra")
    ended = train(world, tmp_path / "run", "--max-steps", "3", "--track", "tensorboard")
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_pretraining_reads_plain_text_and_its_model_can_be_tuned(world, tmp_path):
    pairs = zip("abcdefghij" * 40, "bcdefghijk" * 40, strict=True)
    lines = [f"The letter {a} comes before {b}." for a, b in pairs]
    text = "\n<|endoftext|>\n".join(lines)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    more = ["--objective", "pretrain", "--max-steps", "5", "--samples", "1"]
    small = [flag for flag in SMALL if flag not in ("--template", "plain", "--no-respond")]
    out = tmp_path / "base"
    ended = train(world, out, "--data", str(tmp_path / "text.txt"), *more, small=small)
    assert ended.returncode == 0, ended.stderr
    assert "400 documents" in ended.stdout
    assert not (out / "best" / "template.json").exists()  # a base has none
    tuned = train(world, tmp_path / "tuned", "--model", str(out), "--max-steps", "2",
                  small=["--template", "plain", "--device", "cpu", "--no-respond"])  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    assert (tmp_path / "tuned" / "best" / "template.json").exists()


def test_the_test_records_are_answered_at_the_end_and_the_report_is_written(world, tmp_path):
    records = json.loads((world / "letters.json").read_text(encoding="utf-8"))
    for record in records:
        del record["split"]
    (tmp_path / "some.json").write_text(json.dumps(records), encoding="utf-8")
    base = tmp_path / "base"
    data = ["--data", str(tmp_path / "some.json")]
    given = [*data, "--val-fraction", "0.1", "--test-fraction", "0.2", "--max-steps", "4"]
    small = [flag for flag in SMALL if flag != "--no-respond"]
    ended = train(world, base, *given, small=small)
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in (base / "responses.jsonl").open(encoding="utf-8")]
    assert len(rows) == 10 and not any("base_response" in row for row in rows)
    out = tmp_path / "tuned"
    few = ["--device", "cpu", "--threads", "1"]
    ended = train(world, out, *given, "--model", str(base), small=few)
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in (out / "responses.jsonl").open(encoding="utf-8")]
    assert len(rows) == 10 and all({"response", "base_response"} <= set(row) for row in rows)
    assert "exact match" in ended.stdout and f"{out / 'report.html'}: " in ended.stdout
    assert (out / "report.html").exists() and (out / "report.md").exists()
    assert ended.stdout.splitlines()[-1] == f"next: python scripts/chat.py --model {out}"


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys; sys.argv = ['train.py', '--help']; sys.path.insert(0, 'scripts')\n"
        "import atexit; atexit.register(lambda: print('torch' in sys.modules))\n"
        "import runpy; runpy.run_path('scripts/train.py', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout.endswith("False\n")
    assert "--micro-batch-size N" in ended.stdout


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs Unix")
def test_a_read_only_folder_is_named(world, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    tmp_path.chmod(0o500)
    ended = train(world, tmp_path / "run")
    assert ended.returncode == 1 and "Permission denied" in ended.stderr


def test_a_folder_of_the_same_name_on_another_machine_is_not_the_runs(tmp_path):
    class Second(Ranks):
        def wait(self):
            pass

    here = Second(rank=1, n=2, meeting=Meeting("57e0", "57e0", False, [], ""))
    mark = tmp_path / ".run.json.new"
    with pytest.raises(RunFolderError, match="is not seen from here: --out must be on a disk"):
        _refuse_unless_shared(tmp_path, here)
    mark.write_text("what a killed rank 0 left", encoding="utf-8")
    with pytest.raises(RunFolderError, match="is not seen from here"):
        _refuse_unless_shared(tmp_path, here)
    mark.write_text("57e0", encoding="utf-8")
    _refuse_unless_shared(tmp_path, here)
    _refuse_unless_shared(tmp_path, replace(here, rank=0))
    assert not mark.exists()  # as the first rank removes it
