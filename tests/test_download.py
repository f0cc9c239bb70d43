"""Fetching a model: what is right arrives, and nothing that is wrong is ever given to the loader.

The hub is `hub_server.py`, on this machine. Most tests call `find_model` in this process, with
huggingface_hub pointed at that server; what needs environment variables, a kill or a second process
runs `scripts/download.py`.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy
import pytest
from hub_server import Hub, change, drop, login_page, page_for_content, redirect, refuse
from safetensors.numpy import save

import gpt.download
import gpt.hub
from gpt.config import PUBLISHED, GPTConfig
from gpt.download import HUB, DownloadError, find_model, model_files
from gpt.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
NAME = "someone/tiny-gpt2"
WEIGHTS = "model.safetensors"


def tiny_model(kilobytes: int = 64) -> dict[str, bytes]:
    """A model's files. Nothing here loads them: the weights are as large as a test needs."""
    numbers = numpy.random.default_rng(0).integers(0, 255, kilobytes * 1024, dtype=numpy.uint8)
    config = GPTConfig(vocab_size=300, n_ctx=32, n_layer=1, n_head=1, n_embd=8).to_dict()
    return {
        "config.json": json.dumps(config).encode(),
        "vocab.json": b'{"<|endoftext|>": 0}',
        "merges.txt": b"#version: 0.2\n",
        WEIGHTS: save({"wte.weight": numbers}),
    }


MODEL = tiny_model()
NOT_OURS = {
    "README.md": b"#",
    "tf_model.h5": b"1",
    "onnx/decoder.onnx": b"2",
    "rust_model.ot": b"3",
}


@pytest.fixture
def hub():
    with Hub() as server:
        server.add(NAME, MODEL | NOT_OURS | {"pytorch_model.bin": b"older"})
        yield server


@pytest.fixture
def cache(tmp_path, hub, monkeypatch):
    """An empty cache, with this process's huggingface_hub pointed at it and at the server."""
    from huggingface_hub import constants, file_download

    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    for module in (constants, file_download):  # before 1.0 the latter had its own
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's own attempts
    return tmp_path / "home" / "hub"


def run(hub: Hub, home: Path, *args: str, **variables: str) -> subprocess.CompletedProcess:
    process = start(hub, home, *args, **variables)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(hub: Hub, home: Path, *args: str, **variables: str) -> subprocess.Popen:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "download.py"), *args],
        env=kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def error_of(name: str | Path = NAME, **options: bool) -> str:
    with pytest.raises(DownloadError) as caught:
        find_model(name, **options)
    message = str(caught.value)
    print(f"error: {message}")  # `pytest -rP` shows what a person would see
    assert "\n" not in message
    assert isinstance(caught.value, UserError)
    return message


def assert_nothing_to_load(hub: Hub) -> None:
    """What a failure left behind is never taken for the model."""
    hub.faults = {"*": refuse(500)}
    assert "HTTP 500" in error_of()


# ---- what is right arrives ------------------------------------------------------------------


def test_a_model_arrives_whole_and_nothing_else_does(hub, cache):
    folder = find_model(NAME)
    assert contents(folder) == MODEL
    assert set(model_files(folder)) == set(MODEL)
    asked = {path.rsplit("/", 1)[-1] for _, path, _ in hub.requests}
    assert not asked & {"README.md", "tf_model.h5", "decoder.onnx", "rust_model.ot"}
    assert not hub.asked_for("pytorch_model.bin")  # safetensors first


def test_sharded_weights_and_a_bin_file_arrive(hub, cache):
    shards = {
        "model-00001-of-00002.safetensors": b"one",
        "model-00002-of-00002.safetensors": b"two",
    }
    index = {"weight_map": dict(zip(("a", "b"), shards, strict=True))}
    small = {name: body for name, body in MODEL.items() if name != WEIGHTS}
    sharded = small | shards | {"model.safetensors.index.json": json.dumps(index).encode()}
    hub.add("someone/sharded", sharded)
    assert contents(find_model("someone/sharded")) == sharded
    hub.add("someone/old", small | {"pytorch_model.bin": b"pickled"})
    assert contents(find_model("someone/old")) == small | {"pytorch_model.bin": b"pickled"}


