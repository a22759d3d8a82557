"""A caller's machine needs neither torch nor onnx nor keras: `modelport.client` works where importing them fails."""

from __future__ import annotations

import subprocess
import sys

HOOK = """
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "onnxruntime", "onnxscript", "keras", "tensorflow", "safetensors"}:
            raise ImportError("forbidden: " + name)
sys.meta_path.insert(0, Guard())
"""
USE = """
import asyncio
import modelport
from modelport.client import AsyncClient, Client
for scheme in ("http", "grpc"):
    with Client(scheme + "://127.0.0.1:9", retries=0, timeout_s=2) as client:
        assert client.ready() is False
    async def main():
        async with AsyncClient(scheme + "://127.0.0.1:9", retries=0, timeout_s=2) as client:
            assert await client.ready() is False
    asyncio.run(main())
print("fine")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HOOK + code], capture_output=True, text=True, timeout=60)


def test_every_client_works_where_torch_onnx_and_keras_cannot_be_imported():
    done = run(USE)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_the_guard_fires_when_one_of_them_is_imported():
    done = run("import modelport.client\nimport onnx")
    assert done.returncode != 0 and "forbidden: onnx" in done.stderr


def test_importing_the_client_loads_no_transport_library():
    """gRPC and aiohttp take a third of a second: whoever does not use them does not wait for them."""
    done = run(
        "import modelport.client\nprint(sorted({'grpc', 'aiohttp', 'tritonclient', 'gevent'} & set(sys.modules)))"
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
