"""One model on the Hugging Face hub: in the cache or fetched into it, every byte of it checked.

The cache belongs to `huggingface_hub`, and with it mirrors (HF_ENDPOINT), tokens, proxies, locks
and HF_HUB_OFFLINE; a model that another tool has fetched is used as it lies. Ours is what must not
be left to chance:

- **Which files.** One set of weights and what belongs to it; a repository may hold five more.
- **Every byte is checked.** The cache names a file's content by its hash, as the hub does (large
  files by their sha256, small ones as git does). A file is hashed before it is used for the first
  time, and again if it has been touched since: what a bad network, a kill or a full disk leaves
  behind is never loaded.
- **A failure is one line** that says what to do, by hand if need be.

`download.py` decides which model a name means, and calls this when it is on no disk here.

The cache: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpt.config import ConfigError, read_config
from gpt.errors import UserError

# huggingface_hub is imported where it is used: a local folder needs none of it, and is quicker.


class DownloadError(UserError):
    """A model that is not here and could not be fetched, or that is not what it should be."""


@dataclass(frozen=True)
class Source:
    """A model on the hub."""

    name: str  # as the person at the keyboard gave it
    repo: str
    revision: str = "main"  # a branch, a tag, or a commit, which never changes
    sha256: dict[str, str] = field(default_factory=dict)  # of the files that are known beforehand


# All that is ever fetched of a repository, which may hold the same weights in five more formats.
_VOCABULARY = ("vocab.json", "merges.txt", "tokenizer.json", "added_tokens.json")
_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json")
_PROMPTS = ("special_tokens_map.json", "chat_template.jinja", "template.json")  # last: ours
_SMALL_FILES = (*_SETTINGS, *_VOCABULARY, *_PROMPTS)
_OPENAI_FILES = re.compile(r"hparams\.json|encoder\.json|vocab\.bpe|checkpoint|model\.ckpt\..*")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")  # first wins
# An adapter (adapters.py) has no config.json; of the small files it may have any, or none.
_ADAPTER = ("adapter_config.json", "adapter_base.json")
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_OTHER_DISK = "make room where {} is, or set HF_HOME to a folder on a larger disk"


def model_files(folder: Path) -> list[str]:
    """The names of a model's files in its folder: the small ones there, and one set of weights."""
    if (folder / _ADAPTER[0]).is_file():
        weights = [name for name in _ADAPTER_WEIGHTS if (folder / name).is_file()]
        small = [name for name in (*_ADAPTER, *_SMALL_FILES[1:]) if (folder / name).is_file()]
        return [*small, *weights[:1]]
    if not (folder / "config.json").is_file():  # OpenAI's own
        return sorted(path.name for path in folder.iterdir() if _OPENAI_FILES.fullmatch(path.name))
    names = [name for name in _SMALL_FILES if (folder / name).is_file()]
    for weights in _WEIGHTS:
        if (folder / weights).is_file():
            shards = _shards(folder / weights) if weights.endswith(".index.json") else []
            return [*names, weights, *shards]
    return names


# ---- what the cache holds -------------------------------------------------------------------


def cached(source: Source) -> Path | None:
    """The model's folder in huggingface_hub's cache, if every file that it needs is there."""
    from huggingface_hub import try_to_load_from_cache

    marks = ("config.json", _ADAPTER[0])
    found = (try_to_load_from_cache(source.repo, m, revision=source.revision) for m in marks)
    config = next((path for path in found if isinstance(path, str)), None)
    if config is None:
        return None
    folder = Path(config).parent
    names = model_files(folder)
    if _ADAPTER[0] in names:
        return folder if names[-1] in _ADAPTER_WEIGHTS else None
    has_weights = any(name in _WEIGHTS for name in names)
    is_whole = has_weights and all((folder / name).is_file() for name in names)
    return folder if is_whole and _have_vocabulary(names) else None


def _have_vocabulary(names: list[str]) -> bool:
    return {"vocab.json", "merges.txt"} <= set(names) or "tokenizer.json" in names


def _shards(index: Path) -> list[str]:
    """The files that large weights are spread over. Names only: no path may lead out of here."""
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if shards and all(re.fullmatch(r"\w[\w.-]*\.safetensors", name) for name in shards):
            return shards
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise DownloadError(f"{index}: lists no files of weights; delete it and run again")


