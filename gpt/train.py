"""The loop. Everything before it got things ready; everything after it looks at what it left.

    start.py ─> Run ─> train: for each step of the order ─> learn ─> log ─> validate ─> save
                                                            metrics.jsonl  best/       last/

What it promises, and how:

  - Killed anywhere and resumed, a run is the run that was never killed. Its state is the model, the
    optimizer, the random generators and a few counts; the order of the data and the learning rate
    are functions of the step. A line of metrics.jsonl that was written after the last save is cut
    off, and written again when the step is done again.
  - Looking changes nothing. Validation and samples draw no random numbers, and the order of the
    data is drawn from generators of its own.
  - Asked to stop, it ends after the step, saved. If that comes during a validation, the step's line
    waits in the checkpoint, and the resumed run validates first.
  - A GPU is kept busy: it is asked what a step came to when the next one's gradient is on its way,
    and before that one changes a weight.

    python -m gpt.train         # tunes a tiny model for a few seconds, and draws its curve
"""

import contextlib
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt.background import AT_ONCE, Writer
from gpt.batching import Batch
from gpt.checkpoint import State, rng_states, save_best, save_last
from gpt.cli import run as run_command
from gpt.dataset import Data
from gpt.learner import Diverged, Learned, Learner, validation_batches
from gpt.memory import explained
from gpt.metrics_file import NAME, MetricsFile
from gpt.optimizer import rate_at
from gpt.ordering import Order
from gpt.parallel import ALONE, Ranks
from gpt.progress import Progress, draw
from gpt.samples import show_samples
from gpt.settings import TrainSettings
from gpt.stopping import StopRequested, StopRequests
from gpt.template import Template
from gpt.tokenizer import Tokenizer


@dataclass
class Run:
    """All that a run is, once it stands: `start.py` builds it, new or from its checkpoint."""

    settings: TrainSettings  # nothing in it is left to choose
    folder: Path
    data: Data
    tokenizer: Tokenizer
    template: Template
    learner: Learner
    order: Order
    n_steps: int
    state: State = field(default_factory=State)
    ranks: Ranks = ALONE  # the processes that do this together, of which this is one
    writer: Writer = AT_ONCE  # or in the background
    is_new: bool = False  # and so may yet have to clear its folder: see start.take_over
    track: Callable[[dict[str, Any]], object] = lambda line: None
    counted_at: float = 0.0  # when the last step was counted, by time.perf_counter
    metrics: MetricsFile = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = self.ranks.only_first(lambda: MetricsFile(self.folder / NAME))

    @property
    def last(self) -> Path:
        return self.folder / "last"

    @property
    def best(self) -> Path:
        return self.folder / "best"


@dataclass
class Taken:
    """A step that is made, or on a GPU under way, and not counted yet."""

    examples: Any
    lr: float
    began: float
    rng: dict[str, Tensor]  # where the generators stood at its end
    learned: Callable[[], Learned]  # waits for it


FINISHED, OUT_OF_PATIENCE, STOPPED = "finished", "no better for long", "stopped"


def train(run: Run, progress: Progress, stop: StopRequests) -> str:
    """Go from `run.state` to the end; why it ended. Whatever happens, last/ is as good as it gets.

    A step that fails has changed no weight, but drawn random numbers: they are put back, so that
    what is saved is the end of the step before, and a resumed run does that step again.
    """
    rng, taken = rng_states(), None

    def settle() -> None:
        """Count the step that was taken, if there is one, and do what follows it."""
        nonlocal rng, taken
        if taken is None:
            return
        step, taken = taken, None
        line = count_step(run, step)
        rng = step.rng
        finish_step(run, line, progress, stop)

    try:
        if run.state.untold is not None:
            finish_step(run, run.state.untold, progress, stop)
        place = divmod(run.state.step, run.order.steps_per_epoch)
        try:
            for n_before, step in enumerate(run.order.steps(*place), run.state.step):
                if n_before >= run.n_steps or out_of_patience(run):
                    break
                stop.check()
                run.writer.check()
                taken = take_step(run, n_before, step.examples, settle)
                if not run.learner.looks_later or is_followed(run, n_before + 1):
                    settle()
        finally:
            settle()
        save_at_once(run)
        return OUT_OF_PATIENCE if run.state.step < run.n_steps else FINISHED
    except StopRequested:
        save_at_once(run)
        return STOPPED
    except Exception as error:
        # (Of several ranks some may be gone. But a step that diverged, all have found so.)
        if run.ranks.n == 1 or isinstance(error, Diverged):
            with run.ranks.patient("saving"):
                run.writer.join()
            if run.state.step > 0:
                save_after(error, run, rng, progress)
        if isinstance(error, Diverged):
            lr = rate_at(run.state.step, run.n_steps, run.settings.lr, run.settings)
            raise Diverged(
                f"step {run.state.step + 1}: {error}, and no step was made with it: lower --lr "
                f"({lr:.1e} here), or set --clip 1 and some --warmup"
            ) from None
        raise


