"""Write a run's report anew: report.html, a page to read and to grade on, and report.md.

python scripts/review.py RUN                          # RUN: a run's folder, or a file of answers
python scripts/review.py RUN --grades grades.json     # with the grades that the page exported
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run


def main() -> None:
    args = parse_arguments()
    from gpt.grades import agreement_lines
    from gpt.review import paths_of, write
    from gpt.review_data import gather

    review = gather(args.run, args.grades)
    written = write(review, args.run)
    if review.agreement:
        print("\n".join(agreement_lines(review.agreement)))
    print(f"written: {written}, {paths_of(args.run)[1]}", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, or a file of answers"
    )
    parser.add_argument(
        "--grades", type=Path, metavar="FILE", help="grades that the page exported, to count in"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
