"""What is said when memory runs out: the batch that did it, how much was in use, what helps."""

import contextlib
from collections.abc import Callable, Iterator

from gpt.batching import Batch
from gpt.errors import UserError
from gpt.hardware import is_out_of_memory
from gpt.learner import Learner


class MemoryFault(UserError):
    """The run does not fit."""


@contextlib.contextmanager
def explained(learner: Learner, widest: Callable[[], Batch], what: str) -> Iterator[None]:
    """A block in which a lack of memory ends with the advice. widest: the batch to name."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryFault(advice(learner, widest(), what)) from None
        raise


def advice(learner: Learner, batch: Batch, what: str) -> str:
    B, T = batch.inputs.shape
    peak = learner.peak_memory()
    used = f", {peak / 1e9:.1f} GB in use at most" if peak else ""
    settings = learner.settings
    ways = []
    if learner.ranks.n > 1 and not settings.shard and settings.quantize == "none":
        ways.append("--shard (the same run)")
    if learner.examples_at_once > 1:
        ways.append(f"--micro-batch-size {max(1, learner.examples_at_once // 2)} (the same run)")
    if not settings.activation_checkpointing and what == "training":
        ways.append("--activation-checkpointing (the same run, a third slower)")
    if not settings.lora_rank and not settings.from_scratch:
        ways.append("--lora-rank 16 with --quantize nf4 (another run)")
    is_text = settings.objective == "pretrain"  # cut into rows, of which none is too long
    ways.append(f"--max-length below {T}{'' if is_text else ' with --overlong drop'}")
    ways.append("a smaller --model")
    return (
        f"out of memory on {learner.device} in {what}, with a batch of {B} x {T} tokens{used}. "
        f"What helps: {'; '.join(ways[:5])}"
    )
