"""The main job from end to end, as `scripts/train.py` runs it: begin, check, train, answer, tell.

    settings ─> start.begin ─> preflight ─> train ─> answers ─> report ─> what to type next

The model is whole on the disk before the first answer is asked for, so that nothing which happens
to the answers can cost the run.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gpt import run_folder
from gpt.answering import answer_test
from gpt.answers import NAME as RESPONSES
from gpt.dataset import InstructionSet
from gpt.errors import UserError, first_line
from gpt.inspecting import Summary, as_text, batch_rows, title_of
from gpt.preflight import is_needed, preflight, try_a_save
from gpt.progress import Progress
from gpt.responses import outcome
from gpt.review import write_report
from gpt.settings import TrainSettings, default_out, flag, names
from gpt.start import begin, take_over
from gpt.stopping import StopRequested, StopRequests
from gpt.tracking import TensorBoard, refuse_without_tensorboard
from gpt.train import OUT_OF_PATIENCE, STOPPED, Run, draw, train

_SHOWN = 2  # examples of the first batch, token by token


def tune(settings: TrainSettings, given: Iterable[str]) -> int:
    """Do it all; the exit code."""
    if settings.track == "tensorboard":
        refuse_without_tensorboard()
    folder = Path(settings.out or default_out(settings))
    with run_folder.locked(folder), StopRequests() as stop:
        run = begin(settings, given, print)
        print(f"\n{settings_table(run.settings, set(given))}\n")
        print(f"{run.n_steps:,} steps, {run.order.steps_per_epoch:,} an epoch, into {folder}\n")
        if isinstance(run.data.train, InstructionSet):
            print(first_batch(run), flush=True)
        if is_needed(run):
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
    told = begin_sitting(run)
    progress = Progress(run.n_steps, run.state.step)
    mirror = None
    if run.settings.track == "tensorboard":
        mirror = TensorBoard(run.folder, run.state.step if run.state.step else -1, progress.say)
        run.track = mirror.log
    ended = "interrupted at once"
    try:
        ended = train(run, progress, stop)
    except Exception as error:
        ended = f"failed: {first_line(error)}"
        raise
    finally:
        progress.close()
        if mirror is not None:
            mirror.close()
        try:
            run_folder.write(run.folder, told | {"ended": ended} | how_far(run))
        except UserError as error:  # which must not stand in the place of why the run failed
            print(error, file=sys.stderr)
    draw(run, print)
    if ended == STOPPED:
        print(f"\nstopped after step {run.state.step:,} of {run.n_steps:,}, and saved. To go on:")
        print(f"  {command('train', '--out', str(run.folder), '--resume')}")
        return stop.exit_code()
    print(f"\n{summary(run, ended)}")
    if run.settings.respond and run.data.test:
        return respond(run, stop)
    print(f"next: {_next(run)}")
    return 0


def respond(run: Run, stop: StopRequests) -> int:
    """Answer the test records with the tuned model and its base, and write the report."""
    settings, out = run.settings, run.folder / RESPONSES
    model, adapter = (settings.model, run.folder) if settings.lora_rank else (run.folder, None)
    print(f"\nthe {len(run.data.test):,} test records, answered by this model and its base:")
    try:
        rows = answer_test(
            model,
            run.data.test,
            out,
            base=None if settings.from_scratch else settings.model,
            adapter=adapter,
            device=settings.device,
            replace_other=True,  # answers of the model as it was before it was resumed
            stop=stop,
        )
    except StopRequested:
        print("\nstopped; the model and the answers so far are saved. To go on:")
        print(f"  {command('respond', '--model', str(run.folder))}")
        return stop.exit_code()
    print(outcome(rows))
    print(f"  {write_report(run.folder)}: the answers side by side, for you to read and grade")
    print(f"next: {command('chat', '--model', str(run.folder))}")
    return 0


def begin_sitting(run: Run) -> dict:
    """run.json of a run at work: each sitting with its own command, versions and hardware."""
    told = run_folder.read(run.folder)
    sitting = run_folder.circumstances() | {"from_step": run.state.step}
    told |= {
        "settings": run.settings.to_dict(),
        "ended": "not yet",
        "sittings": [*told.get("sittings", []), sitting],
    }
    run_folder.write(run.folder, told)
    return told


def how_far(run: Run) -> dict:
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
    if run.settings.prompt_loss_weight:
        title += f"; prompts are in the loss too, each token as {run.settings.prompt_loss_weight:g}"
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
    what, peer = ("adapter", "PEFT") if run.settings.lora_rank else ("model", "transformers")
    made = {
        "best": f"the {what} of step {state.best_step:,}, as {peer} opens it, too",
        "last": f"the {what} of step {state.step:,}, and what to resume from",
        "loss.png": "the curve",
        "samples.md": "answers to a few validation prompts, as they changed",
        "metrics.jsonl": "every logged step",
        "run.json": "settings, versions, data: what it was made with",
    }
    for name, what in made.items():
        if (folder / name).exists():
            lines.append(f"  {folder / name}: {what}")
    return "\n".join(lines)


def _next(run: Run) -> str:
    if run.settings.objective == "pretrain":
        return command("train", "--model", str(run.folder), "--data", "data/instructions.json")
    return command("chat", "--model", str(run.folder))


def command(script: str, *arguments: str) -> str:
    return shlex.join(["python", f"scripts/{script}.py", *arguments])
