"""Instruction-tune a GPT-2, or pretrain a small one.

python scripts/train.py                                        # the small model that comes with it
python scripts/train.py --model gpt2 --data mine.json          # a pretrained one, your own data
python scripts/train.py --model gpt2-xl --data mine.json --lora-rank 16 --quantize nf4   # QLoRA
python scripts/train.py --out checkpoints/gpt2-mine --resume   # go on after a stop
python scripts/train.py --model gpt2-medium --data mine.json --preflight   # would it fit?
torchrun --nproc-per-node 8 scripts/train.py --model gpt2-xl --data mine.json   # on eight GPUs

A flag wins over a line of --config FILE.toml, and that over the default.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import run
from gpt.options import parse, parser_of


def main() -> None:
    settings, given = parse(parser_of(__doc__))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of a rank that is gone, we tell
    from gpt.parallel import leave  # and with it torch, which --help needs not
    from gpt.tuning import tune

    leave(tune(settings, given))


if __name__ == "__main__":
    run(main)
