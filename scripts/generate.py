"""Have a model answer an instruction, go on with a text, or answer a file of instructions.

python scripts/generate.py --model checkpoints/gpt2-mine --prompt "Name three primary colours."
python scripts/generate.py --model checkpoints/gpt2-mine --prompt "Correct this." --input "He go."
python scripts/generate.py --model gpt2 --raw "Once upon a time" --temperature 0.8 --top-p 0.95
python scripts/generate.py --model checkpoints/gpt2-mine --file prompts.txt --out answers.jsonl
python scripts/generate.py --model gpt2 --raw "Two and two are" --choices " four" --choices " five"

A file is text, an instruction a line, or records as in training (JSON, JSON lines, CSV). What comes
is a JSON object a line, in the same order. Of --choices, nothing is written: the model says which
of them it holds for the most probable.
"""

import argparse
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.errors import UserError
from gpt.records import Record, Turn, load_records
from gpt.speaking import Controls, Speaker, add_flags, for_terminal, load_speaker

if TYPE_CHECKING:
    from gpt.generate import Generated  # and with it torch, which --help needs not


def main() -> None:
    args = parse_arguments()
    controls = Controls.of(args)
    records = records_of(args)
    if args.out is not None and args.out.exists() and not args.overwrite:
        raise UserError(f"{args.out}: is there already: give another --out, or --overwrite")
    if args.out is not None and args.file is not None and args.out.resolve() == args.file.resolve():
        raise UserError(f"--out {args.out}: is the file of prompts itself: give another")
    speaker = load_speaker(args.model, args.template, args.device, args.precision, args.adapter)
    print(speaker.introduction(), file=sys.stderr)
    if args.raw is None and not speaker.is_tuned:
        print(
            f"{args.model} was never tuned to follow instructions: asked in the template "
            f"{speaker.template.name}, it may go on with the text instead of answering",
            file=sys.stderr,
        )
    if args.raw is not None:
        prompts = [speaker.tokenizer.encode(args.raw) or [speaker.tokenizer.end_id]]
    else:
        from gpt.responses import prompt_turns

        prompts = [
            speaker.template.prompt_ids(speaker.tokenizer, prompt_turns(record))
            for record in records
        ]
    settings = controls.for_generate() | {"logprobs": args.logprobs, "batch_size": args.batch_size}
    if args.choices:
        rank(speaker, prompts[0], args.choices, with_end=args.raw is None and speaker.is_tuned)
    elif args.file is None and args.out is None:
        stream(speaker, prompts[0], settings)
    else:
        asked = [row_for(record) for record in records] if records else [{"prompt": args.raw}]
        write(speaker, prompts, asked, settings, args.out)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--model", required=True, metavar="NAME|FOLDER", help="a model, or a run (its best/)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", metavar="TEXT", help="an instruction, put in the template")
    what.add_argument("--raw", metavar="TEXT", help="a text to go on with, as it stands")
    what.add_argument("--file", type=Path, metavar="PROMPTS", help="instructions, many at once")
    add("--input", default="", metavar="TEXT", help="what the instruction is about")
    add(
        "--choices",
        action="append",
        metavar="TEXT",
        help="give this several times: rank these answers instead of writing one",
    )
    add("--out", type=Path, metavar="FILE", help="JSON lines (default: to the terminal)")
    add("--overwrite", action="store_true", help="replace --out")
    add("--logprobs", action="store_true", help="of each token, under the model itself")
    add("--batch-size", type=int, metavar="N", help="rows at once (default: as many as fit)")
    add_flags(parser)
    args = parser.parse_args()
    if args.input and args.prompt is None:
        parser.error("--input goes with --prompt")
    if args.prompt is not None and not args.prompt.strip():
        parser.error("--prompt is empty: there is nothing to answer")
    if args.choices and (args.file or args.out or args.logprobs):
        parser.error("--choices ranks answers to one --prompt, or ways to go on with one --raw")
    if args.choices and not all(args.choices):
        parser.error("--choices is empty: a text without a character has no probability")
    if args.raw is not None and args.template:
        parser.error("--raw puts no template around the text: leave out --template")
    if args.lookup and (args.logprobs or args.choices):
        parser.error("--lookup is for likeliest answers: it goes with no --logprobs, no --choices")
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f"--batch-size must be at least 1, not {args.batch_size}")
    return args


