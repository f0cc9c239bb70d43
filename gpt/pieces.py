"""What several ranks keep of a run's state: each writes a piece, and any number of ranks reads it.

    optimizer's moments, on 4 ranks ─> __0_0.distcp … __3_0.distcp, .metadata ─> on 4, on 2, on 1

torch.distributed.checkpoint writes them. It knows of each tensor which rank has which part, and
lets what all have alike be written once: each rank hands over its share of that alone, and keeps a
copy of no more while it is written in the background. `.metadata` says what lies where; so 2 ranks,
or one that was never started by torchrun, find their parts in the pieces that 4 have left.

That file is a pickle, which is a program. So it is not run: only the classes that it is made of are
let through, of which none does more than hold numbers and names. And nothing is kept in the pieces
but tensors, as torch would run what it finds in anything else.
"""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor

from gpt.errors import UserError, first_line
from gpt.parallel import Ranks
from gpt.sharding import is_part
from gpt.weights import INDEX_OF_PIECES as INDEX

_OF_METADATA = {
    "Metadata", "ChunkStorageMetadata", "MetadataIndex", "TensorStorageMetadata",
    "TensorProperties", "StorageMeta", "_MEM_FORMAT_ENCODING",
}  # fmt: skip
_HARMLESS = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(("torch.distributed.checkpoint.metadata", name) for name in _OF_METADATA),
}
Make = Callable[[str, tuple[int, ...], torch.dtype], Tensor | None]


class PiecesError(UserError):
    """Pieces that cannot be written, or are not what we wrote."""


def own_share(tensors: dict[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """What this rank is to write: its parts, and of what all have alike, about an nth."""
    own, loads = {}, [0] * ranks.n
    for name, tensor in tensors.items():
        rank = ranks.rank
        if not is_part(tensor):
            rank = loads.index(min(loads))  # all ranks come to the same one
            loads[rank] += tensor.numel()
        if rank == ranks.rank:
            own[name] = tensor
    return own


def save_pieces(tensors: dict[str, Tensor], folder: Path, group: Any = None) -> None:
    """Called by all ranks together; the folder is there, and is the same for all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about torch
        try:
            dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder), process_group=group)
        except dcp.api.CheckpointException as error:
            raise PiecesError(f"{folder.name}: not written: {_told(error)}") from error


def load_pieces(folder: Path, make: Make) -> dict[str, Tensor]:
    """The tensors for which `make`, given name, shape and dtype, has made room."""
    reader = _Reader(folder)
    found = reader.read_metadata().state_dict_metadata
    made = {n: make(n, tuple(of.size), of.properties.dtype) for n, of in found.items()}
    wanted = {name: tensor for name, tensor in made.items() if tensor is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process only
        try:
            dcp.load(wanted, storage_reader=reader)
        except dcp.api.CheckpointException as error:
            raise PiecesError(f"{folder}: not read: {_told(error)}") from error
    return wanted


def _told(error: dcp.api.CheckpointException) -> str:
    """Each fault, and which ranks had it. (Of one process, it says nothing of ranks.)"""
    ranks_with: dict[str, list[int]] = {}
    for rank, (fault, _) in sorted(error.failures.items()):
        ranks_with.setdefault(first_line(fault), []).append(rank)
    if len(ranks_with) == 1 and not dist.is_initialized():
        return next(iter(ranks_with))
    return "; ".join(f"rank {', '.join(map(str, of))}: {fault}" for fault, of in ranks_with.items())


class _Reader(dcp.FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
        path = Path(self.path) / INDEX
        try:
            with path.open("rb") as file:
                metadata = _Unpickler(file).load()
            metadata.state_dict_metadata.items(), metadata.storage_data.items()
        except UserError:
            raise
        except Exception as error:
            raise PiecesError(f"{path}: not readable: {first_line(error)}") from None
        metadata.storage_meta = None  # which would say where it lay when it was written
        return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("pathlib"):  # of Windows or not: nobody asks
            return PurePosixPath
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in _HARMLESS:
            raise PiecesError(f"{INDEX}: would run {module}.{name}: nothing in it was run")
        return super().find_class(module, name)
