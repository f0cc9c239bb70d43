"""Prompts in, answers out: many at once, each row on its own clock, nothing computed twice.

    prompts ─> rows ─> passes through the model ─> a token for each row ─> ended? ─> Generated
                       └───────────────── not yet: once more ─────────────────┘

How the rows share their passes is the subject of passes.py. Here is what may be asked of an answer,
and what becomes of it: told piece by piece to whoever listens, and returned whole in the end.

A row ends by itself (`stop`), when it has enough tokens (`length`), or when the model's places are
full (`context`): see rows.py.

    python -m gpt.generate      # greedy, sampled, stopped, streamed; alone and in a batch
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from numbers import Integral

from gpt.cli import run
from gpt.decoding import knows_by_heart
from gpt.laid_out import laid_out
from gpt.lookup import checked_lookup
from gpt.model import GPT, evaluating
from gpt.passes import Passes
from gpt.rows import Generated, Row, checked_ending, checked_rows
from gpt.sampling import GenerateError, Sampling, check
from gpt.tokenizer import Tokenizer, tiny_vocabulary


def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    end_id: int | None = None,
    seed: int = 0,
    *,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
    logprobs: bool = False,
    batch_size: int | None = None,
    use_cache: bool = True,
    graphs: bool | None = None,
    lookup: int = 0,
    row_numbers: Sequence[int] | None = None,
    references: Sequence[Sequence[int] | None] | None = None,
    on_text: Callable[[int, str], None] | None = None,
    on_finished: Callable[[int, Generated], None] | None = None,
) -> list[Generated]:
    """Write on from each prompt, a list of ids; one `Generated` for each, in their order.

    temperature, top_k, top_p, min_p, repetition_penalty: see `Sampling`.
    end_id: the token that ends a row. None: the one that the model's config names, if any; -1: none
    seed: row i draws from what (seed, i) starts, whatever its neighbours and the batch size are.
    row_numbers: the i of each row, where it is not its place: with those that its remaining prompts
        had, a caller that was interrupted gets the answers that they would have had.
    stop: one or more strings that end a row once its text holds one, however many tokens spell it.
        `text` is all before the first; `ids` are the tokens that lie before it whole (a token that
        spells the last of the text and the first of the stop string is not among them).
    tokenizer: for `stop`, `on_text`, and `Generated.text`.
    logprobs: fill `Generated.logprobs`, from the model's own logits before any control.
    batch_size: rows at once. None: as many as serve the device and fit into its memory.
    use_cache: False computes everything anew for each token: it is there to prove the cache.
    graphs: whether tokens after the first come of passes of fixed sizes, which a GPU does at one
        launch each. None: on CUDA; False: nowhere; True: on other devices, too, to prove them.
    lookup: guess so many tokens at most from what a row holds already, and check them in one pass:
        the same answer, sooner where it repeats its prompt (lookup.py). It takes the likeliest
        token (no temperature, penalty or logprobs), and few rows at work; those without graphs.
    references: for each prompt ids that might follow it, or None: `Generated.reference_nats` says
        how surprising they would be. They are read with the prompt, and nothing depends on them.
    on_text: is called with a prompt's place and each new piece of its text: whole characters, and
        no part of a stop string. All pieces of a row are its `text`.
    on_finished: is called with a prompt's place and its result as soon as that is there.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    if batch_size is not None:
        check("batch_size", batch_size, Integral, lambda n: n >= 1, "a whole number from 1 up")
    if on_text is not None and tokenizer is None:
        raise GenerateError("on_text needs a tokenizer: only that knows what ids spell")
    ending = checked_ending(model.config, max_new_tokens, end_id, tokenizer, stop, logprobs)
    lookup = checked_lookup(
        lookup, sampling.is_plain and not logprobs and use_cache and graphs is not True
    )
    rows = checked_rows(prompts, seed, row_numbers, references, model.config)
    results: list[Generated | None] = [None] * len(rows)

    def tell(row: Row, reason: str | None) -> None:
        if on_text is not None and (news := row.news(ending, is_last=reason is not None)):
            on_text(row.number, news)
        if reason is not None:
            results[row.number] = row.result(reason, ending)
            if on_finished is not None:
                on_finished(row.number, results[row.number])

    begin = []
    for row in rows:
        reason = row.reason_not_to_begin(ending)
        if reason:
            tell(row, reason)
        else:
            begin.append(row)
    passes = Passes(model, begin, sampling, ending, batch_size, use_cache, graphs, lookup)
    with evaluating(model), closing(passes), laid_out(passes.weights()):
        while passes.rows or passes.waiting:
            for row, reason in passes.next():
                tell(row, reason)
    return results


def _demo() -> None:
    tokenizer = Tokenizer(tiny_vocabulary([]))  # no merges: a token is a byte
    text = "Rows end one by one. 🐈 Bye."
    model = knows_by_heart([*tokenizer.encode(text), tokenizer.end_id], tokenizer.n_vocab)
    prompts = [tokenizer.encode(text[:n]) for n in (1, 14, 5)]

    def show(title: str, prompts: list[list[int]], **settings: object) -> None:
        print(f"\n{title}")
        answers = generate(model, prompts, tokenizer=tokenizer, **settings)
        for a in answers:
            print(f"  {text[: a.n_prompt]!r:<16} {a.finish_reason:<8} {len(a.ids):>2}  {a.text!r}")
        others = {**settings, "batch_size": 2}, {**settings, "use_cache": False}
        same = [generate(model, prompts, tokenizer=tokenizer, **o) == answers for o in others]
        print("  by twos: {}; without a cache: {}".format(*(("OTHERS", "same")[s] for s in same)))

    print(f"A model that knows one text by heart: {text!r}")
    print("Of each prompt: why its row ended, how many tokens it wrote, and its text.")
    show("greedy", prompts, max_new_tokens=30)
    show("at most 7 tokens", prompts, max_new_tokens=7)
    show(
        "until 'one. ' or '🐈', of 5 and 4 tokens", prompts, max_new_tokens=30, stop=["one. ", "🐈"]
    )
    show("no end token: on to the end of the context", prompts[1:2], max_new_tokens=99, end_id=-1)
    show(
        "temperature 0.8, seed 1: each row draws on its own",
        [prompts[1]] * 4,
        max_new_tokens=30,
        temperature=0.8,
        seed=1,
    )
    print("\nStreamed, in whole characters:", end="")
    heard = {"on_text": lambda i, piece: print("", repr(piece), end="")}
    generate(model, [tokenizer.encode(text[:18])], 30, tokenizer=tokenizer, **heard)
    print()


if __name__ == "__main__":
    run(_demo)
