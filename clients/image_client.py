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

from modelport import Client, ModelportError, TensorSpec

EXAMPLE = """examples:
  python clients/image_client.py cat.jpg
  python clients/image_client.py --model digits_cnn --invert seven.png --url grpc://127.0.0.1:8001
"""


def pixels(path: Path, tensor: TensorSpec, *, scale: float, invert: bool) -> np.ndarray:
    """The picture in the model's shape, [height, width, colours] or [colours, height, width], and element type."""
    channels_first = tensor.dims[0] in (1, 3) and tensor.dims[-1] not in (1, 3)
    channels, height, width = tensor.dims if channels_first else (tensor.dims[2], *tensor.dims[:2])
    with Image.open(path) as opened:
        image = opened.convert("L" if channels == 1 else "RGB")
    if height > 0 and width > 0:  # -1 stands for any size
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    if invert:
        image = ImageOps.invert(image)
    array = np.asarray(image).reshape(image.height, image.width, -1)
    if channels_first:
        array = array.transpose(2, 0, 1)
    return (array / scale).astype(tensor.dtype.np) if tensor.dtype.is_float else array.astype(tensor.dtype.np)


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
    parser.add_argument("--scale", type=float, default=255.0, help="what a pixel is divided by (default %(default)s)")
    parser.add_argument("--invert", action="store_true", help="swap black and white: MNIST digits are white on black")
    args = parser.parse_args()
    try:
        with Client(args.url) as client:
            tensor = client.spec(args.model).inputs[0]
            image = pixels(args.image, tensor, scale=args.scale, invert=args.invert)
            (ranked,) = client.classify(args.model, args.top, inputs={tensor.name: image})
    except (ModelportError, OSError) as error:
        sys.exit(f"image_client: {error}")
    for place, found in enumerate(ranked, 1):
        print(f"{place:2}. {found.score:8.4f}  {found.label or f'class {found.index}'}")


if __name__ == "__main__":
    main()
