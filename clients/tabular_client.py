"""Ask a model about rows of numbers, all in one request.

Rows come from a CSV file (a first line with column names is skipped), from standard input with `-`, or are given as
one argument each.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from modelport import Client, ModelportError

EXAMPLE = """examples:
  python clients/tabular_client.py --csv patients.csv
  python clients/tabular_client.py --model linear_regression --row 0.5 --row 1.5
"""


def rows_of(lines: list[str]) -> list[list[float]]:
    """The numbers of CSV lines; a first line that holds none is a header."""
    rows = [row for row in csv.reader(lines) if row]
    if rows and not _is_number(rows[0][0]):
        rows = rows[1:]
    return [[float(cell) for cell in row] for row in rows]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", help="file with one row per line; - for standard input")
    parser.add_argument("--row", action="append", default=[], metavar="1.0,2.0,...", help="one row; may be repeated")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="http, https, grpc or grpcs (default %(default)s)"
    )
    parser.add_argument("--model", default="tabular_classifier", help="model name (default %(default)s)")
    args = parser.parse_args()
    try:
        text = "" if args.csv is None else sys.stdin.read() if args.csv == "-" else Path(args.csv).read_text()
        rows = rows_of([*text.splitlines(), *args.row])
        if not rows:
            parser.error("give rows with --csv or --row")
        with Client(args.url) as client:
            spec = client.spec(args.model)
            answers = client.infer(args.model, inputs={spec.inputs[0].name: rows})
    except (ModelportError, OSError, ValueError) as error:
        sys.exit(f"tabular_client: {error}")
    for number, row in enumerate(rows, 1):
        shown = (f"{name} {np.array2string(values[number - 1], precision=4)}" for name, values in answers.items())
        print(f"row {number} ({len(row)} numbers): {', '.join(shown)}")


if __name__ == "__main__":
    main()
