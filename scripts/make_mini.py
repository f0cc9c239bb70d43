"""Make the embedded model again: its corpus, its vocabulary, its pretraining, its folder.

python scripts/make_mini.py                       # into checkpoints/mini: hours on a CPU
python scripts/make_mini.py --tokens 400k --steps 40 --out /tmp/try    # the same way, in minutes

What is already there of an earlier attempt is used: killed and run again, it goes on.
"""

import itertools
import json
import math
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs without being installed

from gpt.cli import ArgumentParser, run

# 4 blocks of 256 channels and a vocabulary of 4,096: 4.3 million parameters, 8.6 MB in fp16.
SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 256, "n_ctx": 256}
VOCAB_SIZE = 4096
# 2,048 tokens a step: a small model learns more from many small steps than from few large ones.
LEARNING = {
    "batch_size": 8, "lr": 1.5e-3, "warmup": 0.02, "min_lr": 0.05, "beta2": 0.99,
    "val_fraction": 0.003,
}  # fmt: skip
_READ_FOR_VOCABULARY = 60_000  # documents
_BEGINNINGS = ("The capital of", "Once upon a time")


def main() -> None:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "checkpoints" / "mini", metavar="FOLDER")
    add(
        "--work", type=Path, default=ROOT / "checkpoints" / "making-mini", metavar="FOLDER",
        help="where corpus, vocabulary and run lie (default: checkpoints/making-mini)",
    )  # fmt: skip
    add("--tokens", default="30M", metavar="N", help="about as much corpus (default: 30M)")
    add("--steps", type=int, default=14_000, metavar="N", help="of 2,048 tokens (default: 14,000)")
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or mps")
    args = parser.parse_args()

    args.work.mkdir(parents=True, exist_ok=True)
    corpus, vocabulary = args.work / "corpus.txt", args.work / "vocabulary"
    if not corpus.exists():
        write_corpus(corpus, args.tokens)
    if not vocabulary.exists():
        write_vocabulary(vocabulary, corpus)
    if code := pretrain(args.work / "run", vocabulary, corpus, args.steps, args.device):
        sys.exit(code)
    export(args.work / "run", args.out, corpus)
    print(f"{args.out}: the model, and its card in README.md")
    print("next: python scripts/train.py")


def write_corpus(path: Path, tokens: str) -> None:
    import subprocess

    print(f"{path}: about {tokens} tokens of corpus")
    partial = path.with_suffix(".part")
    command = ["corpus", "--tokens-about", tokens, "--seed", "0", "--out", str(partial)]
    subprocess.run([sys.executable, str(ROOT / "data" / "make.py"), *command], check=True)
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
        "lr": f"{LEARNING['lr']:g}",
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
