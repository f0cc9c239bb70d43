"""What a run leaves on the disk to go on from: the very state that it would have had.

    model, optimizer, RNGs, counts ─> last/   a model's folder, and two files more
    model alone                    ─> best/   at the lowest validation loss so far

Both are ordinary model folders; of a run with an adapter, ordinary adapter folders (adapters.py).
`last/` holds beside the model

    training.safetensors    AdamW's two moments of each parameter, the random generators' states
    training.json           the counts, the loss scaler, and the size and checksum of every file

and nothing that would have to be unpickled. The place in the data is the number of the step:
`ordering.py` finds the rest. Nor is there a scheduler's state: the rate follows from the step, too.
Of several ranks the first writes all this, but of the optimizer's state each writes a piece
(pieces.py), in place of training.safetensors; any number of ranks can go on from that.

A folder is replaced as a whole or not at all (`files.py`), so a save may be killed at any moment.
What may still happen is that the disk changes a byte later. So whoever resumes compares all of
them with their checksums first: with one bit wrong in a weight, a run goes on and looks healthy.

    python -m gpt.checkpoint    # saves, resumes, flips one byte, fills a disk
"""

import json
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt.adapters import save_adapter
from gpt.background import AT_ONCE, MODEL, Writer, weights_of
from gpt.cli import run
from gpt.config import GPTConfig
from gpt.errors import UserError
from gpt.files import folder_to_read
from gpt.lora import lora_of, n_trained
from gpt.model import GPT
from gpt.optimizer import make_optimizer
from gpt.settings import TrainSettings
from gpt.sharding import as_part, is_part
from gpt.weights import (
    INDEX_OF_PIECES,
    WeightsError,
    load_model,
    refuse_full_disk,
    save_model,
)

STATE, TENSORS = "training.json", "training.safetensors"
MOMENTS = "moments"  # what a writer keeps beside the model


class CheckpointError(UserError):
    """A checkpoint that is not there, not whole, or of another run."""


@dataclass
class State:
    """What the loop counts. All of it is in training.json."""

    step: int = 0  # optimizer steps done
    tokens: int = 0  # real ones that the model has read, no padding
    supervised_tokens: int = 0  # of them, those that it was told the next one of
    best_loss: float | None = None  # the lowest validation loss
    best_step: int = 0
    n_worse: int = 0  # validations since then
    seconds: float = 0.0  # of all sittings together
    # Since the last line of metrics.jsonl: the sum of losses, and of the weights of their tokens.
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    step_seconds: float = 0.0  # and what the steps alone took, without validation and saves
    step_tokens: int = 0
    # A step that was done and not yet told of, as a signal came during its validation.
    untold: dict[str, Any] | None = None


def n_bytes(model: GPT) -> tuple[int, int]:
    """What best/ takes, and last/ with its optimizer, but for a little."""
    weights = sum(p.numel() * p.element_size() for p in weights_of(model).values())
    return weights, weights + 2 * 4 * n_trained(model)


def refuse_too_small_a_disk(model: GPT, run_folder: Path) -> None:
    """Before the first step: room for both, and for the new last/ while the old one still stands.

    What the folder holds already is counted as room: it will be replaced.
    """
    best, last = n_bytes(model)
    held = [path.stat().st_size for path in run_folder.rglob("*") if path.is_file()]
    try:
        refuse_full_disk(run_folder / "last", best + 2 * last + 2**18 - sum(held))
    except OSError as error:
        raise CheckpointError(f"{run_folder}: too little room for checkpoints: {error}") from None


# ---- writing -------------------------------------------------------------------------------


def save_best(
    model: GPT, folder: Path, step: int, val_loss: float, writer: Writer = AT_ONCE
) -> None:
    """Called by all ranks, as is `save_last`."""
    facts = {"step": step, "validation_loss": val_loss}
    whole = writer.keep_model(model, step)
    if whole is not None:
        writer.do(lambda: _save(whole, folder, lambda new: _write_facts(new, facts)), MODEL)


