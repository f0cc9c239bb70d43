"""What the machine can do, and what a run makes of it: device, precision, memory.

The choice of precision is made by what the hardware multiplies natively, and said with its reason:

    bf16    GPUs from compute capability 8.0 (A100, RTX 30) and CPUs with AVX512-BF16 or AMX. It has
            the range of fp32 and three digits, so nothing can overflow that would not in fp32.
    fp16    GPUs of 7.x (V100, T4), which have no bf16. Its smallest number is 6e-8, and gradients
            are smaller: they are scaled up before the way back and down after it.
    fp32    everything else. A CPU without native bf16 emulates it, a hundred times slower.

Whatever is chosen, the weights, the optimizer and the loss stay fp32, and only matrix products are
rounded (autocast): an update is often a thousandth of a weight, which bf16 would round away.

    python -m gpt.hardware      # this machine, and what others would be given
"""

import contextlib
import os
import platform
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from gpt.cli import run
from gpt.errors import UserError

_DEVICES = "there are auto, cpu, cuda, cuda:1 and mps"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_KEEP = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))
_CGROUP = Path("/sys/fs/cgroup")  # as a container sees its own: version 2, and version 1
_OF_A_CONTAINER = (
    (_CGROUP / "memory.max", _CGROUP / "memory.current"),
    (_CGROUP / "memory/memory.limit_in_bytes", _CGROUP / "memory/memory.usage_in_bytes"),
)
# oneDNN, which multiplies bf16 on a CPU, keeps what it has made for each shape that it met, and so
# does what torch has in front of it: 1,024 of them each, with memory to work in, 77 MB more with
# each step of 124M whose lengths are new. Those of a step are some 25. More of them, whose lengths
# seldom come again, gain little, and 64 in front take memory again (docs/experiments.md). Both ask
# for these numbers when they first multiply.
KERNELS_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32", "LRU_CACHE_CAPACITY": "4"}
for _name, _n in KERNELS_KEPT.items():
    os.environ.setdefault(_name, _n)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class HardwareError(UserError):
    """A device that is not here, or cannot do what is asked of it."""


@dataclass(frozen=True)
class Precision:
    name: str  # fp32, bf16 or fp16
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.name]

    @property
    def needs_scaler(self) -> bool:
        return self.name == "fp16"

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """A block in which matrix products are computed so."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.dtype)


class Features(NamedTuple):
    """What decides the precision."""

    device_type: str  # cpu, cuda or mps
    name: str
    capability: tuple[int, int] | None = None  # of an NVIDIA GPU
    native_bf16: bool = False  # of a CPU


def find_device(asked: str) -> torch.device:
    """The device that is asked for; for `auto` the fastest kind that is here."""
    has_mps = torch.backends.mps.is_available()
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise HardwareError(f"--device {asked}: {_DEVICES}") from None
    if device.type == "cuda":
        n = torch.cuda.device_count()
        if (device.index or 0) >= n:
            found = f"{n} CUDA device{'s' * (n != 1)}"
            raise HardwareError(f"--device {asked}: this torch ({torch.__version__}) sees {found}")
    elif device.type == "mps" and not has_mps:
        raise HardwareError(f"--device {asked}: there is none on this machine")
    elif device.type not in ("cpu", "mps"):
        raise HardwareError(f"--device {asked}: {_DEVICES}")
    return device


def features_of(device: torch.device) -> Features:
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return Features("cuda", torch.cuda.get_device_name(device), capability)
    if device.type == "mps":
        return Features("mps", platform.processor() or "Apple GPU")
    return Features("cpu", _cpu_name(), native_bf16=_cpu_has_bf16())


def choose_precision(asked: str, features: Features) -> Precision:
    kind, capability = features.device_type, features.capability
    if asked == "auto":
        if kind == "cuda" and capability >= (8, 0):
            return Precision("bf16", f"compute capability {capability[0]}.{capability[1]}")
        if kind == "cuda" and capability >= (7, 0):
            reason = f"compute capability {capability[0]}.{capability[1]} has no bf16"
            return Precision("fp16", f"{reason}; gradients are scaled")
        if kind == "cuda":
            reason = f"compute capability {capability[0]}.{capability[1]} gains nothing from less"
            return Precision("fp32", reason)
        if kind == "cpu" and features.native_bf16:
            return Precision("bf16", "this CPU multiplies it natively")
        if kind == "cpu":
            return Precision("fp32", "this CPU only emulates bf16, far slower")
        return Precision("fp32", "the safe choice on this kind of device")
    if asked == "fp16" and kind != "cuda":
        raise HardwareError(f"--precision fp16: it is for CUDA; on {kind} take bf16 or fp32")
    if asked == "bf16" and kind == "cuda" and capability < (8, 0):
        raise HardwareError(
            f"--precision bf16: {features.name} has compute capability "
            f"{capability[0]}.{capability[1]}, and bf16 begins at 8.0: take fp16"
        )
    return Precision(asked, "as asked")


def _cpu_name() -> str:
    return _told_of_cpu("model name") or platform.processor() or platform.machine() or "CPU"


@cache
def is_amd() -> bool:
    """Whether the CPU is one of AMD's, for which a library of Intel's may choose other kernels."""
    return "AuthenticAMD" in (_told_of_cpu("vendor_id") or platform.processor())


def _told_of_cpu(name: str) -> str:
    """By Linux; empty elsewhere. (Windows tells family and vendor as `platform.processor()`.)"""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(name):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def has_amx() -> bool:
    """Whether the CPU multiplies bf16 in tiles, of 16 rows at most."""
    return getattr(torch.cpu, "_is_amx_tile_supported", bool)()


def _cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX, or an ARM with bf16 (torch names no other way to ask)."""
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, test, bool)() for test in tests)


