"""Ask a text model about one or more texts, all in one request, and print its labels.

Texts come from the command line, or one per line from standard input.
"""

from __future__ import annotations

import argparse
import sys

from modelport import Client, ModelportError

EXAMPLE = """examples:
  python clients/text_client.py "fits well and looks lovely" "fell apart after a week"
  python clients/text_client.py < reviews.txt
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="*", help="a text; quote it")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="http, https, grpc or grpcs (default %(default)s)"
    )
    parser.add_argument("--model", default="text_classifier", help="model name (default %(default)s)")
    args = parser.parse_args()
    texts = args.texts or [line.strip() for line in sys.stdin if line.strip()]
    if not texts:
        parser.error("give a text, or one per line on standard input")
    try:
        with Client(args.url) as client:
            spec = client.spec(args.model)
            answers = client.infer(args.model, inputs={spec.inputs[0].name: [[text] for text in texts]})
    except ModelportError as error:
        sys.exit(f"text_client: {error}")
    for row, text in enumerate(texts):
        print(text)
        for tensor in spec.outputs:
            values = answers[tensor.name][row].reshape(-1)
            shown = " ".join(f"{value:.4f}" if tensor.dtype.is_float else str(value) for value in values)
            print(f"    {tensor.name}: {shown}")


if __name__ == "__main__":
    main()
