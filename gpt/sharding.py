"""What the ranks have of the model: all of it each, or each a part (--shard).

    DDP     every rank has all weights, gradients and moments      16 bytes a parameter each
            way back ─> gradients are summed, in buckets, while it is still under way

    FSDP2   every rank has an nth of each tensor                   16 / n bytes each, and one block
            block's turn ─> its weights are gathered ─> computed ─> forgotten
            way back     ─> gathered again ─> gradients summed, each rank keeps its nth

Sharding gathers the weights twice a micro-batch, which DDP need not. It is for what does not fit:
a gpt2-xl needs 25 GB to be trained, and so 3.1 GB on each of eight.

On a GPU in bf16 a block is gathered in bf16, which halves the bytes, and its gradients are summed
in fp32. The embeddings and the last norm stay fp32, as does the stream between the blocks. With
--cpu-offload the parts lie in the CPU's memory between two uses, and AdamW runs there.

Sources: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models"
(2020); Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (2023).
"""

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from gpt.errors import UserError
from gpt.hardware import Precision
from gpt.lora import add_lora, lora_of
from gpt.model import GPT
from gpt.parallel import Ranks
from gpt.settings import TrainSettings


class ShardingError(UserError):
    """A model that cannot be divided so."""


def distribute(
    loss: nn.Module, settings: TrainSettings, device: torch.device, precision: Precision
) -> nn.Module:
    """The same loss, whose way back leaves on each rank the mean of all ranks' gradients.

    loss: with the model as its `model`. Sharding changes that very model, and all its parameters.
    """
    if settings.shard:
        _shard(loss, settings, device, precision)
        return loss
    # (No device_ids: they would have it move the batch, which lies there already.)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a new name for broadcast_buffers, which 2.6 has not
        return nn.parallel.DistributedDataParallel(
            loss, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def _shard(
    loss: nn.Module, settings: TrainSettings, device: torch.device, precision: Precision
) -> None:
    from torch.distributed import init_device_mesh
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
    )

    if precision.name == "fp16":
        raise ShardingError(
            "--shard with --precision fp16 is not supported: take fp32, or no shard"
        )
    if device.type == "cpu":
        if settings.cpu_offload:
            raise ShardingError(
                "--cpu-offload would be ignored: all is in the CPU's memory already"
            )
        if not hasattr(torch.cpu.current_stream(), "record_event"):
            raise ShardingError(
                f"--shard on a CPU needs a newer torch than {torch.__version__}: leave it out"
            )
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    offload = CPUOffloadPolicy() if settings.cpu_offload else OffloadPolicy()
    # (On a CPU, LayerNorm takes no bf16 weights beside an fp32 stream. There is no bus to spare.)
    in_blocks = MixedPrecisionPolicy()
    if precision.name == "bf16" and device.type == "cuda":
        in_blocks = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    for block in loss.model.h:
        fully_shard(block, mesh=mesh, mp_policy=in_blocks, offload_policy=offload)
    fully_shard(loss, mesh=mesh, offload_policy=offload)  # the rest: embeddings, the last norm


def keep_to_oneself(loss: nn.Module, asked: bool) -> AbstractContextManager[None]:
    """A block whose way back is not told to the other ranks yet, as more is to be added.

    What is sharded has no room for a whole gradient, and tells each.
    """
    if asked and isinstance(loss, nn.parallel.DistributedDataParallel):
        return loss.no_sync()
    return contextlib.nullcontext()


def forget_gathered(loss: nn.Module) -> None:
    """After a way out that no way back follows: the outermost weights would stay gathered."""
    if hasattr(loss, "reshard"):
        loss.reshard()


def is_part(tensor: Tensor) -> bool:
    """Whether this rank has an nth of it."""
    return hasattr(tensor, "full_tensor")


def is_sharded(model: GPT) -> bool:
    return is_part(model.wte.weight)


def whole_model(model: GPT, ranks: Ranks) -> GPT | None:
    """The model itself; of a sharded one, all parts put together on the first rank's CPU."""
    if not is_sharded(model):
        return model if ranks.is_first else None
    parts = dict(model.named_parameters())
    tensors = {name: tensor.cpu() for name, tensor in whole_tensors(parts, ranks)}
    return with_tensors(model, tensors) if ranks.is_first else None


def whole_tensors(tensors: dict[str, Tensor], ranks: Ranks) -> Iterator[tuple[str, Tensor]]:
    """One after the other, for the first rank; the others only give their parts."""
    for name, tensor in tensors.items():
        whole = tensor.detach()
        if is_part(whole):
            whole = whole.full_tensor()  # all ranks have it for a moment
            ranks.passed()
        if ranks.is_first:
            yield name, whole


def with_tensors(model: GPT, tensors: dict[str, Tensor]) -> GPT:
    """A model like this one, with other tensors. Of one with an adapter, the adapter's will do."""
    with torch.device("meta"):
        made, config = GPT(model.config), lora_of(model)
        if config is not None:
            add_lora(made, config)
            made.base = model.base
    made.load_state_dict(tensors, strict=config is None, assign=True)
    made.vocabulary = model.vocabulary
    return made


def as_part(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor as the parameter is: this rank's part of it, where that is sharded."""
    tensor = tensor.to(parameter.device)
    if not is_part(parameter) or tensor.dim() == 0:
        return tensor.clone()
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
