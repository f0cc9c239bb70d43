"""Make the embedded model again: its corpus, its vocabulary, its pretraining, its folder.

python scripts/make_mini.py                       # into checkpoints/mini: hours on a CPU
python scripts/make_mini.py --tokens 400k --steps 40 --out /tmp/try    # the same way, in minutes

What is already there of an earlier attempt is used: killed and run again, it goes on. What was made
otherwise (another size, other rules of the data) is refused, and never exported by mistake.
"""

import argparse
import hashlib
import itertools
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs without being installed

from data.make import size
from gpt.cli import ArgumentParser, run
from gpt.errors import UserError

# 4 blocks of 256 channels and a vocabulary of 4,096: 4.3 million parameters, 8.6 MB in fp16.
SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 256, "n_ctx": 256}
VOCAB_SIZE = 4096
# 2,048 tokens a step: a small model learns more from many small steps than from few large ones.
LEARNING = {
    "batch_size": 8, "lr": 1.5e-3, "warmup": 0.02, "min_lr": 0.05, "beta2": 0.99,
    "val_fraction": 0.003,
}  # fmt: skip
MINI = ROOT / "checkpoints" / "mini"
_READ_FOR_VOCABULARY = 60_000  # documents
_BEGINNINGS = ("The capital of", "Once upon a time")


def main() -> None:
    from gpt.hardware import find_device

    args = parse_arguments()
    find_device(args.device)  # a wrong one is refused now, and not after the corpus
    claim(args.work, stamp(args.tokens, args.steps))
    corpus, vocabulary = args.work / "corpus.txt", args.work / "vocabulary"
    if not corpus.exists():
        write_corpus(corpus, args.tokens)
    if not vocabulary.exists():
        write_vocabulary(vocabulary, corpus)
    if code := pretrain(args.work / "run", vocabulary, corpus, args.steps, args.device):
        print("That would only train on. To go on here, up to the finished folder:")
        print("  python scripts/make_mini.py", *given())
        sys.exit(code)
    export(args.work / "run", args.out, corpus)
    print(f"{args.out}: the model, and its card in README.md")
    other = [] if args.out.resolve() == MINI.resolve() else ["--model", quoted(args.out)]
    print("next: python scripts/train.py", *other)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=MINI, metavar="FOLDER")
    add(
        "--work", type=Path, metavar="FOLDER",
        help="where corpus, vocabulary and run lie (default: beside --out, as making-mini)",
    )  # fmt: skip
    add("--tokens", type=size, default="30M", metavar="N", help="of corpus, about (default: 30M)")
    add(
        "--steps", type=above_zero, default=14_000, metavar="N",
        help="of 2,048 tokens (default: 14,000)",
    )  # fmt: skip
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or mps")
    args = parser.parse_args()
    args.work = args.work or args.out.parent / f"making-{args.out.name}"
    return args


def above_zero(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a number of one or more, not {text!r}")
    return int(text)


def given() -> list[str]:
    return [quoted(argument) for argument in sys.argv[1:]]


def quoted(argument: object) -> str:
    text = str(argument)
    return f'"{text}"' if " " in text else text


def stamp(tokens: int, steps: int) -> dict[str, Any]:
    """What a work folder was made with, and must be gone on with."""
    sources = [*(ROOT / "data").rglob("*.py"), ROOT / "gpt" / "bpe.py"]
    rules = hashlib.sha256()
    for path in sorted(sources, key=lambda path: path.as_posix()):
        rules.update(path.relative_to(ROOT).as_posix().encode("utf-8") + b"\0")
        rules.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return {
        "tokens": tokens,
        "steps": steps,
        "vocab_size": VOCAB_SIZE,
        "shape": SHAPE,
        "learning": LEARNING,
        "rules of the data": rules.hexdigest(),
    }


def claim(work: Path, wanted: dict[str, Any]) -> None:
    """Begin a work folder, or go on in one that was begun in just this way."""
    path = work / "stamp.json"
    try:
        work.mkdir(parents=True, exist_ok=True)
        if not any(work.iterdir()):
            path.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            return
    except OSError as error:
        raise UserError(f"{work}: cannot be written: {error.strerror or error}") from None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key in wanted if found.get(key) != wanted[key]]
    except (OSError, ValueError, AttributeError):
        raise UserError(
            f"{work}: holds files and no stamp.json that says how they were made.\n"
            "Give another --work, or remove this folder."
        ) from None
    if other:
        told = ", ".join(
            key if key == "rules of the data" else f"{key} {found.get(key)}" for key in other
        )
        raise UserError(
            f"{work}: was begun with other settings ({told}).\n"
            "Give another --work or --out, or remove this folder."
        )


def write_corpus(path: Path, tokens: int) -> None:
    from data.make import write_corpus as write

    print(f"{path}: about {tokens:,} tokens of corpus")
    partial = path.with_suffix(".part")
    write(partial, tokens, seed=0)
    partial.replace(path)


