"""The same with nothing but NVIDIA's tritonclient and numpy: any Triton client can call a served model.

Sends one sample of zeros, or of the numbers given, to a model with one input, and prints its outputs. A bearer token is
taken from the environment variable MODELPORT_TOKEN, the authority to trust for https and grpcs from MODELPORT_CA.
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

EXAMPLE = """examples:
  python clients/plain_tritonclient.py --model linear_regression 0.5
  python clients/plain_tritonclient.py --model digits_cnn --url grpc://127.0.0.1:8001
"""


def connect(url: str) -> tuple[Any, Any]:
    """tritonclient's module for the URL, and a client; its URLs have no scheme."""
    scheme, _, address = url.partition("://")
    ca = os.environ.get("MODELPORT_CA")
    if scheme in ("http", "https"):
        import tritonclient.http as module

        tls = {"ssl": True, "ssl_context_factory": lambda: ssl.create_default_context(cafile=ca)}
    elif scheme in ("grpc", "grpcs"):
        import tritonclient.grpc as module

        tls = {"ssl": True, "root_certificates": ca}
    else:
        sys.exit("plain_tritonclient: the URL must start with http://, https://, grpc:// or grpcs://")
    return module, module.InferenceServerClient(address, **(tls if scheme.endswith("s") else {}))


def headers() -> dict[str, str]:
    """The token, where there is one; it goes with every call."""
    token = os.environ.get("MODELPORT_TOKEN", "")
    return {"authorization": f"Bearer {token}"} if token else {}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", type=float, help="the sample's elements; zeros when left out")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="http, https, grpc or grpcs (default %(default)s)"
    )
    parser.add_argument("--model", default="linear_regression", help="model name (default %(default)s)")
    args = parser.parse_args()
    module, client = connect(args.url)
    try:
        as_dict = {"as_json": True} if args.url.startswith("grpc") else {}
        metadata = client.get_model_metadata(args.model, headers=headers(), **as_dict)
        tensor = metadata["inputs"][0]
        shape = [max(1, int(size)) for size in tensor["shape"]]  # -1 is the batch axis, or any size
        values = np.array(args.numbers or np.zeros(shape), dtype=triton_to_np_dtype(tensor["datatype"]))
        sample = module.InferInput(tensor["name"], shape, tensor["datatype"])
        sample.set_data_from_numpy(values.reshape(shape))
        result = client.infer(args.model, [sample], headers=headers())
    except (InferenceServerException, OSError, ValueError) as error:
        sys.exit(f"plain_tritonclient: {error}")
    for output in metadata["outputs"]:
        print(f"{output['name']}: {result.as_numpy(output['name'])}")
    client.close()


if __name__ == "__main__":
    main()
