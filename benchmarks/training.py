"""Training, side by side: loss and gradient held to one reference, then rounds in turn.

A way is shown only if its first step, in fp32, has the loss of the plain algorithm to 1e-5 and a
gradient as long to 1e-4: else it trains on something else, and how fast it does so is of no
interest. Then every way has its turn (A B C, A B C, …), each in a process of its own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from benchmarks.book_loop import PACKAGES as OF_THE_BOOK
from benchmarks.book_loop import BookLoop
from benchmarks.our_loop import LEVERS, OURS, OurLoop, reference
from benchmarks.rounds import ENOUGH_ROUNDS, Part, Plan, in_turn, missing
from benchmarks.trl_loop import PACKAGES as OF_TRL
from benchmarks.trl_loop import SHIPPED, TUNED, TrlLoop
from benchmarks.work import LIKE_LENGTHS, SHUFFLED, Sample, Work, sample_steps
from benchmarks.workers import WayFailed, Worker

LOSS, GRADIENT = 1e-5, 1e-4  # how near the reference, absolutely and relatively
MOST_STEPS, FEWEST_STEPS = 8, 2  # of a round


@dataclass
class Way:
    name: str
    grouping: str  # of the examples of a round
    worker: Worker
    first: tuple[float, float] = (0.0, 0.0)  # loss, and length of the gradient
    seconds: list[float] = field(default_factory=list)
    memory: int | None = None  # bytes at most, of the whole worker

    def train(self, sample: Sample) -> float:
        return self.worker.call("train", self.name, sample.steps[self.grouping])


@dataclass
class Race:
    """What a part measured, and what it left out."""

    sample: Sample
    ways: list[Way]
    # Multiplications and additions a second of a bare product, in each round: in the precision of
    # the ways, which comes first, and in fp32.
    limit: dict[str, list[float]]
    left_out: list[str]  # in words, with why

    def rate(self, way: Way) -> float:
        """Examples a second."""
        return self.sample.n_examples / median(way.seconds)

    def useful(self, way: Way, precision: str | None = None) -> float:
        """The plain algorithm's arithmetic a second, as a share of what can be done in one."""
        tokens = self.sample.n_tokens / median(way.seconds)
        limit = self.limit[precision or next(iter(self.limit))]
        return tokens * self.sample.flops_per_token / median(limit)


def fault(first: tuple[float, float], right: tuple[float, float]) -> str | None:
    """Why a way is not shown."""
    loss, norm = first
    if not abs(loss - right[0]) <= LOSS:
        return f"its first loss is {loss:.6f}, and should be {right[0]:.6f}"
    if not abs(norm - right[1]) <= GRADIENT * right[1]:
        return f"its first gradient is {norm:.6f} long, and should be {right[1]:.6f}"
    return None


def held_to(right: tuple[float, float], ways: list[Way], step: list[int]) -> tuple[list, list]:
    """The ways that do what the reference does; and the others, in words."""
    kept, left_out = [], []
    for way in ways:
        try:
            way.first = way.worker.call("first_step", way.name, step)
            why = fault(way.first, right)
        except WayFailed as error:
            why = str(error)
        if why is None:
            kept.append(way)
        else:
            left_out.append(f"{way.name}: not shown, as {why}")
    return kept, left_out