def take_step(run: Run, n_before: int, examples: Any, settle: Callable[[], object]) -> Taken:
    """One optimizer step after so many others. settle: the one before, if that is still to do."""
    began = time.perf_counter()
    lr = rate_at(n_before, run.n_steps, run.settings.lr, run.settings)
    run.ranks.seed(run.settings.seed, n_before)
    batches = run.learner.batches_of(run.data.train, examples)

    def widest() -> Batch:
        return max(batches, key=lambda batch: batch.inputs.numel())

    with explained(run.learner, widest, "training"), run.ranks.hurried("a step"):
        gradient = run.learner.gradient(batches)
        settle()
        learned = run.learner.update(gradient, lr)
    return Taken(examples, lr, began, rng_states(), learned)


def is_followed(run: Run, step: int) -> bool:
    """Whether something comes after the step that needs the weights as it leaves them."""
    every = (run.settings.validate_every, run.settings.save_every, run.order.steps_per_epoch)
    return step >= run.n_steps or any(step % n == 0 for n in every)


def count_step(run: Run, taken: Taken) -> dict[str, Any]:
    """What the step has come to, and what is to be said of it."""
    state, train = run.state, run.data.train
    learned = taken.learned()
    began, run.counted_at = max(taken.began, run.counted_at), time.perf_counter()
    seconds = run.counted_at - began
    n_tokens = int(train.lengths[taken.examples].sum())
    state.step += 1
    state.tokens += n_tokens
    state.supervised_tokens += train.n_supervised(taken.examples)
    state.loss_sum += learned.loss_sum
    state.weight_sum += learned.weight_sum
    state.seconds += seconds
    state.step_seconds += seconds
    state.step_tokens += n_tokens
    return {
        "step": state.step,
        "epoch": round(state.step / run.order.steps_per_epoch, 6),
        "tokens": state.tokens,
        "supervised_tokens": state.supervised_tokens,
        "lr": taken.lr,
        "grad_norm": learned.grad_norm,
        "tokens_per_second": state.step_tokens / state.step_seconds,
        "memory_bytes": run.learner.peak_memory(),
    }


def finish_step(run: Run, line: dict[str, Any], progress: Progress, stop: StopRequests) -> None:
    """Everything after the step itself. Until its line is written, the step is `untold`."""
    settings, state = run.settings, run.state
    is_last = state.step >= run.n_steps
    state.untold = line
    told = dict(line)
    if is_last or state.step % settings.validate_every == 0:
        began = time.perf_counter()
        told["val_loss"] = validate(run, stop)
        state.seconds += time.perf_counter() - began
        if is_better(state, told["val_loss"]):
            with run.ranks.patient("saving"):
                save_best(run.learner.model, run.best, state.step, told["val_loss"], run.writer)
    if state.weight_sum and (is_last or "val_loss" in told or state.step % settings.log_every == 0):
        told["train_loss"] = state.loss_sum / state.weight_sum
    told["seconds"] = round(state.seconds, 3)
    mean = state.loss_sum / state.weight_sum if state.weight_sum else None  # so far
    progress.step({"train_loss": mean} | told)
    if settings.samples and (is_last or state.step % run.order.steps_per_epoch == 0):
        answer_some(run, progress.say)
    if "train_loss" in told or "val_loss" in told:
        run.metrics.append(told)
    count(state, told)  # all at once: whatever fails before it leaves the step untold
    run.track(told)
    if "val_loss" in told and state.step > 0 and run.ranks.is_first:  # one point is no curve
        draw(run.folder, progress.say, again_after=30.0)
    if state.step % settings.save_every == 0:
        save(run, run.writer)


