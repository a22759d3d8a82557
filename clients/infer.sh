#!/usr/bin/env bash
# Ask a served model with nothing but curl: JSON over HTTP.
#
#   clients/infer.sh                                              linear_regression, x = 0.5
#   clients/infer.sh -u http://127.0.0.1:8000 -m linear_regression \
#       '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [0.5, 1.5]}]}'
#
# -u URL     the server (default http://127.0.0.1:8000)
# -m MODEL   the model (default linear_regression)
# A bearer token is taken from the environment variable MODELPORT_TOKEN, the authority to trust for a https:// URL (a PEM
# file) from MODELPORT_CA.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /!p}' "$0" | sed 's/^# \{0,1\}//'; }

url=http://127.0.0.1:8000
model=linear_regression
while getopts "u:m:h" option; do
  case $option in
    u) url=$OPTARG ;;
    m) model=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
body=${1:-'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}]}'}

# The token goes through a file descriptor: a command line is visible to everybody on the machine.
header=""
if [[ -n ${MODELPORT_TOKEN:-} ]]; then header="header = \"Authorization: Bearer $MODELPORT_TOKEN\""; fi
trust=()
if [[ -n ${MODELPORT_CA:-} && $url == https:* ]]; then trust=(--cacert "$MODELPORT_CA"); fi
curl "${trust[@]}" --silent --show-error --fail-with-body --max-time 10 --config <(printf '%s\n' "$header") \
  --header 'Content-Type: application/json' --data "$body" "$url/v2/models/$model/infer"
echo
