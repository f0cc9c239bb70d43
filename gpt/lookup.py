"""Guessing what comes next from what was said before, and believing it only where it is right.

    … that a red fox lives here. Answer: a red    fox lives here
         └──┬──┘                         └─┬─┘    └── guessed ──┘
            └── stood here before ─────────┘

    a row ─> guesses ─> one pass: its newest token and ─> the likeliest token ─> those that were
             (ids)      all guesses, side by side         behind each of them    guessed right, and
                                                                                 one more

A model that writes a token reads all of its weights for it. To read them for a few tokens at once
takes hardly longer, but the next token is not known before the last: it has to be guessed. Answers
often repeat their prompts (“Rewrite the sentence …”), and so what followed the same words there is
a good guess, which costs no second model. The pass over the guesses then says, at each of them,
which token the model itself would have written. As long as that is the next guess, it stands as if
it had been written. The first that is not is the model's own token: a pass gives one at least.

The answer is therefore the same, token by token, as long as the likeliest is taken. (Where two are
equally likely to the last digit, rounding decides, as it does between batches of two sizes.) The
keys and values of wrong guesses lie behind the row's end, where nobody looks until they are written
over.

    python -m gpt.lookup        # a text, what is guessed of it, and how many passes that saves

Source: Apoorv Saxena, "Prompt Lookup Decoding" (2023); Leviathan et al., "Fast Inference from
Transformers via Speculative Decoding" (2023), for why it is exact.
"""

from collections.abc import Sequence
from numbers import Integral

from gpt.cli import run
from gpt.sampling import GenerateError, check
from gpt.tokenizer import Tokenizer, tiny_vocabulary

MOST_ROWS = 8  # at work at once: with more, the weights are not what a pass takes its time for
_CONTEXTS = (3, 2)  # tokens that must have stood there before: rather three than two


def checked_lookup(n: object, is_possible: bool) -> int:
    check("lookup", n, Integral, lambda n: n >= 0, "a whole number from 0 (no guesses) up")
    if n and not is_possible:
        raise GenerateError(
            "lookup checks guesses against the likeliest token, in the cache: it needs temperature "
            "0 and repetition_penalty 1, and goes with no logprobs, no graphs"
        )
    return n


def guesses(ids: Sequence[int], most: int) -> list[int]:
    """What came after the last place where the newest tokens stood before: `most` ids or fewer."""
    ids = list(ids)
    for n in _CONTEXTS:
        newest = ids[-n:]
        for start in range(len(ids) - n - 1, -1, -1) if most > 0 else ():
            if ids[start : start + n] == newest:
                return ids[start + n : start + n + most]
    return []


def believed(guessed: Sequence[int], likeliest: Sequence[int]) -> list[int]:
    """What a pass has written: likeliest[i] is the model's token behind i of the guesses."""
    n_right = 0
    while n_right < len(guessed) and guessed[n_right] == likeliest[n_right]:
        n_right += 1
    return list(likeliest[: n_right + 1])


def _demo() -> None:
    tokenizer = Tokenizer(tiny_vocabulary([]))  # no merges: a token is a byte
    prompt = "Say it in capitals, and then as it stands: a red fox lives here."
    answer = " A RED FOX LIVES HERE. a red fox lives here."
    ids, n_passes = tokenizer.encode(prompt), 0
    wanted = ids + tokenizer.encode(answer)
    print(f"{prompt}\n  >{answer}\n\na model that answers so, and what it was asked to confirm:")
    while len(ids) < len(wanted):
        guessed = guesses(ids, min(12, len(wanted) - len(ids) - 1))
        written = believed(guessed, wanted[len(ids) : len(ids) + len(guessed) + 1])
        n_passes += 1
        if guessed:
            told = tokenizer.decode(guessed), tokenizer.decode(written)
            print("  guessed {!r:<16} written {!r}".format(*told))
        ids += written
    print(f"\n{len(answer)} tokens in {n_passes} passes")


if __name__ == "__main__":
    run(_demo)