def check(source: Source, path: Path, etag: str = "") -> None:
    """Refuse a file that is not what it should be; hash it only if new here or touched since.

    A link's target has its hash as its name. Where a cache has no links (Windows often allows none)
    it is the `etag`, by which the hub called the file when it came, and which is noted for later.
    """
    about = path.stat()
    stamp = f"{about.st_size}-{about.st_mtime_ns}-{about.st_ctime_ns}"
    note = path.parent.parent.parent / ".verified" / path.parent.name / path.name
    noted = note.read_text(encoding="utf-8") if note.is_file() else ""
    noted_stamp, _, noted_hash = noted.partition(" ")
    if noted_stamp == stamp:
        return
    # Only this one link is followed: the blob may itself be one, into a store with other names.
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    etag = blob.name if path.is_symlink() else etag or noted_hash
    expected = source.sha256.get(path.name) or etag
    try:
        _check_hash(path, expected)
    except DownloadError as error:
        for wrong in (path.resolve(), blob, path):
            with suppress(OSError):  # a cache that we may not write in
                wrong.unlink(missing_ok=True)
        gone = f"delete {path}" if path.exists() else "it has been removed from the cache"
        raise DownloadError(
            f"{source.name}: {error}; {gone}: run again to fetch it (and if it comes damaged "
            "again, without HF_ENDPOINT or a proxy)"
        ) from None
    with suppress(OSError):  # again: there, it is hashed each time
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{stamp} {expected}", encoding="utf-8")


def _check_hash(path: Path, expected: str) -> None:
    """Compare with a sha256 or, of 40 digits, the hash by which git names a file's content."""
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", expected):
        return  # not known, or an odd mirror's own name for it
    git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        kind = "sha256" if len(expected) == 64 else lambda: git
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != expected:
        raise DownloadError(f"{path.name} is damaged: its hash is {found}, expected {expected}")


# ---- what the hub sends ---------------------------------------------------------------------


def download(source: Source) -> Path:
    """Fetch what is missing: the weights last, and only if everything else will do."""
    offer = _ask(source, "config.json")
    if offer is None:
        if offer := _ask(source, _ADAPTER[0]):
            return _download_adapter(source, offer)
        raise DownloadError(f"{source.name}: has no config.json, so it is not a GPT-2 to load")
    config = _fetch(source, "config.json", offer[1])
    folder = config.parent
    source = replace(source, revision=folder.name)  # the commit: a branch may move on meanwhile
    try:
        read_config(config)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{config}: ")
        raise DownloadError(f"{source.name}: not a GPT-2 that runs here: {reason}") from None

    offers = {name: offer for name in _SMALL_FILES if (offer := _ask(source, name))}
    if not _have_vocabulary(list(offers)):
        raise DownloadError(
            f"{source.name}: has no vocabulary (vocab.json and merges.txt, or tokenizer.json)"
        )
    for weights in _WEIGHTS:
        if offer := _ask(source, weights):
            break
    else:
        raise DownloadError(f"{source.name}: has no weights (none of {', '.join(_WEIGHTS)})")
    offers[weights] = offer
    if weights.endswith(".index.json"):
        offers |= {name: _ask(source, name) for name in _shards(_fetch(source, weights, offer[1]))}
    if absent := [name for name, offer in offers.items() if offer is None]:
        raise DownloadError(f"{source.name}: has no {absent[0]}, though {weights} lists it")
    _fetch_all(source, folder, offers)
    return folder


def _download_adapter(source: Source, offer: tuple[int, str]) -> Path:
    """What it corrects is another model, which is found by its name when the adapter is loaded."""
    folder = _fetch(source, _ADAPTER[0], offer[1]).parent
    source = replace(source, revision=folder.name)
    wanted = (*_ADAPTER[1:], *_SMALL_FILES[1:])
    offers = {name: offer for name in wanted if (offer := _ask(source, name))}
    for weights in _ADAPTER_WEIGHTS:
        if offer := _ask(source, weights):
            break
    else:
        raise DownloadError(f"{source.name}: half an adapter: has no {_ADAPTER_WEIGHTS[0]}")
    _fetch_all(source, folder, offers | {weights: offer})
    return folder


