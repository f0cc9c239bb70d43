"""What stands between a person and the first step: not what no step needs."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MINI = ROOT / "checkpoints" / "mini"

# In a process of its own: which slow packages are there when a model is loaded, and at step 1.
LOOK = """
import json, sys
import torch
with_torch = set(sys.modules)
def come():
    return sorted({name for name in SLOW if name in sys.modules and name not in with_torch})
SLOW = ("torch._dynamo", "sympy", "matplotlib", "transformers", "huggingface_hub", "scipy",
        "torch.utils.tensorboard", "http.server", "unittest.mock", "gpt.preflight_was_run")
import gpt.train, gpt.tuning
from gpt.options import parse, parser_of
from gpt.weights import load_model
load_model(sys.argv[2])
found = [come()]
gpt.tuning.preflight = lambda *_: sys.modules.setdefault("gpt.preflight_was_run", None)
take_step = gpt.train.take_step
def first_step(*arguments):
    found.append(come())
    return take_step(*arguments)
gpt.train.take_step = first_step
sys.exit(gpt.tuning.tune(*parse(parser_of(""))) or print("found", json.dumps(found)))
"""


def test_nothing_slow_is_imported_or_tried_that_no_step_needs(tmp_path):
    records = [{"instruction": f"Say {n}.", "output": str(n)} for n in range(40)]
    (tmp_path / "data.json").write_text(json.dumps(records), encoding="utf-8")
    arguments = ["--model", MINI, "--data", tmp_path / "data.json", "--out", tmp_path / "run"]
    arguments += ["--max-steps", "1", "--no-respond", "--device", "cpu"]
    command = [sys.executable, "-c", LOOK, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    loaded, at_first_step = json.loads(ended.stdout.rpartition("found ")[2])
    assert loaded == []
    # torch.optim imports torch's compiler, and that sympy, whether or not anything is compiled.
    assert set(at_first_step) <= {"torch._dynamo", "sympy", "unittest.mock"}
