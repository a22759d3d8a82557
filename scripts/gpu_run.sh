#!/usr/bin/env bash
# run WORDS: the kit's Python with these arguments, in the kit's copy of modelport.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)
export PATH="$folder/python/bin:$PATH" PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=
export LD_LIBRARY_PATH="$folder/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export XDG_DATA_HOME="$folder/data" XDG_CACHE_HOME="$folder/cache"
MODELPORT_COMMIT=$(cat "$folder/modelport/COMMIT")
export MODELPORT_COMMIT
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV
cd "$folder/modelport"
exec "$folder/python/bin/python3" "$@"
