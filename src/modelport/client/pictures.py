"""Bring a picture into the shape and element type that a model takes. Needs pillow (`modelport[samples]`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelport.spec import TensorSpec

COLOURS = (1, 3)


def fit(pixels: NDArray[np.uint8], tensor: TensorSpec, *, scale: float = 255.0) -> NDArray[Any]:
    """Cut a picture to the middle, resize it, and convert colours and numbers, as the model's input wants them.

    Args:
        pixels: uint8 [height, width, channels], 1 (grey), 3 (RGB) or 4 (RGB and transparency) channels.
        tensor: The input: [height, width, colours] or [colours, height, width], -1 for any size.
        scale: What a pixel is divided by when the input takes floating-point numbers.

    Returns:
        One sample without a batch axis. The pixels as they are when the input is no picture.
    """
    from PIL import Image, ImageOps

    if len(tensor.dims) != 3 or not {tensor.dims[0], tensor.dims[-1]} & set(COLOURS):
        return pixels
    channels_first = tensor.dims[-1] not in COLOURS
    channels, height, width = tensor.dims if channels_first else (tensor.dims[2], *tensor.dims[:2])
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    image = image.convert("L" if channels == 1 else "RGB")
    if height > 0 and width > 0:
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    array = np.asarray(image).reshape(image.height, image.width, -1)
    if channels_first:
        array = array.transpose(2, 0, 1)
    return (array / scale).astype(tensor.dtype.np) if tensor.dtype.is_float else array.astype(tensor.dtype.np)
