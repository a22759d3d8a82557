"""Python-based Triton backends named `onnxruntime` and `pytorch`, for the embedded server.

The files in the two folders below run inside Triton's Python stub, not inside modelport: `modelport.server.toolchain`
copies them, each with the `modelport_*.py` modules beside it, into the backend directory. They import only the standard
library, numpy, `triton_python_backend_utils`, those modules, and onnxruntime or torch.
"""