def _fetch_all(source: Source, folder: Path, offers: dict[str, tuple[int, str]]) -> None:
    _require_space(source, folder, offers)
    for name, (_, etag) in offers.items():
        _fetch(source, name, etag)


def _ask(source: Source, name: str) -> tuple[int, str] | None:
    """A file's size and etag, as the hub says; None if the model has no such file."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        said = get_hf_file_metadata(hf_hub_url(source.repo, name, revision=source.revision))
        return said.size or 0, said.etag or ""
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # of requests, httpx or httpx2, as huggingface_hub grew older
        if _status(error) == 404 and name != "config.json":  # a mirror that says no more than that
            return None
        raise failure(source, error) from error


def _fetch(source: Source, name: str, etag: str) -> Path:
    """One file in the cache, checked; downloaded unless it is there."""
    from huggingface_hub import hf_hub_download

    start_over = False
    for attempts_left in (2, 1, 0):
        try:
            path = hf_hub_download(
                source.repo, name, revision=source.revision, force_download=start_over
            )
            check(source, Path(path), etag)
            return Path(path)
        except DownloadError:
            # What an earlier, broken download left may have been gone on with: once more, anew.
            if start_over or attempts_left == 0:
                raise
            start_over = True
        except Exception as error:
            # Worth another attempt is only what broke off on its way (with no FileNotFoundError:
            # the library's word for a hub out of reach), or was too short or long (416: too long).
            broke_off = _status(error) in (None, 416) and not getattr(error, "errno", None)
            if not (broke_off and attempts_left) or isinstance(error, FileNotFoundError):
                raise failure(source, error) from error
            start_over = type(error) is OSError or _status(error) == 416
    raise AssertionError("the last attempt returns or raises")


def _require_space(source: Source, folder: Path, offers: dict[str, tuple[int, str]]) -> None:
    needed = sum(size for name, (size, _) in offers.items() if not (folder / name).is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{source.name}: needs {needed:,} bytes, and the disk has {free:,} free: "
            f"{_OTHER_DISK.format(folder.parents[2])}"
        )
    print(f"{source.name}: fetching {needed:,} bytes into {folder}", file=sys.stderr)


# ---- what went wrong, and what to do --------------------------------------------------------


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def failure(source: Source, error: Exception) -> DownloadError:
    """Put into one line what the library, the hub, the network or the disk said."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # not in the cache either, it says: here is why that mattered
    status = _status(error)
    page = f"https://huggingface.co/{source.repo}"
    by_hand = (
        "or put config.json, model.safetensors, vocab.json and merges.txt from "
        f"{page}/tree/{source.revision} into a folder and give its path"
    )
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    said = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
    if isinstance(error, errors.OfflineModeIsEnabled):
        why = f"not whole in the cache, and HF_HUB_OFFLINE forbids the network: unset it, {by_hand}"
    elif isinstance(error, errors.GatedRepoError):
        why = f"its owner wants to be asked first: do that at {page}, then {log_in}"
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"has no revision {source.revision!r}; {page}/tree/main shows those that there are"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        why = f"no such folder here, and no such model on the hub; if it is private, {log_in}"
    elif status in (401, 403):
        why = f"the hub refuses it (HTTP {status}): {log_in}, {by_hand}"
    elif status is not None:
        many = " (too many requests from here)" if status == 429 else ""
        why = f"the hub answers HTTP {status}{many}: run again in some minutes, {by_hand}"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = f"the disk is full: {_OTHER_DISK.format(constants.HF_HUB_CACHE)}"
    elif isinstance(error, OSError) and error.errno and error.filename:
        why = f"the cache cannot be used ({said}): set HF_HOME to a folder that you may write in"
    else:
        why = (
            f"{constants.ENDPOINT} cannot be reached, or does not answer as a hub does "
            f"({type(error).__name__}: {said}): check the network, the proxy (is it a login page?) "
            f"and HF_ENDPOINT and run again, {by_hand}"
        )
    return DownloadError(f"{source.name}: {why}")
