"""Have another model judge the answers of a run, over any endpoint that speaks OpenAI's protocol.

python scripts/judge.py RUN --endpoint http://localhost:11434/v1 --judge-model llama3.1
python scripts/judge.py RUN --endpoint https://api.openai.com/v1 --judge-model gpt-4o-mini \\
    --mode pairwise --against OTHER_RUN
python scripts/judge.py RUN --alpaca-eval FOLDER       # files for AlpacaEval; nobody is asked

RUN is a run's folder or a file of answers. Replies are kept in judgements.jsonl beside it: run the
same line again after a failure, and only what is missing is asked.

The judge is asked in this project's own words: its scores can be compared with each other, and not
with those that the book, or anybody else, has published for another prompt.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.errors import UserError
from gpt.verdicts import MODES


def main() -> None:
    args = parse_arguments()
    from gpt import judge, judgements  # and with them numpy, which --help needs not
    from gpt.answers import beside, read_answers
    from gpt.endpoint import Endpoint, key_for
    from gpt.locks import locked_file

    rows = read_answers(args.answers)
    if args.against:
        rows = beside(rows, read_answers(args.against))
    rows = rows[: args.limit]
    if args.alpaca_eval:
        write_for_alpaca_eval(rows, args)
    if not args.endpoint:
        return

    endpoint = Endpoint(
        args.endpoint,
        args.judge_model,
        key_for(args.endpoint, args.key_from),
        None if args.temperature == "default" else float(args.temperature),
        args.timeout,
        args.retries,
    )
    folder = args.answers if args.answers.is_dir() else args.answers.parent
    path = args.out or folder / judgements.NAME
    results = {}
    with locked_file(path):  # two at once would ask, and pay for, the same questions
        log = judgements.Log(path)
        for name in ("tuned", "base") if args.base else ("tuned",):
            items = judge.plan(rows, args.mode, base=name == "base")
            result = judge.judge(items, args.mode, endpoint, log, args.at_once, f"judging {name}")
            print(judge.as_text(result, "tuned against base" if args.mode == "pairwise" else name))
            results[name] = result
            if result.gave_up:
                break
    print(f"replies: {path}", file=sys.stderr)
    if args.json:
        content = {name: result.to_dict() for name, result in results.items()}
        write(args.json, content)
    if any(result.gave_up or not result.n_scored for result in results.values()):
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(
        __doc__,
        epilog="The key, where one is needed, is read from the environment: JUDGE_API_KEY, or for\n"
        "OpenAI's own endpoint OPENAI_API_KEY. It is sent to the endpoint and stored nowhere.",
    )
    add = parser.add_argument
    add("answers", type=Path, metavar="RUN|FILE", help="a run's folder, or its responses.jsonl")
    add("--endpoint", metavar="URL", help="as far as its version: http://localhost:11434/v1")
    add("--judge-model", metavar="NAME", help="the model's name at the endpoint")
    add(
        "--mode",
        choices=MODES,
        default="score",
        help="0 to 100 (default; not comparable with the book's scores, whose prompt is another), "
        "1 to 5, or tuned against base, both in both places",
    )
    add("--against", type=Path, metavar="RUN|FILE", help="another run's answers, in base's place")
    add("--base", action="store_true", help="judge the base model's answers as well")
    add("--out", type=Path, metavar="FILE", help="replies (default: judgements.jsonl, beside RUN)")
    add("--json", type=Path, metavar="FILE", help="write the result as JSON, too")
    add("--limit", type=int, metavar="N", help="the first N answers only")
    add("--at-once", type=int, default=4, metavar="N", help="questions under way (default: 4)")
    add("--timeout", type=float, default=120, metavar="S", help="seconds a reply (default: 120)")
    add("--retries", type=int, default=4, metavar="N", help="further attempts (default: 4)")
    add(
        "--temperature",
        default="0",
        help="of the judge (default: 0); `default` leaves it to the endpoint, as some models ask",
    )
    add("--key-from", metavar="VARIABLE", help="another environment variable that holds the key")
    add("--alpaca-eval", type=Path, metavar="FOLDER", help="write model_outputs.json in it")
    add("--generator", metavar="NAME", help="the tuned model's name in it (default: RUN's)")
    args = parser.parse_args()
    check(parser, args)
    return args


def check(parser: ArgumentParser, args: argparse.Namespace) -> None:
    if bool(args.endpoint) != bool(args.judge_model):
        parser.error("--endpoint and --judge-model go together: who is asked, and where")
    if not args.endpoint and not args.alpaca_eval:
        parser.error("give --endpoint and --judge-model (or --alpaca-eval, which asks nobody)")
    if args.base and args.mode == "pairwise":
        parser.error("--base is for --mode score and rubric: pairwise judges both as it is")
    for flag, value, least in (
        ("--limit", args.limit, 1),
        ("--at-once", args.at_once, 1),
        ("--retries", args.retries, 0),
    ):
        if value is not None and value < least:
            parser.error(f"{flag} must be at least {least}, not {value}")
    if not 0 < args.timeout < 1e6:
        parser.error("--timeout is a number of seconds above 0")
    if args.temperature != "default":
        try:
            is_right = 0 <= float(args.temperature) <= 2
        except ValueError:
            is_right = False
        if not is_right:
            parser.error("--temperature is a number from 0 to 2, or default")


def write_for_alpaca_eval(rows: list[dict], args: argparse.Namespace) -> None:
    """model_outputs.json, and where the base model has answered all, reference_outputs.json."""
    from gpt.answers import alpaca_outputs

    name = args.generator or (args.answers if args.answers.is_dir() else args.answers.parent).name
    name = name or args.answers.resolve().name
    write(args.alpaca_eval / "model_outputs.json", alpaca_outputs(rows, name))
    if all(row.get("base_response") is not None for row in rows):
        reference = args.against.stem if args.against else f"{name}-base"
        outputs = alpaca_outputs(rows, reference, base=True)
        write(args.alpaca_eval / "reference_outputs.json", outputs)


def write(path: Path, content: object) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{path}: not written: {error.strerror or error}") from None
    print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
