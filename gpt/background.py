"""Saving while training goes on: what is to be written is copied, and a thread writes the copy.

    the loop     step 7 ─> copy ─> step 8 ─────> step 9 ─> …        waits for the copy alone
                            └─> buffers, allocated once
    the thread                  └─> checked, written, forced to the disk, put in its place

A save of a gpt2-medium takes seconds of the disk, in which a GPU would have done dozens of steps.
What is written is the state at the end of the step that asked for it, the same bytes as ever, and
a folder is replaced as a whole or not at all (files.py), whichever thread does it.

At most one moment is kept. Whoever wants to keep the next waits until this one is written: a disk
that is slower than training shows. What a step writes twice (the model, in best/ and in last/) is
copied once. What goes wrong in the thread is raised in the loop, at the next step or save, with the
words that it would have had there; nothing is written after it, so that the last save that went
well stands.

On a GPU the buffers are pinned, so that it copies into them at the full speed of the bus. On a CPU
the copy takes memory, and the thread the cores that the steps need: there the loop saves by itself,
and waits. (safetensors lets other threads run while it writes from 0.8 on; before that, they wait.)

Several ranks write their pieces together, and so their threads talk to each other. They do it in a
group of their own: in one group with the step, a word of one could be taken for one of the other.

    python -m gpt.background    # a step is taken while the one before is written
"""

import atexit
import os
import threading
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gpt.adapters import tensors_of
from gpt.cli import run
from gpt.errors import UserError
from gpt.hardware import free_memory, is_out_of_memory
from gpt.lora import lora_of
from gpt.model import GPT
from gpt.parallel import ALONE, Ranks
from gpt.settings import TrainSettings
from gpt.sharding import is_part, whole_model, whole_tensors, with_tensors
from gpt.watching import flush

MODEL = "model"


class BackgroundError(UserError):
    """No room for a copy."""


def is_wanted(settings: TrainSettings, device: torch.device, n_bytes: int = 0) -> bool:
    """n_bytes: of a copy. (What is pinned may take up to twice as much: torch rounds it up.)"""
    if settings.background_saving == "auto":
        free = free_memory()
        return device.type == "cuda" and (free is None or 2 * n_bytes <= free)
    return settings.background_saving == "always"


def weights_of(model: GPT) -> dict[str, Tensor]:
    """What is written of a model; of a base with an adapter on it, the adapter alone."""
    return tensors_of(model) if lora_of(model) else dict(model.named_parameters())