def write_vocabulary(folder: Path, corpus: Path) -> None:
    """Merges learnt from the corpus, and from the templates, which it never shows: the words that
    stand around each instruction are then a few tokens, and not a letter each.
    """
    from gpt.bpe import train_vocabulary
    from gpt.pretraining import documents
    from gpt.records import Turn
    from gpt.template import BUILT_IN

    print(f"{folder}: a vocabulary of {VOCAB_SIZE:,} entries")
    texts = list(itertools.islice(documents(corpus), _READ_FOR_VOCABULARY))
    forms = [
        "".join(text for _, text in template.segments([Turn("user", "It", input)]))
        for template in BUILT_IN.values()
        for input in ("", "it")
    ]
    often = forms * max(1, len(texts) // 40)
    files = train_vocabulary(itertools.chain(texts, often), VOCAB_SIZE)
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, content in files.items():
        (partial / name).write_bytes(content)
    partial.replace(folder)


def pretrain(folder: Path, vocabulary: Path, corpus: Path, steps: int, device: str) -> int:
    from gpt import run_folder
    from gpt.settings import TrainSettings
    from gpt.tuning import tune

    if (folder / "run.json").exists() and run_folder.read(folder).get("ended") == "finished":
        print(f"{folder}: pretrained already")
        return 0
    settings = TrainSettings(
        model=str(vocabulary), data=[str(corpus)], objective="pretrain", from_scratch=True,
        out=str(folder), max_steps=steps, validate_every=max(1, steps // 10),
        save_every=max(1, steps // 30), log_every=max(1, steps // 390), device=device,
        resume=True, **SHAPE, **LEARNING,
    )  # fmt: skip
    return tune(settings, {"out", "resume", "device"})


def export(pretrained: Path, out: Path, corpus: Path) -> None:
    """best/ in fp16, with what a person should know of it."""
    import torch

    from gpt.files import replace_file
    from gpt.weights import load_model, save_model

    model = load_model(pretrained / "best")
    save_model(model.to(torch.float16), out)
    shutil.copyfile(pretrained / "loss.png", out / "loss.png")
    facts = facts_of(pretrained, out, corpus)
    card = (ROOT / "data" / "mini_card.md").read_text(encoding="utf-8")
    replace_file(out / "README.md", card.format(**facts).encode("utf-8"))


def facts_of(pretrained: Path, out: Path, corpus: Path) -> dict[str, str]:
    """The numbers of the card, of the very files that it lies beside."""
    import torch

    from gpt.generate import generate
    from gpt.metrics_file import read_run
    from gpt.pretraining import load_text
    from gpt.tokenizer import Tokenizer
    from gpt.weights import load_model

    told = json.loads((pretrained / "run.json").read_text(encoding="utf-8"))
    model = load_model(out, dtype=torch.float32)
    tokenizer = Tokenizer.from_folder(out)
    _, held_out = load_text([corpus], tokenizer, model.config.n_ctx, LEARNING["val_fraction"])
    loss, n_tokens = mean_loss(model, held_out.ids)
    n_bytes = sum(len(tokenizer.token_bytes(i)) for i in held_out.ids[:, 1:].flatten().tolist())
    prompts = [tokenizer.encode(text) for text in _BEGINNINGS]
    answers = generate(model, prompts, 40, end_id=tokenizer.end_id)
    continued = [
        f"    {text}{tokenizer.decode(answer.ids)}".replace("\n", "\n    ")
        for text, answer in zip(_BEGINNINGS, answers, strict=True)
    ]
    lines = read_run(pretrained).lines
    did, shape = told["settings"], model.config
    curve = "\n".join(
        f"| {line['step']:,} | {line['tokens'] / 1e6:.1f} | "
        f"{line.get('train_loss', math.nan):.3f} | {line['val_loss']:.3f} |"
        for line in lines
        if "val_loss" in line
    ).replace("nan", "")
    return {
        "parameters": f"{model.n_params():,}",
        "steps": f"{told['result']['step']:,}",
        "tokens": f"{told['result']['tokens'] / 1e6:.1f}",
        "minutes": f"{told['result']['seconds'] / 60:.0f}",
        "hardware": told["hardware"],
        "n_layer": str(shape.n_layer),
        "n_head": str(shape.n_head),
        "n_embd": str(shape.n_embd),
        "n_ctx": str(shape.n_ctx),
        "vocab_size": f"{shape.vocab_size:,}",
        "step_tokens": f"{did['batch_size'] * shape.n_ctx:,}",
        "schedule": did["schedule"],
        "lr": f"{did['lr']:g}",
        "min_lr": f"{did['min_lr']:.0%}",
        "warmup": f"{did['warmup']:.0%}",
        "beta2": f"{did['beta2']:g}",
        "weight_decay": f"{did['weight_decay']:g}",
        "dropout": f"{did['dropout']:g}",
        "n_tokens": f"{n_tokens:,}",
        "loss": f"{loss:.3f}",
        "perplexity": f"{math.exp(loss):.2f}",
        "bits": f"{loss * n_tokens / math.log(2) / n_bytes:.3f}",
        "curve": curve,
        "continued": "\n\n".join(continued),
    }


def mean_loss(model, rows) -> tuple[float, int]:
    import torch
    import torch.nn.functional as F

    total = 0.0
    with torch.no_grad():
        for part in torch.from_numpy(rows).long().split(16):
            logits = model(part[:, :-1]).flatten(0, 1)
            total += F.cross_entropy(logits, part[:, 1:].flatten(), reduction="sum").item()
    n = rows[:, 1:].size
    return total / n, n


if __name__ == "__main__":
    run(main)