def validate(run: Run, stop: StopRequests) -> float:
    learner, data = run.learner, run.data.validation

    def widest() -> Batch:
        return data.batch(validation_batches(data, learner.examples_at_once)[0])

    with explained(learner, widest, "validation"), run.ranks.hurried("validation"):
        return learner.validate(data, stop.check)


def is_better(state: State, val_loss: float) -> bool:
    return math.isfinite(val_loss) and (state.best_loss is None or val_loss < state.best_loss)


def count(state: State, told: dict[str, Any]) -> None:
    """What the line of a step changes in what the loop counts."""
    state.untold = None
    if "train_loss" in told:
        state.loss_sum = state.weight_sum = state.step_seconds = 0.0
        state.step_tokens = 0
    if "val_loss" not in told:
        return
    if is_better(state, told["val_loss"]):
        state.best_loss, state.best_step, state.n_worse = told["val_loss"], state.step, 0
    else:
        state.n_worse += 1


def out_of_patience(run: Run) -> bool:
    return 0 < run.settings.patience <= run.state.n_worse


def answer_some(run: Run, say: Callable[[str], object]) -> None:
    model, path = run.learner.whole_model(), run.folder / "samples.md"
    if model is not None:  # None: it is another rank that talks
        epoch = run.state.step / run.order.steps_per_epoch
        show_samples(model, run.tokenizer, run.data.samples, path, run.state.step, epoch, say)


def save(run: Run, writer: Writer, rng: dict[str, Tensor] | None = None) -> None:
    learner = run.learner
    with run.ranks.patient("saving"):
        writer.do(run.metrics.force_to_disk)
        save_last(
            learner.model, learner.optimizer, learner.scaler, run.state, run.last, rng, writer
        )


def save_at_once(run: Run, rng: dict[str, Tensor] | None = None) -> None:
    """After what is still being written; when this comes back, all is on the disk."""
    with run.ranks.patient("saving"):
        run.writer.wait()
    save(run, Writer(run.ranks), rng)


def save_after(error: Exception, run: Run, rng: dict[str, Tensor], progress: Progress) -> None:
    """The run has failed. What it had learned has not."""
    try:
        save_at_once(run, rng)
        said = f"saved as it was after step {run.state.step}: {run.last}"
    except Exception as second:
        said = f"not saved after step {run.state.step} ({second}); the last save stands"
    with contextlib.suppress(OSError, ValueError):  # what failed may be the terminal
        progress.say(said)


def _demo() -> None:
    import io
    import json

    from gpt.plots import ascii_curve
    from gpt.start import begin, take_over  # builds the run that this chapter is about
    from gpt.tokenizer import learn_merges, tiny_vocabulary

    asked = [(f"Is {n} even or odd?", "odd" if n % 2 else "even") for n in range(10, 100)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        records = [
            {"instruction": q, "output": a, "split": "validation" if i % 9 == 4 else "train"}
            for i, (q, a) in enumerate(asked)
        ]
        (folder / "numbers.json").write_text(json.dumps(records), encoding="utf-8")
        (folder / "empty").mkdir()
        merges = learn_merges("Is it even or odd? even or odd", 20)  # each digit stays a token
        for name, content in tiny_vocabulary(merges).items():
            (folder / "empty" / name).write_bytes(content)
        settings = TrainSettings(
            model=str(folder / "empty"), data=[str(folder / "numbers.json")],
            out=str(folder / "run"), template="plain", from_scratch=True, n_layer=1, n_head=2,
            n_embd=32, n_ctx=32, lr=2e-2, epochs=16, samples=2, device="cpu", precision="fp32",
            threads=1,
        )  # fmt: skip
        output = io.StringIO()
        run = begin(settings, (), lambda line: None)
        take_over(run)
        with StopRequests() as stop:
            train(run, Progress(run.n_steps, 0, output), stop)
        print(f"{run.n_steps} steps of 8 examples; even numbers and odd ones, a ninth held out\n")
        print(ascii_curve(run.metrics.read(), width=76, height=12))
        print("\nas it learned, two validation prompts:")
        told = [line for line in output.getvalue().splitlines() if line.startswith("  ")]
        print("\n".join([*told[:4], "  …", *told[-4:]]))
        print("\nwhat the run leaves:")
        for path in sorted(run.folder.iterdir()):
            inside = (
                f" ({', '.join(sorted(p.name for p in path.iterdir()))})" if path.is_dir() else ""
            )
            print(f"  {path.name}{inside}")


if __name__ == "__main__":
    run_command(_demo)
