"""What a machine is given, and why; and what is memory that ran out, and what only sounds so."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gpt import hardware
from gpt.hardware import (
    KERNELS_KEPT,
    Features,
    HardwareError,
    Precision,
    choose_precision,
    describe,
    features_of,
    find_device,
    is_out_of_memory,
    peak_memory,
)
from gpt.setting_rules import check
from gpt.settings import TrainSettings

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
H100 = Features("cuda", "H100", (9, 0))
A100 = Features("cuda", "A100", (8, 0))
T4 = Features("cuda", "T4", (7, 5))
V100 = Features("cuda", "V100", (7, 0))
GTX = Features("cuda", "GTX 1080", (6, 1))
MPS = Features("mps", "M3")
AMX = Features("cpu", "a CPU with AMX", native_bf16=True)
AVX2 = Features("cpu", "a CPU with AVX2")


# ---- precision -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "name", "reason"),
    [
        (Features("cuda", "B200", (10, 0)), "bf16", "10.0"),
        (H100, "bf16", "9.0"),
        (Features("cuda", "RTX 30", (8, 6)), "bf16", "8.6"),
        (A100, "bf16", "8.0"),
        (T4, "fp16", "7.5 has no bf16; gradients are scaled"),
        (V100, "fp16", "7.0 has no bf16"),
        (GTX, "fp32", "6.1"),
        (MPS, "fp32", "safe"),
        (AMX, "bf16", "natively"),
        (AVX2, "fp32", "emulates"),
    ],
)
def test_the_hardware_decides_the_precision_and_the_reason_is_said(features, name, reason):
    precision = choose_precision("auto", features)
    assert precision.name == name and reason in precision.reason
    assert precision.needs_scaler == (name == "fp16")


@pytest.mark.parametrize("asked", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("features", [H100, A100, T4, V100, GTX, MPS, AMX, AVX2])
def test_what_is_asked_for_is_given_or_refused_with_what_to_take(features, asked):
    on_cuda = features.device_type == "cuda"
    too_old = asked == "bf16" and on_cuda and features.capability < (8, 0)
    if too_old or (asked == "fp16" and not on_cuda):
        with pytest.raises(HardwareError, match=f"--precision {asked}: .* take ") as caught:
            choose_precision(asked, features)
        assert "\n" not in str(caught.value)
    else:
        assert choose_precision(asked, features) == Precision(asked, "as asked")


def test_only_matrix_products_are_rounded_and_only_inside_the_block():
    a, b = torch.randn(4, 8), torch.randn(8, 4)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        precision = Precision(name, "")
        assert precision.dtype == dtype
        with precision.autocast(CPU):
            assert (a @ b).dtype == dtype
            assert (a + 1).dtype == a.dtype == torch.float32
        assert (a @ b).dtype == torch.float32


# ---- devices -------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this one a machine with so many GPUs."""

    def make(n_cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return make


def test_auto_is_the_fastest_kind_that_is_here(machine):
    for has, expected in (((0, False), "cpu"), ((0, True), "mps"), ((2, True), "cuda")):
        machine(*has)
        assert find_device("auto") == torch.device(expected)


def test_a_device_that_is_here_is_taken(machine):
    machine(2, mps=True)
    for name in ("cpu", "mps", "cuda", "cuda:0", "cuda:1"):
        assert find_device(name) == torch.device(name)


def test_a_gpu_that_is_not_here_is_refused_with_how_many_there_are(machine):
    for n, name, found in (
        (0, "cuda", "0 CUDA devices"),
        (0, "cuda:0", "0 CUDA devices"),
        (1, "cuda:1", "1 CUDA device"),
        (2, "cuda:2", "2 CUDA devices"),
        (2, "cuda:100", "2 CUDA devices"),
    ):
        machine(n)
        with pytest.raises(HardwareError) as caught:
            find_device(name)
        assert str(caught.value).startswith(f"--device {name}: ")
        assert str(caught.value).endswith(f" sees {found}")


def test_mps_that_is_not_here_is_refused(machine):
    machine()
    with pytest.raises(HardwareError, match="--device mps: there is none"):
        find_device("mps")


@pytest.mark.parametrize(
    "name",
    ["gpu", "0", "cuda:", "cuda:-1", "cuda:99999999999999999999", "meta", "xpu", "CUDA", "ü", " "],
)
def test_a_name_of_no_device_lists_those_there_are(machine, name):
    machine(1, mps=True)
    with pytest.raises(HardwareError, match="there are auto, cpu, cuda, cuda:1 and mps$"):
        find_device(name)


def test_what_the_settings_accept_as_a_device_is_understood_here(machine):
    machine(2, mps=True)
    for name in ("auto", "cpu", "mps", "cuda", "cuda:1"):
        check(TrainSettings(device=name))
        find_device(name)


def test_this_cpu_is_described_with_its_threads():
    features = features_of(CPU)
    assert features.device_type == "cpu" and features.name and features.capability is None
    told = describe(CPU)
    assert told.startswith(features.name) and f"{torch.get_num_threads()} of " in told


@pytest.mark.parametrize(
    ("vendor", "processor", "expected"),
    [
        ("AuthenticAMD", "x86_64", True),
        ("GenuineIntel", "x86_64", False),
        ("", "AMD64 Family 25 Model 33 Stepping 2, AuthenticAMD", True),  # Windows
        ("", "Intel64 Family 6 Model 167 Stepping 1, GenuineIntel", False),
        ("", "arm", False),
    ],
)
def test_who_made_the_cpu_is_what_the_system_says(monkeypatch, vendor, processor, expected):
    monkeypatch.setattr(hardware, "_told_of_cpu", {"vendor_id": vendor}.get)
    monkeypatch.setattr(platform, "processor", lambda: processor)
    assert hardware.is_amd.__wrapped__() is expected


def test_a_gpu_is_described_by_name_and_size(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "T4")
    about = SimpleNamespace(total_memory=15_800_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    assert features_of(torch.device("cuda")) == T4
    assert describe(torch.device("cuda")) == "T4, 16 GB"


# ---- memory --------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="nothing counts it there")
def test_peak_memory_is_in_bytes_and_holds_what_was_used():
    held = torch.ones(25_000_000)  # 100 MB, written
    peak = peak_memory(CPU)
    assert held.numel() * 4 < peak < 2**44
    del held
    assert peak_memory(CPU) >= peak


def test_memory_that_ran_out_on_this_cpu_is_known_as_that():
    for allocate in (
        lambda: torch.empty(2**50),
        lambda: torch.zeros(2**30, 2**20),
        lambda: torch.ones(1).expand(2**50).clone(),
        lambda: bytearray(2**62),
    ):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value), caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.0 GB, max allowed: 18.13 GB)"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_so_is_that_of_other_devices_and_systems(error):
    assert is_out_of_memory(error)