def test_an_adapter_arrives_with_what_it_has_of_its_own_and_no_base(hub, cache):
    ours = {
        "adapter_config.json": b"{}", "adapter_base.json": b"{}", "template.json": b"{}",
        "vocab.json": b"{}", "merges.txt": b"", "adapter_model.safetensors": b"numbers",
    }  # fmt: skip
    theirs = {"adapter_config.json": b"{}", "adapter_model.bin": b"pickled"}
    for name, files in (("someone/ours", ours), ("someone/theirs", theirs)):
        hub.add(name, files | NOT_OURS)
        folder = find_model(name)
        assert contents(folder) == files
        assert set(model_files(folder)) == set(files)
    n_requests = len(hub.requests)
    find_model("someone/ours")
    assert len(hub.requests) == n_requests
    hub.add("someone/half", {"adapter_config.json": b"{}"})
    assert "half an adapter" in error_of("someone/half")


def test_a_missing_shard_is_told(hub, cache):
    index = json.dumps({"weight_map": {"a": "gone.safetensors"}}).encode()
    small = {name: body for name, body in MODEL.items() if name != WEIGHTS}
    hub.add("someone/part", small | {"model.safetensors.index.json": index})
    assert "has no gone.safetensors" in error_of("someone/part")


def test_shards_are_names_and_never_paths(hub, cache):
    index = json.dumps({"weight_map": {"a": "../../../evil.safetensors"}}).encode()
    small = {name: body for name, body in MODEL.items() if name != WEIGHTS}
    hub.add("someone/evil", small | {"model.safetensors.index.json": index})
    assert "lists no files of weights" in error_of("someone/evil")


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub, cache):
    other = MODEL | {"merges.txt": b"#version: 0.2\na b\n"}
    commit = hub.add(NAME, other, revision="v2")
    assert contents(find_model(f"{NAME}@v2")) == other
    assert find_model(f"{NAME}@{commit}") == find_model(f"{NAME}@v2")
    assert contents(find_model(NAME)) == MODEL
    assert "no revision 'v3'" in error_of(f"{NAME}@v3")


def test_a_full_cache_is_used_with_no_request_until_a_refresh(hub, cache):
    first = find_model(NAME)
    hub.requests.clear()
    newer = MODEL | {"merges.txt": b"#version: 0.2\na b\n"}
    hub.add(NAME, newer)
    assert find_model(NAME) == first
    assert hub.requests == []
    assert contents(find_model(NAME, refresh=True)) == newer
    assert len(hub.asked_for(WEIGHTS)) == 0  # the same content, which is here


def test_a_cache_that_another_tool_has_filled_is_completed_and_checked(hub, cache):
    from huggingface_hub import hf_hub_download

    for name in ("config.json", WEIGHTS):
        hf_hub_download(NAME, name)
    hub.requests.clear()
    assert contents(find_model(NAME)) == MODEL
    assert not hub.asked_for(WEIGHTS)


def test_what_was_dropped_goes_on_where_it_stopped(hub, cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)  # the step
    hub.faults[WEIGHTS] = drop(after=20_000, times=2)
    assert contents(find_model(NAME)) == MODEL
    ranges = {headers.get("range") for headers in hub.asked_for(WEIGHTS)}
    assert {None, "bytes=20000-", "bytes=40000-"} <= ranges


def test_a_renamed_model_is_followed(hub, cache):
    hub.faults["*"] = redirect(lambda path: path.replace("/someone/old-name/", f"/{NAME}/"))
    assert contents(find_model("someone/old-name")) == MODEL


def test_a_published_name_is_pinned_in_revision_and_content(hub, cache, monkeypatch):
    source = HUB["gpt2"]
    hub.add(source.repo, MODEL, revision=source.revision)
    assert "vocab.json is damaged" in error_of("gpt2")  # whatever hash the hub itself claims
    for name, body in MODEL.items():
        monkeypatch.setitem(gpt.download._SHA256, name, hashlib.sha256(body).hexdigest())
    assert f"expected {gpt.download._SHA256['gpt2']}" in error_of("gpt2")
    own = hashlib.sha256(MODEL[WEIGHTS]).hexdigest()
    monkeypatch.setitem(gpt.download._SHA256, "gpt2", own)
    folder = find_model("gpt2")
    assert (folder.name, contents(folder)) == (source.revision, MODEL)


def test_pinned_hashes_are_those_of_openais_vocabulary():
    files = ROOT.parent / "shared" / "gpt2"
    if not files.is_dir():
        pytest.skip(f"OpenAI's encoder.json and vocab.bpe are not at {files}")
    for ours, theirs in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        found = hashlib.sha256((files / theirs).read_bytes()).hexdigest()
        assert found == gpt.download._SHA256[ours]
    assert list(HUB) == list(PUBLISHED)


