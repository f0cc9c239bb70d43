"""The main job from end to end, as `scripts/train.py` runs it: begin, check, train, tell.

settings ─> start.begin ─> preflight ─> train ─> what it made, and what to type next
"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gpt import run_folder
from gpt.dataset import InstructionSet
from gpt.errors import UserError
from gpt.inspecting import Summary, as_text, batch_rows, title_of
from gpt.preflight import preflight, try_a_save
from gpt.progress import Progress
from gpt.settings import TrainSettings, default_out, flag, names
from gpt.start import begin, take_over
from gpt.stopping import StopRequests
from gpt.tracking import TensorBoard
from gpt.train import OUT_OF_PATIENCE, STOPPED, Run, draw, train

_SHOWN = 2  # examples of the first batch, token by token


def tune(settings: TrainSettings, given: Iterable[str]) -> int:
    """Do it all; the exit code."""
    folder = Path(settings.out or default_out(settings))
    with run_folder.locked(folder), StopRequests() as stop:
        run = begin(settings, given, print)
        print(f"\n{settings_table(run.settings, set(given))}\n")
        print(f"{run.n_steps:,} steps, {run.order.steps_per_epoch:,} an epoch, into {folder}\n")
        if isinstance(run.data.train, InstructionSet):
            print(first_batch(run), flush=True)
        preflight(run, print)
        if run.settings.preflight:
            n_bytes = try_a_save(run)
            print(
                f"preflight: the longest batch and a validation batch fit, a save of {n_bytes:,} "
                "bytes went well; nothing was trained"
            )
            return 0
        take_over(run)
        return _train(run, stop)


def _train(run: Run, stop: StopRequests) -> int:
    told = run_folder.read(run.folder)
    progress = Progress(run.n_steps, run.state.step)
    mirror = None
    if run.settings.track == "tensorboard":
        mirror = TensorBoard(run.folder, run.state.step if run.state.step else -1, progress.say)
        run.track = mirror.log
    try:
        ended = train(run, progress, stop)
    except UserError as error:
        told["ended"] = f"failed: {error}"
        raise
    except KeyboardInterrupt:
        told["ended"] = "interrupted at once"
        raise
    else:
        told["ended"] = ended
    finally:
        progress.close()
        if mirror is not None:
            mirror.close()
        told |= outcome(run)
        run_folder.write(run.folder, told)
    draw(run, print)
    if ended == STOPPED:
        print(f"\nstopped after step {run.state.step:,} of {run.n_steps:,}, and saved. To go on:")
        print(f"  {command('train', '--out', str(run.folder), '--resume')}")
        return stop.exit_code()
    print(f"\n{summary(run, ended)}")
    return 0


def outcome(run: Run) -> dict:
    """What run.json says of how far the run came."""
    state = run.state
    return {
        "last_written": run_folder.now(),
        "result": {
            "step": state.step,
            "tokens": state.tokens,
            "supervised_tokens": state.supervised_tokens,
            "seconds": round(state.seconds, 3),
            "best_validation_loss": state.best_loss,
            "best_step": state.best_step,
        },
    }


# ---- what is printed -----------------------------------------------------------------------


def settings_table(settings: TrainSettings, given: set[str]) -> str:
    """All settings, in two columns; a star for what was set by hand."""
    cells = []
    for name in names():
        value = getattr(settings, name)
        shown = " ".join(value) if isinstance(value, list) else "-" if value is None else str(value)
        cells.append(f"{'*' if name in given else ' '} {flag(name)[2:]:<25}{shown}")
    width = shutil.get_terminal_size((100, 24)).columns
    half = -(-len(cells) // 2)
    if width < 90 or max(map(len, cells[:half])) > width // 2:
        return "\n".join(cells)
    left, right = cells[:half], [*cells[half:], ""]
    return "\n".join(f"{a:<{width // 2}}{b}".rstrip() for a, b in zip(left, right, strict=False))


def first_batch(run: Run) -> str:
    """The first examples that the model will see, as `inspect_data.py` shows them."""
    data = run.data.train
    step = next(run.order.steps(*divmod(run.state.step, run.order.steps_per_epoch)))
    shown = [int(i) for i in step.examples[:_SHOWN]]
    rows = batch_rows(data.examples, shown, run.data.records.train, run.tokenizer)
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size((100, 24)).columns
    title = f"{len(shown)} of the first batch's {len(step.examples)} examples, with the "
    title += title_of(run.template, run.settings.max_length)
    nothing = Summary(np.array([], int), 0, [], run.settings.max_length)
    return as_text(title, rows, nothing, color, width).rstrip() + "\n"


def summary(run: Run, ended: str) -> str:
    state, folder = run.state, run.folder
    minutes, seconds = divmod(round(state.seconds), 60)
    lines = [
        f"{ended} after {state.step:,} steps and {minutes}:{seconds:02} minutes; best validation "
        f"loss {state.best_loss:.3f}, at step {state.best_step:,}"
    ]
    if ended == OUT_OF_PATIENCE:
        lines[0] += f" (--patience {run.settings.patience})"
    made = {
        "best": f"the model of step {state.best_step:,}, as transformers opens it, too",
        "last": f"the model of step {state.step:,}, and what to resume from",
        "loss.png": "the curve",
        "samples.md": "answers to a few validation prompts, as they changed",
        "metrics.jsonl": "every logged step",
        "run.json": "settings, versions, data: what it was made with",
    }
    for name, what in made.items():
        if (folder / name).exists():
            lines.append(f"  {folder / name}: {what}")
    return "\n".join([*lines, f"next: {_next(run)}"])


def _next(run: Run) -> str:
    if run.settings.objective == "pretrain":
        return command("train", "--model", str(run.folder), "--data", "data/instructions.json")
    return command("plot", str(run.folder), "--lr")


def command(script: str, *arguments: str) -> str:
    return shlex.join(["python", f"scripts/{script}.py", *arguments])
