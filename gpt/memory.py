"""Whether a step fits, counted; and what is said when memory runs out: the batch that did it, how
much was in use, what helps.
"""

import contextlib
from collections.abc import Callable, Iterator

from gpt.batching import Batch
from gpt.errors import UserError
from gpt.hardware import free_memory, is_out_of_memory
from gpt.learner import Learner
from gpt.loss import CHUNK_NUMBERS

_SPARE = 2  # times what was counted has to be free: the rest of the machine lives on, too


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


def plainly_fits(learner: Learner, batch: Batch) -> bool:
    """Whether a step with the batch is so far from the end of a CPU's memory that nobody needs try.

    Not on a GPU: what is left there is soon told, and soon tried.
    """
    if learner.device.type != "cpu":
        return False
    free = free_memory()
    return free is not None and _SPARE * bytes_at_most(learner, batch) <= free


def bytes_at_most(learner: Learner, batch: Batch) -> int:
    """What a step takes on a CPU beside the weights, from above: a bound, and no estimate."""
    config, (B, T) = learner.model.config, batch.inputs.shape
    trained = sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
    # A block keeps 17 C of a token for the way back; where beginnings are shared, a few more. With
    # dropout, attention writes its scores out.
    of_a_place = config.n_layer * (24 * config.n_embd + 4 * config.n_head * T)
    head = 3 * CHUNK_NUMBERS + 2 * config.vocab_size * config.n_embd  # logits, and its gradient
    return 4 * (3 * trained + B * T * of_a_place + head)  # a gradient and two moments; fp32