# ---- what is wrong is refused ---------------------------------------------------------------

FAULTS = {
    "one wrong byte": (change(lambda body: body[:9] + bytes([body[9] ^ 1]) + body[10:]), "damaged"),
    "a short file": (change(lambda body: body[:-7]), "run again"),
    "a long file": (change(lambda body: body + b"more"), "run again"),
    "an empty file": (change(lambda body: b""), "run again"),
    "a page instead": (page_for_content, "run again"),
    "always dropped": (drop(after=10), "run again"),
    "401": (refuse(401), "hf auth login"),
    "403": (refuse(403), "hf auth login"),
    "gated": (refuse(403, "GatedRepo"), "asked first"),
    "404": (refuse(404, "RepoNotFound"), "no such model"),
    "429": (refuse(429), "too many requests"),
    "500": (refuse(500), "run again in some minutes"),
    "a login page": (login_page, "login page"),
    "redirected in circles": (redirect(lambda path: path + "?"), "HF_ENDPOINT"),
}


@pytest.mark.parametrize("file", ["config.json", WEIGHTS])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_is_told_and_never_loaded(hub, cache, fault, file):
    hub.faults[file], told = FAULTS[fault]
    if fault == "404" and file == WEIGHTS:
        hub.models[NAME]["main"][1].pop("pytorch_model.bin")
        told = "has no weights"
    message = error_of()
    assert told in message
    assert NAME in message
    assert_nothing_to_load(hub)
    hub.faults = {}  # and once it has passed, all is well
    assert contents(find_model(NAME)) == MODEL


def test_a_hub_that_is_not_there_is_told_with_what_to_fetch_by_hand(hub, cache):
    hub.vanish()
    message = error_of()
    assert f"https://huggingface.co/{NAME}/tree/main into a folder" in message
    assert "config.json, model.safetensors, vocab.json and merges.txt" in message


def test_a_hub_that_vanishes_midway_is_told(hub, cache):
    hub.faults[WEIGHTS] = drop(after=20_000, first=hub.vanish)
    assert "cannot be reached" in error_of()
    assert "cannot be reached" in error_of()


@pytest.mark.parametrize("file", [*MODEL])
def test_a_file_that_was_damaged_on_this_disk_is_refused(hub, cache, file):
    path = find_model(NAME) / file
    about = path.stat()
    damaged = bytearray(MODEL[file])
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # as if nobody had touched it
    hub.requests.clear()
    assert f"{file} is damaged" in error_of()
    assert hub.requests == []
    assert not path.exists()
    assert contents(find_model(NAME)) == MODEL  # fetched anew


def test_a_damaged_file_that_another_tool_has_fetched_is_refused(hub, cache):
    from huggingface_hub import hf_hub_download

    hub.faults[WEIGHTS] = FAULTS["one wrong byte"][0]
    for name in MODEL:
        hf_hub_download(NAME, name)
    assert "is damaged" in error_of()


def test_without_links_in_the_cache_all_the_same_is_refused(hub, cache, monkeypatch):
    name = "huggingface_hub.file_download.are_symlinks_supported"  # as on most Windows machines
    monkeypatch.setattr(name, lambda cache_dir=None: False)
    hub.faults[WEIGHTS] = FAULTS["one wrong byte"][0]
    assert "is damaged" in error_of()
    hub.faults = {}
    folder = find_model(NAME)
    assert contents(folder) == MODEL
    assert not any(path.is_symlink() for path in folder.iterdir())
    (folder / WEIGHTS).write_bytes(MODEL[WEIGHTS][:-1] + b"?")
    assert "is damaged" in error_of()
    assert contents(find_model(NAME)) == MODEL


def test_another_kind_of_model_is_refused_before_its_weights_come(hub, cache):
    hub.add("someone/llama", MODEL | {"config.json": b'{"model_type": "llama"}'})
    message = error_of("someone/llama")
    assert "not a GPT-2 that runs here: model_type is 'llama'" in message
    assert not hub.asked_for(WEIGHTS)


@pytest.mark.parametrize(
    ("without", "told"),
    [("config.json", "no config.json"), ("merges.txt", "no vocabulary"), (WEIGHTS, "no weights")],
)
def test_a_model_in_part_is_refused_by_what_is_missing(hub, cache, without, told):
    hub.add("someone/part", {name: body for name, body in MODEL.items() if name != without})
    assert told in error_of("someone/part")
    assert not hub.asked_for(WEIGHTS)