def save_last(
    model: GPT,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    state: State,
    folder: Path,
    rng: dict[str, Tensor] | None = None,
    writer: Writer = AT_ONCE,
) -> None:
    """rng: where the generators stood at the end of the step, if they have moved on since."""
    moments, ranks = _optimizer_tensors(model, optimizer), writer.talk
    n_bytes = sum(t.numel() * t.element_size() for t in moments.values())
    if ranks.n > 1:  # one process alone is spared what this imports
        from gpt.pieces import own_share, save_pieces

        moments = own_share(moments, ranks)
    tensors = writer.keep(MOMENTS, state.step, moments.items()) | (rng or rng_states())
    facts = {"state": asdict(state), "scaler": scaler.state_dict()}

    def add(new: Path) -> None:
        if ranks.n == 1:
            save_file(tensors, new / TENSORS)
        else:
            save_pieces(tensors, ranks.told(new), ranks.group)  # the others wait for that place
        _write_facts(new, facts)

    whole = writer.keep_model(model, state.step)

    def write() -> None:
        if whole is not None:
            _save(whole, folder, add, n_bytes)
        else:
            save_pieces(tensors, ranks.told(None), ranks.group)
        ranks.wait()

    writer.do(write, MODEL, MOMENTS)


def _save(model: GPT, folder: Path, add: Callable[[Path], None], added_bytes: int = 0) -> None:
    """The model; of a base with an adapter on it the adapter alone, as the base never changes."""
    save = save_adapter if lora_of(model) else save_model
    save(model, folder, add, added_bytes)


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """training.json, the last file: with what all others are checked by."""
    checks = {path.name: _size_and_checksum(path) for path in sorted(folder.iterdir())}
    text = json.dumps(facts | {"files": checks}, indent=2)
    (folder / STATE).write_text(text + "\n", encoding="utf-8")


def _size_and_checksum(path: Path) -> list[int]:
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]


def _optimizer_tensors(model: GPT, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """exp_avg.h.0.attn.c_attn.weight and so on: by name, not by a number in some order."""
    return {
        f"optimizer.{what}.{name}": value
        for name, parameter in model.named_parameters()
        for what, value in optimizer.state.get(parameter, {}).items()
    }


def rng_states() -> dict[str, Tensor]:
    """Dropout draws from these. (The order of the data draws from none: see ordering.py.)"""
    states = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"rng.cuda.{i}": rng for i, rng in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        states["rng.mps"] = torch.mps.get_rng_state()
    return states


# ---- reading -------------------------------------------------------------------------------


def check_files(folder: Path) -> dict[str, Any]:
    """What training.json says, after every file of the folder was found to be as it was written."""
    folder = folder_to_read(folder)
    try:
        facts = json.loads((folder / STATE).read_text(encoding="utf-8"))
        checks = dict(facts["files"])
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no checkpoint to resume from") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / STATE}: damaged: {error}") from None
    for name, expected in checks.items():
        try:
            found = _size_and_checksum(folder / name)
        except OSError as error:
            raise CheckpointError(f"{folder / name}: {error.strerror or error}") from None
        if found != expected:
            raise CheckpointError(
                f"{folder / name}: damaged: {found[0]:,} bytes with checksum {found[1]:08x}, and "
                f"{expected[0]:,} with {expected[1]:08x} were written"
            )
    return facts


