"""The main job from end to end, as `scripts/train.py` runs it: begin, check, train, answer, tell.

    settings ─> start.begin ─> preflight ─> train ─> answers ─> report ─> what to type next

The model is whole on the disk before the first answer is asked for, so that nothing which happens
to the answers can cost the run.
"""

import contextlib
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gpt import run_folder
from gpt.answering import answer_test
from gpt.answers import NAME as RESPONSES
from gpt.dataset import InstructionSet
from gpt.errors import UserError
from gpt.inspecting import Summary, as_text, batch_rows, title_of
from gpt.parallel import Ranks, joined
from gpt.preflight import is_needed, preflight, try_a_save
from gpt.progress import Progress, draw
from gpt.responses import outcome
from gpt.review import write_report
from gpt.settings import SettingsError, TrainSettings, default_out, flag, names
from gpt.start import begin, take_over
from gpt.stopping import StopRequested, StopRequests
from gpt.tracking import TensorBoard, refuse_without_tensorboard
from gpt.train import OUT_OF_PATIENCE, STOPPED, Run, train

_SHOWN = 2  # examples of the first batch, token by token


def tune(settings: TrainSettings, given: Iterable[str]) -> int:
    """Do it all; the exit code."""
    if settings.track == "tensorboard":
        refuse_without_tensorboard()
    folder = Path(settings.out or default_out(settings))
    with (
        joined(settings.device) as ranks,  # first: who waits for others can still be ended
        StopRequests(ranks) as stop,
        _ours(folder, ranks),
    ):
        settings, given = _as_restarted(settings, set(given), folder, ranks)
        if settings.shard and ranks.n == 1 and "shard" in given:
            raise SettingsError(
                "--shard would be ignored by one process alone: torchrun --nproc-per-node 8 "
                "scripts/train.py … starts eight"
            )
        with ranks.patient("getting ready"):
            run = begin(settings, given, ranks.speaks(print), ranks)
        print(f"\n{settings_table(run.settings, set(given))}\n")
        print(f"{run.n_steps:,} steps, {run.order.steps_per_epoch:,} an epoch, into {folder}\n")
        if isinstance(run.data.train, InstructionSet):
            print(first_batch(run), flush=True)
        if is_needed(run):
            with ranks.patient("trying a batch"):
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


@contextlib.contextmanager
def _ours(folder: Path, ranks: Ranks) -> Iterator[None]:
    """The run's folder, locked by the first rank and seen by all of them."""
    with run_folder.locked(folder) if ranks.is_first else contextlib.nullcontext():
        _refuse_unless_shared(folder, ranks)
        yield


def _refuse_unless_shared(folder: Path, ranks: Ranks) -> None:
    """Another machine's own folder of that name would keep its ranks' pieces from the others'.

    (A mark that a kill leaves is as what it leaves of run.json: in nobody's way.)
    """
    if ranks.n == 1:
        return
    mark, word = folder / f".{run_folder.RUN}.new", ranks.meeting.start.encode()
    try:
        if ranks.is_first:
            mark.write_bytes(word)
        ranks.wait()
        is_shared = mark.read_bytes() == word
    except OSError as error:
        if ranks.is_first:
            fault = f"{folder}: cannot be written: {error.strerror or error}"
            raise run_folder.RunFolderError(fault) from None
        is_shared = False
    if not is_shared:
        raise run_folder.RunFolderError(
            f"{folder}: is not seen from here: --out must be on a disk that all machines share"
        )
    ranks.wait()
    if ranks.is_first:
        mark.unlink(missing_ok=True)


def _as_restarted(
    settings: TrainSettings, given: set[str], folder: Path, ranks: Ranks
) -> tuple[TrainSettings, set[str]]:
    """Where torchrun had to start anew what it had started: go on with that very run."""
    met = ranks.meeting
    goes_on = met is not None and met.is_restart and (folder / run_folder.RUN).is_file()
    # (If it is another's run, ours had failed before it took the folder over.)
    goes_on = ranks.told(goes_on and run_folder.read(folder).get("launch") == met.launch)
    if not goes_on:
        return settings, given
    return replace(settings, resume=True, overwrite=False), given - {"overwrite"}


def _train(run: Run, stop: StopRequests) -> int:
    ranks = run.ranks
    told = begin_sitting(run) if ranks.is_first else {}
    progress = ranks.only_first(lambda: Progress(run.n_steps, run.state.step))
    mirror = None
    if run.settings.track == "tensorboard" and ranks.is_first:
        mirror = TensorBoard(run.folder, run.state.step if run.state.step else -1, progress.say)
        run.track = mirror.log
    ended, of_ranks = "interrupted at once", {}
    try:
        ended = train(run, progress, stop)
        of_ranks = account_of_ranks(run)
    except Exception as error:
        ended = f"failed: {ranks.cause_of(error)}" if ranks.is_first else "failed"
        raise
    except KeyboardInterrupt:
        run.writer.abandon()
        raise
    finally:
        progress.close()
        if mirror is not None:
            mirror.close()
        try:
            if ranks.is_first:
                run_folder.write(run.folder, told | {"ended": ended} | how_far(run) | of_ranks)
        except UserError as error:  # which must not stand in the place of why the run failed
            print(error, file=sys.stderr)
    if ranks.is_first:
        draw(run.folder, print)
    if ended == STOPPED:
        print(f"\nstopped after step {run.state.step:,} of {run.n_steps:,}, and saved. To go on:")
        print(f"  {command('train', '--out', str(run.folder), '--resume')}")
        return stop.exit_code()
    if ranks.is_first:
        print(f"\n{summary(run, ended)}{as_line(of_ranks)}")
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
            ranks=run.ranks,
        )
    except StopRequested:
        print("\nstopped; the model and the answers so far are saved. To go on:")
        print(f"  {command('respond', '--model', str(run.folder))}")
        return stop.exit_code()
    if not run.ranks.is_first:
        return 0
    print(outcome(rows))
    print(f"  {write_report(run.folder)}: the answers side by side, for you to read and grade")
    print(f"next: {command('chat', '--model', str(run.folder))}")
    return 0


def begin_sitting(run: Run) -> dict:
    """run.json of a run at work: each sitting with its own command, versions and hardware."""
    told = run_folder.read(run.folder)
    sitting = run_folder.circumstances() | {"from_step": run.state.step, "ranks": run.ranks.n}
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


def account_of_ranks(run: Run) -> dict:
    """What run.json says of each rank, where there are several: its memory, and its work."""
    learner = run.learner
    told = {
        "host": socket.gethostname(),
        "device": str(learner.device),
        "memory_bytes": learner.peak_memory(),
        "seconds_of_work": round(learner.worked, 3),
    }
    of_ranks = run.ranks.collect(told)
    return {"of_ranks": of_ranks} if len(of_ranks) > 1 else {}


def as_line(account: dict) -> str:
    """The ranks for a person: the most memory of one, and whether the others waited for one."""
    if not account:
        return ""
    of_ranks = account["of_ranks"]
    work = [told["seconds_of_work"] for told in of_ranks]
    slowest = work.index(max(work))
    beyond = max(work) / max(sum(work) / len(work), 1e-9) - 1
    most = max(told["memory_bytes"] or 0 for told in of_ranks)
    memory = f" at most {most / 1e9:.1f} GB each;" if most else ""
    return (
        f"\n  {len(of_ranks)} ranks:{memory} the slowest, rank {slowest}, worked {beyond:.0%} "
        "longer than the mean"
    )


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
