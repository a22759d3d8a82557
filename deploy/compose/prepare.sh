#!/usr/bin/env bash
# Makes what docker-compose.yml needs on a host, and leaves alone what is there:
#
#   model_repository.state/    state, with the folders that containers share
#   secrets/triton             opens Triton's control API
#   secrets/grafana            the password of Grafana's user admin
#   secrets/tls/               for a certificate of your own
#   .env                       which user the containers are, and the profile: gpu, or cpu where there is no GPU
#
# Run it as the user who owns model_repository/. As root it gives both folders to user 1000.
#
#   deploy/compose/prepare.sh [FOLDER]      FOLDER is that of docker-compose.yml
set -euo pipefail
umask 077
cd "${1:-$(dirname "$0")/../..}"

uid=$(id -u) gid=$(id -g)
[ "$uid" -ne 0 ] || { uid=1000 gid=1000; }

umask 022
mkdir -p model_repository
umask 077
mkdir -p model_repository.state/trial model_repository.state/gateway/{keys,capture} secrets
if [ "$(id -u)" -eq 0 ]; then chown -R "$uid:$gid" model_repository model_repository.state; fi

# The folder keeps other users of this host out; in the containers each file is read by another user.
for name in triton grafana; do
    [ -s "secrets/$name" ] && continue
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"secrets/$name.new"
    chmod 444 "secrets/$name.new"
    mv "secrets/$name.new" "secrets/$name"
    echo "made secrets/$name"
done
mkdir -p secrets/tls
if [ "$(id -u)" -eq 0 ]; then chown "$uid:$gid" secrets/tls; fi

if [ ! -e .env ]; then
    profile=cpu
    if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then profile=gpu; fi
    printf 'COMPOSE_PROFILES=%s\nMODELPORT_UID=%s\nMODELPORT_GID=%s\n' "$profile" "$uid" "$gid" >.env
    echo "made .env, with the profile $profile"
fi
echo "next: docker compose up -d"