def test_names_that_are_none_get_a_suggestion(hub, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "did you mean gpt2-medium?" in error_of("gpt2-meduim")
    assert "did you mean gpt2-xl?" in error_of("GPT2-XL")
    for path in (
        "./nowhere",
        "/nowhere/at/all",
        "runs/",
        "a/b/c",
        "..",
        "x" * 5000,
        "",
        "~",
        "a\0b",
    ):
        assert "folder" in error_of(path)
    assert hub.requests == []
    assert "no such model on the hub" in error_of("someone/mistyped")
    assert "no name of a model" in error_of("someone/tiny--gpt2")
    assert "Repo id" in error_of("someone/" + "x" * 200)


# ---- folders on this disk -------------------------------------------------------------------


def test_a_local_folder_is_taken_as_it_is(hub, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, file in (
        ("mine", "config.json"),
        ("run/best", "config.json"),
        ("gpt2/355M", "model.ckpt.index"),
        (NAME, "config.json"),
    ):
        Path(folder).mkdir(parents=True)
        Path(folder, file).touch()
    assert find_model("mine") == Path("mine")
    assert find_model(tmp_path / "mine") == tmp_path / "mine"
    assert find_model("run") == Path("run/best")
    assert find_model("gpt2/355M") == Path("gpt2/355M")
    assert find_model(NAME) == Path(NAME)
    assert "is a file" in error_of("mine/config.json")
    assert "did you mean someone/tiny-gpt2?" in error_of("someone")
    assert hub.requests == []
    assert "no such model" in error_of("gpt2")  # our folder of that name is not the model


def test_a_mistyped_folder_that_could_be_a_name_gets_a_suggestion(
    hub, cache, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("checkpoints/mini").mkdir(parents=True)
    Path("checkpoints/mini/config.json").touch()
    message = error_of("checkpoints/mni")
    assert f"did you mean the folder {Path('checkpoints/mini')}?" in message


def test_a_folder_round_a_model_is_told_from_it(tmp_path):
    (tmp_path / "355M").mkdir()
    (tmp_path / "355M" / "model.ckpt.index").touch()
    assert f"did you mean {tmp_path / '355M'}?" in error_of(tmp_path)


def test_openais_folder_is_copied_with_all_that_it_takes_to_load_it(tmp_path):
    given = tmp_path / "124M"
    given.mkdir()
    names = ["hparams.json", "encoder.json", "vocab.bpe", "checkpoint", "model.ckpt.index"]
    names.append("model.ckpt.data-00000-of-00001")
    for name in [*names, "notes.txt"]:
        (given / name).write_text(name, encoding="utf-8")
    command = [sys.executable, "scripts/download.py", str(given), "--out", str(tmp_path / "copy")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(names)


# ---- the disk -------------------------------------------------------------------------------


def test_a_disk_too_small_is_told_before_the_weights_are_fetched(
    hub, cache, small_disk, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(small_disk))
    large = tiny_model(kilobytes=1500)
    hub.add("someone/large", large)
    message = error_of("someone/large")
    assert f"needs {sum(map(len, large.values())) - len(large['config.json']):,} bytes" in message
    assert "free" in message
    assert str(small_disk) in message
    assert "HF_HOME" in message
    assert not hub.asked_for(WEIGHTS)


def test_a_disk_that_fills_up_midway_is_told_and_once_it_has_room_all_is_well(
    hub, cache, small_disk, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(small_disk))
    large = tiny_model(kilobytes=1500)
    hub.add("someone/large", large)
    monkeypatch.setattr(gpt.hub, "_require_space", lambda *args: None)
    message = error_of("someone/large")
    assert "the disk is full" in message
    assert "HF_HOME" in message
    assert "the disk is full" in error_of("someone/large")
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    assert contents(find_model("someone/large")) == large


def test_a_cache_that_may_not_be_written_is_read_and_told(hub, cache, tmp_path, small_disk):
    from huggingface_hub import constants

    constants.HF_HUB_CACHE = str(small_disk)  # the fixture `cache` puts it back
    folder = find_model(NAME)
    shutil.rmtree(folder.parents[1] / ".verified")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert contents(find_model(NAME)) == MODEL
    hub.add("someone/other", MODEL)
    assert "HF_HOME" in error_of("someone/other")


# ---- processes ------------------------------------------------------------------------------


def test_the_script_fetches_and_copies(hub, tmp_path):
    done = run(hub, tmp_path / "home", NAME, "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, str(tmp_path / "out"))
    assert f"{len(MODEL[WEIGHTS]):,}  {WEIGHTS}" in done.stdout
    assert contents(tmp_path / "out") == MODEL
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    to_come = sum(map(len, MODEL.values())) - len(MODEL["config.json"])
    assert f"fetching {to_come:,} bytes" in done.stderr
    again = run(hub, tmp_path / "home", NAME, "--out", str(tmp_path / "out"))
    assert again.returncode == 1
    assert "give another --out" in again.stderr


def test_a_full_cache_needs_no_network(hub, tmp_path):
    assert run(hub, tmp_path, NAME).returncode == 0
    hub.requests.clear()
    assert run(hub, tmp_path, NAME, HF_HUB_OFFLINE="1").returncode == 0
    hub.vanish()
    assert run(hub, tmp_path, NAME).returncode == 0
    assert hub.requests == []


def test_offline_with_an_empty_cache_is_told(hub, tmp_path):
    done = run(hub, tmp_path, NAME, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {NAME}: ")
    assert "HF_HUB_OFFLINE" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert hub.requests == []


def test_a_token_is_for_the_hub_and_not_for_where_it_redirects_to(hub, tmp_path):
    assert run(hub, tmp_path, NAME, HF_TOKEN="hf_secret").returncode == 0
    sent = {path: headers.get("authorization") for _, path, headers in hub.requests}
    to_hub = {value for path, value in sent.items() if "/resolve/" in path}
    to_cdn = {value for path, value in sent.items() if path.startswith("/cdn/")}
    assert (to_hub, to_cdn) == ({"Bearer hf_secret"}, {None})


def test_an_endpoint_that_is_none_is_told(hub, tmp_path):
    for endpoint in ("nonsense", "http://", "http://127.0.0.1:notaport", "ftp://127.0.0.1"):
        done = run(hub, tmp_path, NAME, HF_ENDPOINT=endpoint)
        assert done.returncode == 1, endpoint
        assert "Traceback" not in done.stderr
        assert "HF_ENDPOINT" in done.stderr


def test_help_and_list_are_quick_and_wrong_usage_exits_2(hub, tmp_path):
    start_of_test = time.perf_counter()
    assert "HF_HOME" in run(hub, tmp_path, "--help").stdout
    assert "1,557,611,200" in run(hub, tmp_path, "--list").stdout
    assert time.perf_counter() - start_of_test < 4  # 0.2 s on a free machine
    assert run(hub, tmp_path, "--lst").returncode == 2
    assert run(hub, tmp_path).returncode == 2
    assert hub.requests == []


@pytest.mark.parametrize("sent", [0, 300_000])
def test_a_killed_download_leaves_nothing_to_load_and_the_next_completes_it(hub, tmp_path, sent):
    model = tiny_model(kilobytes=1000)
    hub.add(NAME, model)
    reached, killed = threading.Event(), threading.Event()

    def wait() -> None:
        reached.set()
        killed.wait(60)

    hub.faults[WEIGHTS] = drop(after=sent, times=1, first=wait)
    process = start(hub, tmp_path, NAME)
    assert reached.wait(60)
    process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    process.communicate()
    killed.set()
    offline = run(hub, tmp_path, NAME, HF_HUB_OFFLINE="1")
    assert (offline.returncode, "HF_HUB_OFFLINE" in offline.stderr) == (1, True)
    done = run(hub, tmp_path, NAME)
    assert done.returncode == 0, done.stderr
    assert contents(Path(done.stdout.splitlines()[-1])) == model


def test_two_processes_that_want_the_same_model_both_get_it(hub, tmp_path):
    hub.add(NAME, model := tiny_model(kilobytes=4000))
    processes = [start(hub, tmp_path, NAME) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert contents(Path(out.splitlines()[-1])) == model


@pytest.mark.slow
def test_kills_at_any_moment_never_leave_anything_wrong(hub, tmp_path):
    hub.add(NAME, model := tiny_model(kilobytes=2000))
    for round_number in range(30):
        process = start(hub, tmp_path, NAME)
        time.sleep(0.2 + 0.02 * round_number)
        process.kill()
        process.communicate()
        offline = run(hub, tmp_path, NAME, HF_HUB_OFFLINE="1")
        if offline.returncode == 0:
            assert contents(Path(offline.stdout.splitlines()[-1])) == model
            shutil.rmtree(tmp_path / "hub")
    assert run(hub, tmp_path, NAME).returncode == 0