class Writer:
    """Keeps what is to be written, and does the writing: at once, or in the background."""

    def __init__(self, ranks: Ranks = ALONE, in_background: bool = False) -> None:
        self.ranks, self.in_background = ranks, in_background
        self.talk = ranks.apart() if in_background else ranks  # as those who write have it
        self._kept: dict[str, dict[str, Tensor]] = {}  # the buffers, of each kind
        self._step_of: dict[str, int] = {}  # and the step whose numbers they hold
        # Of each thing to be written whether it is. (To wait for the threads themselves is no way:
        # when Ctrl-C breaks into that, Python 3.11 takes the thread for ended.)
        self._newest: threading.Event | None = None
        self._readers: dict[str, threading.Event] = {}  # the last that reads what is kept
        self._fault: BaseException | None = None

    def keep(
        self, kind: str, step: int, tensors: Iterable[tuple[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The tensors as they are at the end of this step, until they are written.

        They are asked for one by one, and not at all if those of this step are kept already.
        """
        if not self.in_background:
            return {n: t if is_part(t) else t.detach().cpu().contiguous() for n, t in tensors}
        if self._step_of.get(kind) != step:
            self._end(self._readers.get(kind))
            self.check()
            self._step_of.pop(kind, None)  # if it fails half way, they hold those of no step
            self._kept[kind] = self._copied(self._kept.get(kind, {}), tensors)
            self._step_of[kind] = step
        return self._kept[kind]

    def keep_model(self, model: GPT, step: int) -> GPT | None:
        """The same of a model, at the rank that is to write it; None at the others."""
        if not self.in_background:
            return whole_model(model, self.ranks)
        kept = self.keep(MODEL, step, whole_tensors(weights_of(model), self.ranks))
        return with_tensors(model, kept) if self.ranks.is_first else None

    def _copied(
        self, buffers: dict[str, Tensor], tensors: Iterable[tuple[str, Tensor]]
    ) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        gpus: set[torch.device] = set()
        for name, tensor in tensors:
            tensor, on_gpu = tensor.detach(), tensor.is_cuda
            try:
                if name not in buffers:
                    buffers[name] = torch.empty_like(tensor, device="cpu", pin_memory=on_gpu)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise BackgroundError(
                    "out of memory for the copy that is saved in the background: "
                    "--background-saving never needs none"
                ) from None
            _own(buffers[name]).copy_(_own(tensor), non_blocking=on_gpu)
            kept[name] = buffers[name]
            if on_gpu:
                gpus.add(tensor.device)
        for gpu in gpus:  # with --device cuda:1, another than the current one
            torch.cuda.current_stream(gpu).synchronize()  # once for all copies
        return kept

    def do(self, write: Callable[[], object], *kinds: str) -> None:
        """Write, after all that was to be written before. kinds: of what is kept, what it reads."""
        if not self.in_background:
            write()
            return
        gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        before, self._newest = self._newest, threading.Event()
        self._readers |= dict.fromkeys(kinds, self._newest)
        threading.Thread(
            target=self._work,
            args=(write, before, self._newest, gpu),
            daemon=True,  # so that a second Ctrl-C is at once; whoever ends well waits
        ).start()

    def _work(
        self,
        write: Callable[[], object],
        before: threading.Event | None,
        done: threading.Event,
        gpu: int | None,
    ) -> None:
        self._end(before)
        try:
            if self._fault is not None:
                return  # a last/ must not tell of a best/ that was not written
            if gpu is not None:
                torch.cuda.set_device(gpu)  # each thread begins with the first, another rank's
            write()
        except BaseException as error:
            self._fault = error
        finally:
            done.set()

    def check(self) -> None:
        """Raise what has gone wrong meanwhile."""
        if self._fault is not None:
            raise self._fault

    def join(self) -> None:
        """Come back when nothing is being written any more, be it well or ill."""
        self._end(self._newest)

    def wait(self) -> None:
        """Come back when all is on the disk."""
        self.join()
        self.check()

    def abandon(self) -> None:
        """The process is to end at once: what stands on the disk stays, as after a kill.

        Python would end a thread in the midst of torch's own code, and that would abort.
        """
        if self._newest is not None:
            atexit.register(_leave, self._newest)

    @staticmethod
    def _end(done: threading.Event | None) -> None:
        while done is not None and not done.wait(0.2):
            pass  # again and again, as Windows hears no Ctrl-C during one of them


def _leave(done: threading.Event) -> None:
    if not done.is_set():
        flush()
        os._exit(130)  # what a shell gives a process that Ctrl-C ended


def _own(tensor: Tensor) -> Tensor:
    """Where a rank has a part of a tensor, that part."""
    return tensor.to_local() if is_part(tensor) else tensor


AT_ONCE = Writer()


def _demo() -> None:
    weight, written, may_write = torch.ones(4), [], threading.Event()
    writer = Writer(in_background=True)
    kept = writer.keep("model", 1, [("weight", weight)])

    def write() -> None:
        may_write.wait()  # a slow disk
        written.append(kept["weight"].tolist())

    writer.do(write, "model")
    weight += 1
    print(f"step 1 is asked to be saved, step 2 is taken: {weight.tolist()}, written: {written}")
    may_write.set()
    writer.wait()
    print(f"the disk has done its work: written: {written}")
    again = writer.keep("model", 2, [("weight", weight)])
    print(f"step 2 is kept where step 1 was: {again['weight'] is kept['weight']}\n")

    def fails() -> None:
        raise UserError("runs/last: the model was not saved: it needs 9 bytes, and 3 are free")

    writer.do(fails, "model")
    writer.do(lambda: print("never written"), "model")
    print("a disk that is full is told of at the next step:")
    writer.join()
    try:
        writer.check()
    except UserError as error:
        print(f"  {error}")


if __name__ == "__main__":
    run(_demo)