def run_race(work: Work, plan: Plan, ways: list[Way], left_out: list[str]) -> Race:
    """The first of the ways is ours, which everything is compared with."""
    began = time.perf_counter()
    few = sample_steps(work, 2)
    step = few.steps[SHUFFLED][0]
    ours = ways[0].worker
    ways, unequal = held_to(reference(work, step), ways, step)

    def take_turns(sample: Sample, note: Callable[[Way, float], object]) -> None:
        for way in list(ways):
            try:
                note(way, way.train(sample))
            except WayFailed as error:
                ways.remove(way)
                unequal.append(f"{way.name}: not shown, as {error}")

    costs: list[float] = []  # of the few steps, by each way
    take_turns(few, lambda _, seconds: costs.append(seconds))
    cost = sum(costs) / len(few.steps[SHUFFLED])
    spent = time.perf_counter() - began
    # Rather five rounds of a few steps than three of many.
    n_steps = int((plan.seconds - spent) / (ENOUGH_ROUNDS * max(cost, 1e-9)))
    sample = sample_steps(work, max(FEWEST_STEPS, min(MOST_STEPS, n_steps)))
    n_rounds = plan.rounds_of(cost * len(sample.steps[SHUFFLED]), spent)
    n_rows = sample.n_tokens // len(sample.steps[SHUFFLED])
    limit: dict[str, list[float]] = {work.precision: [], "fp32": []}
    for _ in range(n_rounds):
        if not ways or ways[0].name != "ours":
            return Race(few, [], {}, left_out + unequal)  # nothing to compare with
        for precision, found in limit.items():
            found.append(ours.call("multiply", n_rows, precision))
        take_turns(sample, lambda way, seconds: way.seconds.append(seconds))
    for way in ways:
        way.memory = way.worker.call("peak_memory")
    return Race(sample, ways, limit, left_out + unequal)


# ---- ours and the others ---------------------------------------------------------------------

Entrant = tuple[Sequence[str], type, tuple, dict[str, str]]  # packages, kind, more, its ways


def others() -> dict[str, Entrant]:
    """By the name of the peer. A worker's ways share its model: name -> grouping."""
    return {
        "TRL tuned": (
            OF_TRL, TrlLoop, (TUNED,), {"TRL SFTTrainer, tuned": LIKE_LENGTHS},
        ),
        "TRL as shipped": (
            OF_TRL, TrlLoop, (SHIPPED,), {"TRL SFTTrainer, as shipped": SHUFFLED},
        ),
        "the book": (
            OF_THE_BOOK, BookLoop, (),
            {
                "LLMs-from-scratch": SHUFFLED,
                "LLMs-from-scratch, given steps of like lengths": LIKE_LENGTHS,
            },
        ),
    }  # fmt: skip


def bench_training(work: Work, plan: Plan) -> Part:
    """Ours, TRL's SFTTrainer and the book's loop, on the same steps."""
    part, began = Part(), time.perf_counter()
    # A CPU with native bf16 is given that; what others come to is a race of its own.
    has_both = work.device == "cpu" and work.precision != "fp32"
    works = [work, replace(work, precision="fp32")] if has_both else [work]
    for i, this in enumerate(works):
        seconds = (plan.seconds - time.perf_counter() + began) / (len(works) - i)
        race_in_one_precision(part, this, replace(plan, seconds=seconds))
    return part


def race_in_one_precision(part: Part, work: Work, plan: Plan) -> None:
    began, left_out = time.perf_counter(), []
    workers = [Worker(OurLoop, work, {"ours": OURS})]
    entered = [("ours", LIKE_LENGTHS, workers[0])]
    try:
        for peer, (packages, kind, more, its_ways) in others().items():
            if absent := missing(*packages):
                left_out.append(f"{peer}: left out, as {', '.join(absent)} is not installed")
                continue
            try:
                worker = Worker(kind, work, *more)
            except WayFailed as error:
                left_out.append(f"{peer}: not shown, as {error}")
                continue
            workers.append(worker)
            entered += [(name, grouping, worker) for name, grouping in its_ways.items()]
        for share, size in ((2, work.batch_size), (1, 2 * work.batch_size)):
            seconds = (plan.seconds - time.perf_counter() + began) / share
            ways = [Way(*of_each) for of_each in entered]
            sized = replace(work, batch_size=size)
            race = run_race(sized, Plan(seconds, plan.rounds), ways, left_out)
            show(part, f"Training in {work.precision}, {size} examples a step", race)
    finally:
        for worker in workers:
            worker.close()


