"""Ask an image model what is in a picture, and print the most likely classes.

The picture is cut to the middle and resized to what the model takes. Models that take bytes (`image_classifier`) get
the pixels as they are; models that take floating-point numbers (`digits_cnn`) get them divided by --scale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from modelport import Client, ModelportError
from modelport.client import pictures

EXAMPLE = """examples:
  python clients/image_client.py cat.jpg
  python clients/image_client.py --model digits_cnn --invert seven.png --url grpc://127.0.0.1:8001
"""


def pixels(path: Path, *, invert: bool) -> np.ndarray:
    """The picture as uint8 [height, width, 3]."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    return np.asarray(ImageOps.invert(image) if invert else image)


def positive(text: str) -> float:
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return float(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, help="a picture: .jpg, .png or what else pillow reads")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="http, https, grpc or grpcs (default %(default)s)"
    )
    parser.add_argument("--model", default="image_classifier", help="model name (default %(default)s)")
    parser.add_argument("--top", type=int, default=5, help="how many classes to print (default %(default)s)")
    parser.add_argument(
        "--scale", type=positive, default=255.0, help="what a pixel is divided by (default %(default)s)"
    )
    parser.add_argument("--invert", action="store_true", help="swap black and white: MNIST digits are white on black")
    args = parser.parse_args()
    try:
        with Client(args.url) as client:
            tensor = client.spec(args.model).inputs[0]
            if len(tensor.dims) != 3:
                sys.exit(f"image_client: {args.model} takes no picture, but {tensor}")
            image = pictures.fit(pixels(args.image, invert=args.invert), tensor, scale=args.scale)
            (ranked,) = client.classify(args.model, args.top, inputs={tensor.name: image})
    except (ModelportError, OSError) as error:
        sys.exit(f"image_client: {error}")
    for place, found in enumerate(ranked, 1):
        print(f"{place:2}. {found.score:8.4f}  {found.label or f'class {found.index}'}")


if __name__ == "__main__":
    main()
