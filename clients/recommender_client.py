"""Ask a recommender what somebody may like, given some ratings.

Items are numbered from 0, as in the model (a MovieLens film's number less one). Ratings are pairs ITEM=RATING, or a
JSON file {"ITEM": RATING, ...}.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from modelport import Client, ModelportError

EXAMPLE = """examples:
  python clients/recommender_client.py 0=5 49=5 171=4
  python clients/recommender_client.py --json ratings.json --titles titles.txt
"""


def ratings_of(pairs: list[str], path: Path | None) -> dict[int, float]:
    """Item -> rating, from the file and from the pairs."""
    found = json.loads(path.read_text()) if path else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a JSON object of items and ratings")
    found.update(pair.split("=", 1) for pair in pairs)
    return {int(item): float(rating) for item, rating in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", metavar="ITEM=RATING", help="a rating, such as 49=5")
    parser.add_argument("--json", type=Path, help="file with ratings")
    parser.add_argument("--titles", type=Path, help="text file with one title per line, item 0 first")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="http, https, grpc or grpcs (default %(default)s)"
    )
    parser.add_argument("--model", default="recommender", help="model name (default %(default)s)")
    args = parser.parse_args()
    try:
        ratings = ratings_of(args.pairs, args.json)
        titles = args.titles.read_text().splitlines() if args.titles else []
        if not ratings:
            parser.error("give at least one rating")
        with Client(args.url) as client:
            tensor = client.spec(args.model).inputs[0]
            vector = np.zeros(tensor.dims, dtype=tensor.dtype.np)
            if not all(0 <= item < vector.size for item in ratings):
                sys.exit(f"recommender_client: items are numbered from 0 to {vector.size - 1}")
            vector[list(ratings)] = list(ratings.values())
            answers = client.infer(args.model, inputs={tensor.name: vector})
    except (ModelportError, OSError, ValueError) as error:
        sys.exit(f"recommender_client: {error}")
    for place, (item, score) in enumerate(zip(answers["items"], answers["scores"], strict=True), 1):
        title = titles[item] if item < len(titles) else f"item {item}"
        print(f"{place:2}. {score:8.4f}  {title}")


if __name__ == "__main__":
    main()