def records_of(args: argparse.Namespace) -> list[Record]:
    if args.prompt is not None:
        return [Record((Turn("user", args.prompt, args.input),), "--prompt", 1, {})]
    if args.file is None:
        return []
    if args.file.suffix.lower() != ".txt":
        return load_records([args.file], need_answers=False)
    try:
        lines = args.file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{args.file}: not readable as text: {why}") from None
    records = [
        Record((Turn("user", line.strip()),), str(args.file), number, {})
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not records:
        raise UserError(f"{args.file}: holds no instructions")
    return records


def row_for(record: Record) -> dict:
    from gpt.responses import row_of

    row = row_of(record, ["response"])
    return row if row["output"] is not None else {k: v for k, v in row.items() if k != "output"}


def stream(speaker: Speaker, prompt: list[int], settings: dict) -> None:
    """One answer, as it is written."""
    from gpt.generate import generate

    show = for_terminal if sys.stdout.isatty() else str

    def on_text(_: int, piece: str) -> None:
        print(show(piece), end="", flush=True)

    [answer] = generate(
        speaker.model, [prompt], end_id=speaker.tokenizer.end_id, tokenizer=speaker.tokenizer,
        on_text=on_text, **settings,
    )  # fmt: skip
    print()
    if answer.finish_reason != "stop":
        why = answer.note or f"--max-new-tokens {settings['max_new_tokens']}"
        print(f"({answer.finish_reason}: {why})", file=sys.stderr)
    for id, logprob in zip(answer.ids, answer.logprobs or (), strict=False):
        print(f"{logprob:9.4f}  {speaker.tokenizer.decode([id])!r}")


def rank(speaker: Speaker, prompt: list[int], choices: list[str], with_end: bool) -> None:
    """The given answers, the most probable first. A tuned model's have to end, too."""
    from gpt.likelihood import ranked, score_choices

    show = for_terminal if sys.stdout.isatty() else str
    scored = score_choices(speaker.model, speaker.tokenizer, prompt, choices, with_end)
    print(f"{'log p':>9} {'a token':>9} {'a byte':>9}")
    for choice in (scored[i] for i in ranked(scored)):
        numbers = choice.log_likelihood, choice.per_token, choice.per_byte
        print(" ".join(f"{number:9.3f}" for number in numbers), f" {show(choice.text)}")


def write(
    speaker: Speaker, prompts: list[list[int]], asked: list[dict], settings: dict, out: Path | None
) -> None:
    """All answers, each as soon as it and those before it are there."""
    from tqdm import tqdm

    from gpt.generate import generate

    waiting: dict[int, Generated] = {}
    n_written = 0
    with opened(out) as file, tqdm(total=len(prompts), unit="answer", disable=None) as bar:

        def keep(place: int, answer: "Generated") -> None:
            nonlocal n_written
            waiting[place] = answer
            bar.update()
            while n_written in waiting:
                row = asked[n_written] | told_of(waiting.pop(n_written), speaker)
                try:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    file.flush()
                except BrokenPipeError:
                    raise
                except OSError as error:
                    raise UserError(f"{out}: not written: {error.strerror or error}") from None
                n_written += 1

        generate(
            speaker.model, prompts, end_id=speaker.tokenizer.end_id, tokenizer=speaker.tokenizer,
            on_finished=keep, **settings,
        )  # fmt: skip
    if out is not None:
        print(f"written: {out}", file=sys.stderr)


def told_of(answer: "Generated", speaker: Speaker) -> dict:
    told = {
        "response": answer.text,
        "finish_reason": answer.finish_reason,
        "n_tokens": len(answer.ids),
    }
    if answer.note:
        told["note"] = answer.note
    if answer.logprobs is not None:
        told["tokens"] = [speaker.tokenizer.decode([id]) for id in answer.ids]
        told["logprobs"] = [round(logprob, 6) for logprob in answer.logprobs]
    return told


def opened(out: Path | None) -> AbstractContextManager[TextIO]:
    if out is None:
        return nullcontext(sys.stdout)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return out.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{out}: not written: {error.strerror or error}") from None


if __name__ == "__main__":
    run(main)
