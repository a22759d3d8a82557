#!/usr/bin/env bash
# setup.sh FOLDER [PYTHON]: unpack the kit of gpu_kit.py into FOLDER, on a machine that reaches no package registry.
# PYTHON is that machine's Python with torch (python3 by default), of the same minor version as the kit's. Its packages
# come behind the kit's own, so that numpy is the one with which Triton's stub reads right memory.
set -eu
kit=$(cd "$(dirname "$0")" && pwd)
other=${2:-python3}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
"$other" - "$kit" "$folder" <<'PY'
import pathlib
import sys
import tarfile

kit, folder = map(pathlib.Path, sys.argv[1:])
for part in sorted(kit.glob("*.tar.xz")):
    with tarfile.open(part) as archive:
        archive.extractall(folder, filter="tar") if hasattr(tarfile, "tar_filter") else archive.extractall(folder)
version = "python%d.%d" % sys.version_info[:2]
own = folder / "python" / "lib" / version / "site-packages"
if not own.is_dir():
    sys.exit(f"error: {sys.executable} is {version}, and the kit's Python is another version")
paths = [folder / "triton", folder / "modelport" / "src", *(p for p in sys.path if p.endswith("-packages"))]
(own / "kit.pth").write_text("".join(f"{path}\n" for path in paths))
PY
cp "$kit/run.sh" "$folder/run"
chmod +x "$folder/run"
"$folder/run" -c "import numpy, modelport; print('numpy', numpy.__version__, 'modelport', modelport.__version__)"