def test_what_is_wrong_in_another_way_is_not_taken_for_it():
    for fail in (
        lambda: torch.zeros(2) @ torch.zeros(3),
        lambda: torch.zeros(2)[5],
        lambda: torch.zeros(2, requires_grad=True).backward(),
        lambda: torch.zeros(6).view(4, -1),
        lambda: torch.full((), float("nan")).to("nowhere"),
    ):
        with pytest.raises((RuntimeError, IndexError)) as caught:
            fail()
        assert not is_out_of_memory(caught.value)
    for error in (
        ValueError("out of memory"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        KeyboardInterrupt("out of memory"),
    ):
        assert not is_out_of_memory(error)


def test_the_chapter_shows_each_kind_of_hardware(capsys):
    hardware._demo()
    told = capsys.readouterr().out
    assert all(word in told for word in ("bf16:", "fp16:", "fp32:", "take fp16"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is for glibc's malloc")
def test_freed_memory_stays_with_the_process():
    """In a process of its own, as it is for good: as in a training step, blocks of many sizes are
    made and then freed together, and made again."""
    code = """
import resource, sys
from gpt.hardware import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(2**20 * n) for n in (16, 3, 8, 5, 1, 8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
step()
print(sum(step() for _ in range(4)))
"""
    n = {
        way: int(subprocess.run([sys.executable, "-c", code, way], check=True, cwd=ROOT,
                                capture_output=True, text=True).stdout)
        for way in ("kept", "not kept")
    }  # fmt: skip
    assert n["kept"] < n["not kept"] / 4


def in_environment(code: str, asked: dict[str, str]) -> str:
    environment = {
        key: value for key, value in os.environ.items() if key not in KERNELS_KEPT
    } | asked
    ended = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment,
                           capture_output=True, text=True)  # fmt: skip
    return ended.stdout.strip()


@pytest.mark.parametrize("asked", [{}, dict.fromkeys(KERNELS_KEPT, "7")])
def test_kernels_of_shapes_that_went_by_are_not_to_be_kept_unless_somebody_asks_for_it(asked):
    code = f"import os, gpt.hardware; print(*(os.environ[name] for name in {list(KERNELS_KEPT)}))"
    assert in_environment(code, asked) == " ".join((KERNELS_KEPT | asked).values())


@pytest.mark.skipif(
    not (hardware.has_amx() and sys.platform.startswith("linux")),
    reason="oneDNN has other kernels where a CPU has no AMX",
)
def test_products_of_ever_new_shapes_take_far_less_memory_where_few_kernels_are_kept():
    code = """
import torch
from benchmarks.workers import forget_peak, peak_memory

weight = torch.randn(768, 3072, dtype=torch.bfloat16)

def step(n):
    x = torch.randn(n, 768, dtype=torch.bfloat16)
    y = x @ weight
    x.T @ y, y @ weight.T

step(600)
forget_peak(torch.device("cpu"))
before = peak_memory(torch.device("cpu"))
for n in range(520, 600):
    step(n)
print(peak_memory(torch.device("cpu")) - before)
"""
    grown = int(in_environment(code, {}))
    for name in KERNELS_KEPT:
        assert grown < int(in_environment(code, {name: "1024"})) / 2, name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says")
def test_free_memory_is_what_the_tightest_limit_leaves(monkeypatch, tmp_path):
    import resource

    free = hardware.free_memory()
    assert 0 < free < 2**45
    most, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(hardware, "_OF_A_CONTAINER", ((most, used),))
    used.write_text("600000\n")
    for limit, left in (("max\n", free), ("1000000\n", 400_000), ("500000\n", 0)):
        most.write_text(limit)
        assert hardware.free_memory() == pytest.approx(left, rel=0.5)
    most.unlink()
    size = int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0]) * 1024
    monkeypatch.setattr(resource, "getrlimit", lambda which: (size + 10**6, -1))
    assert hardware.free_memory() == pytest.approx(10**6, abs=10**5)
