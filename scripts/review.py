"""Write a run's report anew: report.html, a page to read and to grade on, and report.md.

python scripts/review.py RUN                          # RUN: a run's folder, or a file of answers
python scripts/review.py RUN --grades grades.json     # with the grades that the page exported
python scripts/review.py RUN --against OTHER_RUN      # is it the better one? (this writes nothing)
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run


def main() -> None:
    args = parse_arguments()
    if args.against:
        compare(args.run, args.against)
        return
    from gpt.grades import agreement_lines
    from gpt.review import paths_of, write
    from gpt.review_data import gather

    review = gather(args.run, args.grades)
    written = write(review, args.run)
    if review.agreement:
        print("\n".join(agreement_lines(review.agreement)))
    print(f"written: {written}, {paths_of(args.run)[1]}", file=sys.stderr)


def compare(run: Path, other: Path) -> None:
    """Question by question, on what both have answered; and what a person may conclude."""
    from gpt.answers import read_answers
    from gpt.metrics import compare_runs, comparison_as_text

    rows, others = read_answers(run), read_answers(other)
    report = compare_runs(rows, others)
    names = [path.resolve().name if path.is_dir() else path.stem for path in (run, other)]
    if names[0] == names[1]:
        names = [str(run), str(other)]
    print(comparison_as_text(report, *names))
    n = report.overall.n
    if n < len(rows) or n < len(others):
        print(f"of {len(rows):,} answers of {names[0]} and {len(others):,} of {names[1]}")


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, or a file of answers"
    )
    parser.add_argument(
        "--grades", type=Path, metavar="FILE", help="grades that the page exported, to count in"
    )
    parser.add_argument(
        "--against", type=Path, metavar="OTHER", help="another run's answers to the same questions"
    )
    args = parser.parse_args()
    if args.grades and args.against:
        parser.error("--grades goes into the report of one run, and --against writes none")
    return args


if __name__ == "__main__":
    run(main)
