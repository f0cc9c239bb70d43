"""Where a model comes from: a folder on this disk, the hub's cache, or the Hugging Face hub itself.

    "checkpoints/mini"                a folder: taken as it is; of a run's folder, its best/
    "gpt2-medium"                     one of five short names, pinned to the revision that we know
    "owner/name", "owner/name@v2"     any other GPT-2 on the hub

The first place that has the model wins, and only the last asks the network (`hub.py`).

    python -m gpt.download            # the published models, and which of them are here already
    python scripts/download.py gpt2   # fetch one now
"""

import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from gpt.cli import run
from gpt.config import PUBLISHED
from gpt.files import folder_to_read
from gpt.hub import DownloadError, Source, cached, check, download, failure, model_files

_PINNED = {
    "distilbert/distilgpt2": "2290a62682d06624634c1f46a6ad5be0f47f38aa",
    "openai-community/gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "openai-community/gpt2-medium": "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
    "openai-community/gpt2-large": "32b71b12589c2f8d625668d2335a01cac3249519",
    "openai-community/gpt2-xl": "15ea56dee5df4983c59b2538573817e1667135e2",
}
_SHA256 = {  # known beforehand; every other file is held to the hub's own word
    "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",  # all five
    "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "distilgpt2": "e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b",  # its weights
    "gpt2": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    "gpt2-xl": "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
}
HUB = {repo.split("/")[1]: Source(repo.split("/")[1], repo, at) for repo, at in _PINNED.items()}

_MARKS_OF_A_MODEL = (
    *("config.json", "adapter_config.json"),
    *("hparams.json", "model.ckpt.index"),  # OpenAI's
)


def find_model(name_or_folder: str | Path, refresh: bool = False) -> Path:
    """A folder with the model's files; from the hub if it is nowhere here, each of them checked.

    refresh: ask the hub whether a branch has moved on, though the cache has a whole copy of it.
    """
    name = str(name_or_folder)
    try:
        folder = _local_folder(name)
    except (OSError, ValueError, RuntimeError) as error:  # unreadable, or not even a path
        raise DownloadError(f"{name}: not a folder that can be read: {error}") from None
    if folder is not None:
        return folder
    source = _source(name)
    try:
        folder = (None if refresh else cached(source)) or download(source)
        for file in model_files(folder):
            check(source, folder / file)
    except (OSError, ValueError) as error:  # the disk, or a name that cannot be
        raise failure(source, error) from error
    except DownloadError as error:
        raise DownloadError(f"{error}{_near_folder(name)}") from error
    return folder


# ---- what a name means ----------------------------------------------------------------------


def _local_folder(name: str) -> Path | None:
    """The folder that is meant, or None where it is none and may be a name on the hub."""
    given = Path(name).expanduser()
    if found := _model_in(given):
        return found
    # The book's downloader leaves gpt2/355M/, so a folder gpt2 beside us need not be the model.
    if not given.exists() or name in HUB:
        return None
    if given.is_file():
        raise DownloadError(f"{name}: is a file; give the folder that it lies in")
    inside = [path for path in sorted(given.iterdir()) if _model_in(path)]
    hint = f": did you mean {inside[0]}?" if inside else " (no config.json, no model.ckpt.index)"
    raise DownloadError(f"{name}: there is no model in this folder{hint}")


def _model_in(given: Path) -> Path | None:
    for folder in map(folder_to_read, (given, given / "best")):
        if any((folder / mark).is_file() for mark in _MARKS_OF_A_MODEL):
            return folder
    return None


def _near_folder(name: str) -> str:
    """owner/name looks like a path too, so a path that was mistyped may come this far."""
    beside = [str(path) for path in Path(name).parent.glob("*") if _model_in(path)]
    near = get_close_matches(str(Path(name)), beside, n=1)
    return f" (or did you mean the folder {near[0]}?)" if near else ""


def _source(name: str) -> Source:
    if name in HUB:
        known = {file: _SHA256[file] for file in ("vocab.json", "merges.txt")}
        if name in _SHA256:
            known["model.safetensors"] = _SHA256[name]
        return replace(HUB[name], sha256=known)
    found = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", name, re.ASCII)
    if found and not re.search(r"\.\.|--|[.-](/|@|$)", name):  # the hub's own rules
        return Source(name, found[1], found[2] or "main")
    near = get_close_matches(name.lower(), HUB, n=1, cutoff=0.7)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DownloadError(
        f"{name}: no such folder, and no name of a model{hint} "
        f"({', '.join(HUB)}, or owner/name for any other on the hub)"
    )


def _demo() -> None:
    for name, source in HUB.items():
        where = "in the cache" if cached(source) else f"huggingface.co/{source.repo}"
        print(f"{name:<12} {PUBLISHED[name].n_params():>13,} parameters   {where}")


if __name__ == "__main__":
    run(_demo)
