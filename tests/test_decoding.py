"""Passes of fixed sizes write what generate.py writes without them, also when they are replayed.

There is no GPU here. `Tape` stands in for its graphs: it keeps what was computed from which tensors
into which, and does that again; of Python, as of a host that waits, nothing is left.
"""

import gc
import inspect
import weakref
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt import decoding
from gpt.decoding import CudaRecorder, Decoder, Graphs, can_be_recorded
from gpt.generate import generate
from gpt.lora import LoraConfig, add_lora
from gpt.preamble import each_once
from gpt.quantize import quantize_model
from gpt.rows import Ending, Row
from gpt.sampling import Draws, GenerateError
from gpt.slots import Slots
from tests.test_generate import CONFIG, Spy, comes_sometimes, mixed_prompts, model, reciter
from tests.tiny import random_model

__all__ = ["model"]  # the fixture
OPS = torch.ops.aten
WAITS = {OPS.item, OPS._local_scalar_dense, OPS.is_nonzero, OPS.nonzero, OPS.lift_fresh}


class Tape(TorchDispatchMode):
    """A recording as a GPU makes one: the same work on the same tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.done, self.n_replays = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if getattr(func, "overloadpacket", func) in WAITS:
            raise RuntimeError(f"{func}: a graph cannot wait for the host, nor be told anything")
        wrote = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, wrote))
        return wrote

    def replay(self) -> None:
        self.n_replays += 1
        for func, args, kwargs, wrote in self.done:
            anew = func(*args, **kwargs)
            for tensor, new in zip(tree_leaves(wrote), tree_leaves(anew), strict=True):
                if isinstance(tensor, torch.Tensor) and tensor.data_ptr() != new.data_ptr():
                    tensor.copy_(new)


@pytest.fixture
def tapes(monkeypatch) -> list[Tape]:
    """Recordings are made here, too, and soon; sizes have steps that these short rows pass."""
    made = []

    def record(work):
        with Tape() as tape:
            work()
        made.append(tape)
        return tape.replay

    monkeypatch.setattr(decoding, "recorder_for", lambda device: record)
    monkeypatch.setattr(decoding, "_SEEN", 16)
    monkeypatch.setattr(decoding, "_FIRST", 1)
    monkeypatch.setattr(decoding, "_TIGHTER", 3)
    return made


def near(results) -> list:
    """With log-probabilities as numbers that may differ in the last digit."""
    close = [None if r.logprobs is None else pytest.approx(r.logprobs, abs=1e-4) for r in results]
    nats = [None if r.reference_nats is None else pytest.approx(r.reference_nats) for r in results]
    return [
        (r.ids, r.finish_reason, r.text, c, n) for r, c, n in zip(results, close, nats, strict=True)
    ]


def exact(results) -> list:
    return [(r.ids, r.finish_reason, r.text, r.logprobs, r.reference_nats) for r in results]


# ---- the same answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "controls",
    [
        {},
        {"logprobs": True},
        {"repetition_penalty": 1.5},
        {"temperature": 1.2, "seed": 4},
        {
            "temperature": 1.2,
            "top_k": 50,
            "top_p": 0.9,
            "min_p": 0.01,
            "repetition_penalty": 1.2,
            "logprobs": True,
        },
    ],
    ids=["greedy", "logprobs", "penalty", "drawn", "all"],
)
def test_answers_are_the_same_in_any_batch(model, tapes, controls):
    prompts = mixed_prompts(16)
    end_id = comes_sometimes(generate(model, prompts, 30, **controls))
    settings = controls | {"end_id": end_id}  # rows end, move, and give their places to others
    expected = near(generate(model, prompts, 30, **settings))
    assert len({len(ids) for ids, *_ in expected}) > 3
    for batch_size in (1, 2, 5, 16):
        tapes.clear()
        results = generate(model, prompts, 30, batch_size=batch_size, graphs=True, **settings)
        assert exact(results) == expected, batch_size
        assert len(tapes) > 2 and sum(tape.n_replays for tape in tapes) > 20, batch_size


def test_a_shared_preamble_and_references_are_left_alone(model, tapes):
    shared = list(range(100, 117))
    prompts = [shared + prompt for prompt in mixed_prompts(14, longest=12, seed=5)]
    references = [prompt[:n] or None for n, prompt in enumerate(mixed_prompts(14, seed=1))]
    end_id = comes_sometimes(generate(model, prompts, 25))
    settings = {"references": references, "end_id": end_id}
    expected = near(generate(model, prompts, 25, **settings))
    for batch_size in (3, 8, 14):  # those that wait need the preamble in slots that stood free
        results = generate(model, prompts, 25, batch_size=batch_size, graphs=True, **settings)
        assert exact(results) == expected, batch_size


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_go_on_to_the_end_of_the_context(model, tapes, temperature):
    prompts = [[1] * n for n in (60, 64, 33, 5)]
    settings = {"max_new_tokens": 99, "temperature": temperature, "end_id": -1}
    expected = generate(model, prompts, **settings)
    assert {r.finish_reason for r in expected} == {"context"}
    for batch_size in (1, 2, 4):
        assert generate(model, prompts, batch_size=batch_size, graphs=True, **settings) == expected
    assert {tape.done[-1][3].size(0) for tape in tapes} >= {1, 2}


def test_stop_strings_and_a_stream_are_the_same(tapes):
    model, tokenizer, prompt = reciter("one. 🌳 two. three", n_ctx=40)
    told: dict[bool, list] = {False: [], True: []}
    settings = {"end_id": tokenizer.end_id, "stop": "thr", "tokenizer": tokenizer}
    for graphs, heard in told.items():
        results = generate(
            model,
            [prompt, [*prompt, *tokenizer.encode("one")], prompt],
            30,
            batch_size=2,
            graphs=graphs,
            on_text=lambda i, piece, heard=heard: heard.append((i, piece)),
            **settings,
        )
        assert [r.text for r in results] == ["one. 🌳 two. ", ". 🌳 two. ", "one. 🌳 two. "]
    assert sorted(told[True]) == sorted(told[False]) and len(tapes) > 0


@pytest.mark.parametrize("n", [3, 9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(tapes, dtype, n):
    model, tokenizer, prompt = reciter("in half as many bits")
    model = model.to(dtype)
    for settings in ({}, {"temperature": 0.1, "top_p": 0.9}):
        settings |= {"end_id": 256, "tokenizer": tokenizer, "graphs": True}
        results = generate(model, [prompt] * n, 40, **settings)
        assert [r.text for r in results] == ["in half as many bits"] * n
    assert tapes


@pytest.mark.parametrize("n", [1, 9])
def test_a_callers_autocast(tapes, n):
    model, tokenizer, prompt = reciter("in half as many bits")
    prompts = [prompt, *([[*prompt, *tokenizer.encode("in")]] * n)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = generate(model, prompts, 40, end_id=256, tokenizer=tokenizer, graphs=True)
    assert results[0].text == "in half as many bits" and tapes
    casts = [call for call in tapes[0].done if call[0] is OPS.to.dtype]
    assert len(casts) > 4  # a replay casts the weights itself


@pytest.mark.parametrize("quantized", [False, True])
def test_adapters_and_weights_in_four_bits(tapes, quantized):
    model = random_model(CONFIG)
    if quantized:
        quantize_model(model)
    add_lora(model, LoraConfig(4))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    assert can_be_recorded(model)
    prompts = mixed_prompts(6, longest=20)
    expected = generate(model, prompts, 25)
    assert generate(model, prompts, 25, graphs=True) == expected and tapes


# ---- what it takes --------------------------------------------------------------------------


def test_no_pass_is_made_for_rows_that_are_known_to_end(model):
    for n in (2, 9):
        with Spy(model) as spy:
            generate(model, [[1, 2, 3]] * 4, n, end_id=-1, graphs=True)
        # What all share, what comes then (the same in each), the rest.
        assert spy.shapes == [(1, 2), (1, 1)] + [(4, 1)] * (n - 1)

    with Spy(model) as spy:
        results = generate(model, [[1] * 60, [2] * 58], 99, end_id=-1, graphs=True)
    assert [len(r.ids) for r in results] == [5, 7] and spy.shapes[1:] == [(2, 1)] * 5 + [(1, 1)]


def test_one_pass_too_many_where_all_end_by_themselves():
    model, tokenizer, prompt = reciter("abcdef")
    for graphs, n in ((False, 6), (True, 7)):
        with Spy(model) as spy:
            [result] = generate(model, [prompt], 40, end_id=tokenizer.end_id, graphs=graphs)
        assert len(result.ids) == 6 and spy.shapes[1:] == [(1, 1)] * n


def test_only_where_it_is_asked_for_on_a_cpu_and_not_with_hooks(model, monkeypatch):
    expected = generate(model, [[1, 2, 3]], 4)
    monkeypatch.setattr("gpt.passes.Decoder", None)
    assert generate(model, [[1, 2, 3]], 4) == expected
    assert generate(model, [[1, 2, 3]], 4, graphs=True, use_cache=False) == expected
    with pytest.raises(TypeError):
        generate(model, [[1, 2, 3]], 4, graphs=True)
    seen = []
    hook = model.h[1].register_forward_hook(lambda *_: seen.append(1))
    try:
        assert generate(model, [[1, 2, 3]], 4, graphs=True) == expected and len(seen) == 4
    finally:
        hook.remove()


def test_nothing_is_kept_when_a_call_has_ended_or_was_broken_off(model, tapes, monkeypatch):
    caches = []

    class Watched(Slots):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            caches.append(weakref.ref(self))

    monkeypatch.setattr("gpt.passes.Slots", Watched)

    def enough(place: int, result) -> None:
        if place == 5:
            raise KeyboardInterrupt

    prompts, gc_was_on = mixed_prompts(6), gc.isenabled()
    expected = generate(model, prompts, 20)
    gc.disable()
    try:
        assert generate(model, prompts, 20, batch_size=2, graphs=True) == expected
        tapes.clear()
        assert caches.pop()() is None
        with pytest.raises(KeyboardInterrupt):
            generate(model, prompts, 20, batch_size=2, graphs=True, on_finished=enough)
        tapes.clear()
        assert caches.pop()() is None
    finally:
        if gc_was_on:
            gc.enable()
    assert generate(model, prompts, 20, batch_size=2, graphs=True) == expected


def test_idle_rows_write_where_nobody_is_and_behind_what_all_share():
    """Eight slots, three rows at work, a pass of four: what stands elsewhere is as it was."""
    model = random_model(CONFIG)
    slots = Slots(CONFIG.n_layer, 8, 40)
    with torch.inference_mode():
        texts = torch.randint(600, (8, 40), generator=torch.Generator()).tolist()
        once = each_once(texts, n=0, T=40)
        attend = slots.read_as_one(0, 0, once)
        model.hidden(once.ids[None], once.positions, attend, slots)
        slots.share(6)
        ending = Ending(20, 64)
        rows = [Row(i, list(range(n)), Draws(0, i), ids=[7]) for i, n in enumerate((9, 14, 30))]
        decoder = Decoder(model, slots, 8, n_places=40, n_shared=6, n_tokens=600)
        before = slots._all.clone()
        decoder.next_ids(rows, ending)  # and a pass ahead of it
        for _ in range(3):
            [row.add(id, ending) for row, id in decoder.next_ids(rows, ending)]
        changed = (slots._all != before).any(0).any(0).any(1).any(-1)  # (slots, tokens)
    places = [changed[slot].nonzero()[:, 0].tolist() for slot in range(8)]
    assert places[0] == list(range(9, 14))
    assert places[1] == list(range(14, 19))
    assert places[2] == list(range(30, 35))
    assert places[3] == [6] and places[4:] == [[]] * 4


@pytest.mark.parametrize("place", [12, 20])
def test_scores_that_are_no_numbers_are_said_of_the_prompt(model, tapes, place):
    """And never looked up as a token: -1 is no row of a table."""
    broken = random_model(CONFIG)
    with torch.no_grad():
        broken.wpe.weight[place] = torch.nan
    prompts = [[1, 2, 3], [4] * 9, [5, 6]]
    with pytest.raises(GenerateError, match="prompt 1: the model's scores are no numbers"):
        generate(broken, prompts, 30, end_id=-1, graphs=True)


# ---- recordings -----------------------------------------------------------------------------


def counted() -> tuple[list, Graphs]:
    done = []

    def work(B: int, S: int) -> tuple:
        done.append(("work", B, S))
        return ()

    def record(work):
        done.append(("record", *work.args))
        return lambda: done.append(("replay", *work.args))

    return done, Graphs(work, (100, 1000), record)


def test_a_size_is_recorded_once_when_it_came_often_enough():
    done, graphs = counted()
    for _ in range(12):
        graphs.run(70, 129)
    assert done == [
        *[("work", 100, 256)] * 4,
        ("record", 100, 256),
        *[("work", 100, 256), ("replay", 100, 256)] * 2,  # compared
        *[("replay", 100, 256)] * 6,
    ]


def test_sizes_are_powers_of_two_and_steps_of_128_or_all_there_is():
    done, graphs = counted()
    for n_rows, n_seen in ((1, 1), (2, 128), (3, 129), (64, 900), (65, 1000), (100, 999)):
        graphs.run(n_rows, n_seen)
    sizes = [(B, S) for _, B, S in done]
    assert sizes == [(1, 128), (2, 128), (4, 256), (64, 1000), (100, 1000), (100, 1000)]


def test_a_larger_recording_serves_until_a_smaller_one_pays():
    done, graphs = counted()
    for _ in range(10):
        graphs.run(40, 300)
    del done[:]
    for _ in range(40):
        graphs.run(5, 100)
    assert done[:32] == [("replay", 64, 384)] * 32
    assert done[32:35] == [("record", 8, 128), ("work", 8, 128), ("replay", 8, 128)]
    assert done[-1] == ("replay", 8, 128)
    del done[:]
    graphs.run(7, 128)
    graphs.run(9, 128)  # too many for the smaller one
    graphs.run(7, 129)  # and too long
    assert done == [("replay", 8, 128), ("replay", 64, 384), ("replay", 64, 384)]


def broken_recorder(kind: str):
    """Recordings that fail, or do something else than was recorded."""

    def record(work):
        if kind == "raises":
            raise RuntimeError("CUDA error: operation not permitted\nfurther advice")
        with Tape() as tape:
            work()
        if kind == "does nothing":
            return lambda: None
        if kind == "is wrong later":
            calls = []
            return lambda: calls.append(1) or (tape.replay() if len(calls) == 1 else None)

        def stale() -> None:  # whatever was recorded, and of that moment's tokens and places
            for func, args, kwargs, _ in tape.done:
                if func is OPS.copy_.default or func is OPS.index_put_.default:
                    func(*args, **kwargs)

        return stale

    return record


@pytest.mark.parametrize("kind", ["raises", "does nothing", "is wrong later", "is stale"])
@pytest.mark.parametrize("controls", [{}, {"temperature": 1.0, "repetition_penalty": 1.3}])
def test_a_wrong_recording_is_said_and_changes_no_answer(
    model, tapes, monkeypatch, capsys, kind, controls
):
    prompts = mixed_prompts(12, longest=25)
    end_id = comes_sometimes(generate(model, prompts, 25, **controls))
    settings = {"end_id": end_id, "batch_size": 5} | controls
    expected = generate(model, prompts, 25, **settings)
    monkeypatch.setattr(decoding, "recorder_for", lambda device: broken_recorder(kind))
    assert generate(model, prompts, 25, graphs=True, **settings) == expected
    told = capsys.readouterr().err.splitlines()
    why = "cannot be recorded (CUDA error: operation not permitted)"
    why = why if kind == "raises" else "does not do what was recorded"
    assert told == [f"warning: CUDA graphs: a pass {why}: goes on without them"]


def test_after_a_wrong_recording_rows_are_read_anew_a_few_at_a_time(model, tapes, monkeypatch):
    monkeypatch.setattr(decoding, "recorder_for", lambda device: broken_recorder("does nothing"))
    monkeypatch.setattr("gpt.passes._READ_AT_ONCE", {"cpu": 64})
    prompts = mixed_prompts(6, longest=25)
    expected = generate(model, prompts, 20, end_id=-1)
    with Spy(model) as spy:
        assert generate(model, prompts, 20, end_id=-1, graphs=True) == expected
    again = [shape for shape in spy.shapes[spy.shapes.index((6, 1)) :] if shape[1] > 1]
    assert len(again) > 1 and max(width for _, width in again) <= 64
    assert spy.shapes[-1] == (6, 1)


class FakeCuda:
    """What a recording calls of torch.cuda, in the order in which it does."""

    def __init__(self) -> None:
        self.calls = []

    def graph_pool_handle(self) -> str:
        return "pool"

    def Stream(self, device):
        return FakeStream(self, "aside")

    def current_stream(self, device=None):
        return FakeStream(self, "here")

    def CUDAGraph(self):
        self.replay = lambda: self.calls.append("replay")
        return self

    @contextmanager
    def _within(self, what: str):
        self.calls.append(f"into {what}")
        try:
            yield
        finally:
            self.calls.append(f"out of {what}")

    def device(self, device):
        return self._within(str(device))

    def stream(self, stream):
        return self._within(stream.name)

    def graph(self, *args):
        bound = inspect.signature(torch.cuda.graph.__init__).bind(None, *args).arguments
        assert bound.pop("cuda_graph") is self and bound.pop("stream").name == "aside"
        del bound["self"]
        assert bound == {"pool": "pool", "capture_error_mode": "thread_local"}
        return self._within("the graph")


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: "FakeStream") -> None:
        self.cuda.calls.append(f"{self.name} waits for {other.name}")


def test_a_recording_on_a_gpu_warms_up_aside_and_comes_back(monkeypatch):
    cuda = FakeCuda()
    for name in ("graph_pool_handle", "Stream", "current_stream", "CUDAGraph", "device", "stream"):
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    wanted = inspect.signature(torch.cuda.graph.__init__)
    monkeypatch.setattr(torch.cuda, "graph", cuda.graph)
    monkeypatch.setattr(inspect, "signature", lambda _: wanted)
    monkeypatch.setattr(decoding, "_aside", cache(decoding._aside.__wrapped__))
    device = torch.device("cuda:0")
    assert CudaRecorder(device)._stream is CudaRecorder(device)._stream
    replay = CudaRecorder(device)(lambda: cuda.calls.append("work"))
    replay()
    assert cuda.calls == [
        "into cuda:0",
        "into here",
        "aside waits for here",
        "into aside",
        *["work"] * 3,
        "out of aside",
        "here waits for aside",
        "into the graph",
        "work",
        "out of the graph",
        "out of here",
        "out of cuda:0",
        "replay",
    ]


def test_the_tape_sees_a_host_that_waits():
    for wait in (
        lambda: torch.ones(2).sum().item(),
        lambda: bool(torch.ones(1)),
        lambda: torch.ones(2).nonzero(),
        lambda: torch.tensor([1, 2]),
    ):
        with torch.inference_mode(), pytest.raises(RuntimeError, match="cannot wait"), Tape():
            wait()