# ---- memory --------------------------------------------------------------------------------


def peak_memory(device: torch.device) -> int | None:
    """Bytes at most in use so far: on a GPU by torch's tensors, on a CPU by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if sys.platform == "win32":
        return None  # its counter needs a library of its own
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory() -> int | None:
    """Bytes that this process may still take on a CPU; None where nobody says (only Linux does).

    What the machine has left, or what a container's limit or `ulimit -v` leave of it.
    """
    try:
        told = _in_kilobytes(Path("/proc/meminfo"), "MemAvailable")
        mine = _in_kilobytes(Path("/proc/self/status"), "VmSize")
    except (OSError, ValueError, IndexError):
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    left = [told] if limit == resource.RLIM_INFINITY else [told, limit - mine]
    for most, used in _OF_A_CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
            left.append(int(most.read_text("utf-8")) - int(used.read_text("utf-8")))
    return max(0, min(left))


def _in_kilobytes(file: Path, name: str) -> int:
    return int(file.read_text("utf-8").split(f"{name}:")[1].split()[0]) * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """A GPU's error has its own class. A CPU's is a RuntimeError, told by its words; so is that of
    a library which found no memory beside torch's: CUBLAS_STATUS_ALLOC_FAILED.
    """
    words = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to give no large block back to the system; whether there was one to tell.

    A training step frees and allocates the same half gigabyte of gradients and activations, again
    and again. By default each large block is a mapping of its own, which the system must take back,
    and fill with zeros page by page when it is wanted again: a tenth of a step's time. It is for
    the whole process, so only a run that trains on a CPU asks for it.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False  # another C library than glibc
    return all(mallopt(option, value) for option, value in _KEEP)


def describe(device: torch.device) -> str:
    """The NVIDIA H100, 79 GB; or the CPU and its threads."""
    features = features_of(device)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"{features.name}, {total / 1e9:.0f} GB"
    if device.type == "mps":
        return features.name
    return f"{features.name}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """What lies on the CPU, where it is wanted. Nobody waits for a GPU that fetches it by itself,
    and it can do so only from memory that the system may not move.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _demo() -> None:
    print("what each kind of hardware is given:")
    for features in (
        Features("cuda", "H100", (9, 0)),
        Features("cuda", "A100", (8, 0)),
        Features("cuda", "T4", (7, 5)),
        Features("cuda", "GTX 1080", (6, 1)),
        Features("mps", "M3"),
        Features("cpu", "a CPU with AMX", native_bf16=True),
        Features("cpu", "a CPU with AVX2"),
    ):
        precision = choose_precision("auto", features)
        print(f"  {features.name:<16} {precision.name}: {precision.reason}")
    print("\nand what is refused:")
    for asked, features in (
        ("bf16", Features("cuda", "T4", (7, 5))),
        ("fp16", Features("cpu", "a CPU")),
    ):
        try:
            choose_precision(asked, features)
        except HardwareError as error:
            print(f"  {error}")


if __name__ == "__main__":
    run(_demo)