def show(part: Part, title: str, race: Race) -> None:
    head = [
        "", "steps of", "examples/s", "real tokens/s", "ours is", "useful work", "first loss",
        "its gradient", "peak memory",
    ]  # fmt: skip
    rows = []
    for way in race.ways:
        rate, length = race.rate(way), race.sample.n_tokens / race.sample.n_examples
        rows.append(
            [way.name, way.grouping, f"{rate:.2f}", f"{rate * length:.0f}",
             "" if way is race.ways[0] else f"{race.rate(race.ways[0]) / rate:.2f} times as fast",
             f"{race.useful(way):.2f}", f"{way.first[0]:.6f}", f"{way.first[1]:.5f}",
             "" if way.memory is None else f"{way.memory / 1e9:.2f} GB"]
        )  # fmt: skip
    part.table(title, head, rows, [*notes(race), *race.left_out])
    keep(part, title, race)


def keep(part: Part, title: str, race: Race) -> None:
    if race.ways:
        names = [way.name for way in race.ways]
        part.bars.append(
            {"title": f"{title}: examples a second", "names": names,
             "values": [race.rate(way) for way in race.ways]}
        )  # fmt: skip
    part.rounds[title] = {way.name: way.seconds for way in race.ways}
    for precision, rates in race.limit.items():
        part.rounds[f"{title}: a matrix product in {precision}, FLOP/s"] = {"torch.mm": rates}


def notes(race: Race) -> list[str]:
    sample, n_steps = race.sample, len(race.sample.steps[SHUFFLED])
    if not race.ways:
        return []
    own, *more = ((name, median(rates)) for name, rates in race.limit.items())
    mean = sample.n_tokens / sample.n_examples
    return [
        f"{in_turn(len(race.ways[0].seconds))}; a round is the same {sample.n_examples} examples "
        f"in {n_steps} optimizer steps, {mean:.1f} tokens each on average "
        f"({sample.mean_length:.1f} in the whole set). Padding: "
        f"{sample.padding[LIKE_LENGTHS]:.1%} in steps of like lengths, "
        f"{sample.padding[SHUFFLED]:.1%} shuffled.",
        f"Useful work: real tokens a second times the plain algorithm's "
        f"{sample.flops_per_token / 1e9:.3g} GFLOP for each, over what a bare matrix product in "
        f"our precision reached in the same rounds, {own[1] / 1e9:.0f} GFLOP/s. Above 1, "
        "arithmetic was skipped."
        + "".join(
            f" Over one in {name}, {rate / 1e9:.0f} GFLOP/s, ours comes to "
            f"{race.useful(race.ways[0], name):.2f}."
            for name, rate in more
        )
        + " LLMs-from-scratch always computes in fp32.",
    ]


# ---- the ladder ------------------------------------------------------------------------------


def bench_ladder(work: Work, plan: Plan) -> Part:
    """Ours with its levers changed one at a time."""
    part, workers = Part(), []
    known = {name: lever for name, lever in LEVERS.items() if lever.matters_to(work)}
    levers = {name: lever for name, lever in known.items() if lever.exists}
    left_out = [f"{name}: there is no such setting here" for name in known if name not in levers]
    together = {name: lever for name, lever in levers.items() if not lever.process_wide}
    alone = [{name: lever} for name, lever in levers.items() if lever.process_wide]
    ways: list[Way] = []
    try:
        for group in ({"ours": OURS} | together, *alone):
            workers.append(Worker(OurLoop, work, group))
            ways += [Way(name, lever.grouping, workers[-1]) for name, lever in group.items()]
        race = run_race(work, plan, ways, left_out)
    finally:
        for worker in workers:
            worker.close()
    title = f"The ladder: one lever at a time, {work.batch_size} examples a step"
    rows = []
    for way in race.ways:
        rate = race.rate(way)
        speed = "" if way is race.ways[0] else f"{rate / race.rate(race.ways[0]):.2f}"
        first = [f"{way.first[0]:.6f}", f"{way.first[1]:.5f}"]
        rows.append([way.name, f"{rate:.2f}", speed, *first])
    head = ["", "examples/s", "of ours' speed", "first loss", "its gradient"]
    part.table(title, head, rows, [*notes(race), *race.left_out])
    keep(part, title, race)
    return part