def load_last(folder: Path, base: str | Path | None = None) -> tuple[GPT, State, dict[str, Any]]:
    """The model on the CPU, the counts, and what `restore` gives back to the rest.

    base: of an adapter, where its base model is now, if not where it was.
    """
    facts = check_files(folder)
    folder = folder_to_read(folder)
    try:
        known = {f.name for f in fields(State)}
        state = State(**{k: v for k, v in facts["state"].items() if k in known})
        in_pieces = (folder / INDEX_OF_PIECES).exists()
        rest = {"scaler": facts["scaler"], "pieces": folder if in_pieces else None}
        rest["tensors"] = {} if in_pieces else load_file(folder / TENSORS)
    except (KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not a checkpoint that we wrote: {error!r}") from None
    return load_model(folder, dtype=torch.float32, base=base), state, rest


def restore(
    rest: dict[str, Any],
    model: GPT,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Give the optimizer, the scaler and the random generators what they had.

    The generators come last: nothing that is still done here may draw from them.
    """
    parameters = dict(model.named_parameters())
    tensors: dict[str, Tensor] = rest["tensors"]
    if rest["pieces"] is not None:
        from gpt.pieces import load_pieces

        tensors = load_pieces(rest["pieces"], lambda *of: _room(parameters, *of))
    for name, parameter in parameters.items():
        state = {
            what: tensors[f"optimizer.{what}.{name}"]
            for what in ("step", "exp_avg", "exp_avg_sq")
            if f"optimizer.{what}.{name}" in tensors
        }
        if state:  # none before the first step, and none for what is frozen
            optimizer.state[parameter] = {
                what: value if is_part(value) else as_part(value, parameter)
                for what, value in state.items()
            }
    if rest["scaler"]:
        scaler.load_state_dict(rest["scaler"])
    set_rng_states(tensors)


def _room(
    parameters: dict[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    """For a tensor of the pieces: of a moment, like its parameter, and so perhaps for a part."""
    kind, _, of = name.removeprefix("optimizer.").partition(".")
    if kind in ("exp_avg", "exp_avg_sq") and of in parameters:
        if tuple(parameters[of].shape) != shape:
            raise CheckpointError(f"{name}: is {list(shape)}, and not as its parameter is")
        return torch.zeros_like(parameters[of].detach())
    return torch.empty(shape, dtype=dtype)


def set_rng_states(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["rng.cpu"])
    if torch.cuda.is_initialized():
        for i in range(torch.cuda.device_count()):
            if f"rng.cuda.{i}" in tensors:
                torch.cuda.set_rng_state(tensors[f"rng.cuda.{i}"], i)
    if torch.backends.mps.is_available() and "rng.mps" in tensors:
        torch.mps.set_rng_state(tensors["rng.mps"])


# ---- a demonstration -----------------------------------------------------------------------


def _demo() -> None:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=50, n_ctx=8, n_layer=1, n_head=1, n_embd=16, dropout=0.1)
    model = GPT(config)
    ids = torch.randint(50, (4, 9))

    def step(model: GPT, optimizer: torch.optim.Optimizer) -> float:
        logits = model(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    optimizer = make_optimizer(model, TrainSettings(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with tempfile.TemporaryDirectory() as scratch:
        last = Path(scratch) / "last"
        for _ in range(3):
            step(model, optimizer)
        save_last(model, optimizer, scaler, State(step=3), last)
        print("last/ after three steps with dropout:")
        for path in sorted(last.iterdir()):
            size = f"{path.stat().st_size:>6,} bytes" if path.suffix == ".safetensors" else ""
            print(f"  {path.name:<24} {size}".rstrip())
        went_on = [step(model, optimizer) for _ in range(3)]

        again, state, rest = load_last(last)
        again.train()
        optimizer = make_optimizer(again, TrainSettings(), lr=1e-2)
        restore(rest, again, optimizer, scaler)
        resumed = [step(again, optimizer) for _ in range(3)]
        print(f"\n           {'':<8}" + "  ".join(f"step {state.step + i}" for i in (1, 2, 3)))
        print("  never stopped    " + "  ".join(f"{loss:.4f}" for loss in went_on))
        print("  resumed          " + "  ".join(f"{loss:.4f}" for loss in resumed))
        print(f"  the same bits: {went_on == resumed}")

        path = last / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        _print_refusal("one bit of a weight flipped", lambda: load_last(last), scratch)
        huge = Path(scratch) / "huge"
        _print_refusal("a disk too small", lambda: refuse_full_disk(huge, 10**18), scratch)


def _print_refusal(what: str, attempt: Callable[[], object], scratch: str) -> None:
    try:
        attempt()
    except (CheckpointError, WeightsError, OSError) as error:
        told = str(error).replace(scratch, "").lstrip("/\\").replace("\\", "/")
        print(f"\n{what}:\n  {told.split(' and ')[0].split(' bytes with')[0]} …")


if __name__ == "__main__":
    run(_demo)
