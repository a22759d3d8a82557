#!/usr/bin/env bash
# Makes what docker-compose.yml needs on a host, and leaves alone what is there:
#
#   served/                    what is served: a copy of model_repository/ and of its state folder, if there are any
#   secrets/triton             opens Triton's control API
#   secrets/grafana            the password of Grafana's user admin
#   secrets/tls/               for a certificate of your own
#   .env                       which user the containers are, and the profile: gpu, or cpu where there is no GPU
#
# Run it as the user who is to own what is served. With sudo it is the user who called it.
#
#   deploy/compose/prepare.sh [FOLDER]                          FOLDER is that of docker-compose.yml
#   MODELPORT_SERVED=/data/models deploy/compose/prepare.sh     another folder in the place of served/, kept in .env
set -euo pipefail
umask 077
cd "${1:-$(dirname "$0")/../..}"

setting() { [ ! -e .env ] || sed -n "s/^$1=//p" .env | tail -1; }
keep() { # NAME VALUE: into .env, where it does not say anything else
    [ -n "$(setting "$1")" ] && return
    echo "$1=$2" >>.env
    echo "wrote $1=$2 into .env"
}

served=${MODELPORT_SERVED:-$(setting MODELPORT_SERVED)}
served=${served:-./served}
if [ "$served" != "$(setting MODELPORT_SERVED)" ] && [ -n "$(setting MODELPORT_SERVED)" ]; then
    echo "MODELPORT_SERVED is $served here, and $(setting MODELPORT_SERVED) in .env: change it there" >&2
    exit 2
fi
uid=$(id -u) gid=$(id -g)
if [ "$uid" -eq 0 ]; then
    uid=${SUDO_UID:-1000} gid=${SUDO_GID:-1000}
    if [ -d "$served/model_repository" ] && [ "$(stat -c %u "$served/model_repository")" -ne 0 ]; then
        uid=$(stat -c %u "$served/model_repository") gid=$(stat -c %g "$served/model_repository")
    fi
    [ "$uid" -ne 0 ] || { uid=1000 gid=1000; }
fi

if [ ! -d "$served/model_repository" ]; then
    mkdir -p "$served"
    if [ -d model_repository ]; then
        copy=$served/.copy
        rm -rf "$copy" # of one that was interrupted
        mkdir "$copy"
        cp -a model_repository "$copy"
        if [ -d model_repository.state ] && [ ! -e "$served/model_repository.state" ]; then
            cp -a model_repository.state "$copy"
            mv "$copy/model_repository.state" "$served"
        fi
        mv "$copy/model_repository" "$served" # last: from now on it counts as copied
        rmdir "$copy"
        echo "copied model_repository to $served: from now on that one is served"
    fi
fi
mkdir -p "$served"/model_repository "$served"/model_repository.state/{trial,gateway/{keys,capture}} secrets/tls

# The folder keeps other users of this host out; in the containers each file is read by another user.
for name in triton grafana; do
    [ -s "secrets/$name" ] && continue
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"secrets/$name.new"
    chmod 444 "secrets/$name.new"
    mv "secrets/$name.new" "secrets/$name"
    echo "made secrets/$name"
done

# Prometheus and Grafana are other users, and read their files where they lie.
for folder in deploy/prometheus deploy/grafana; do
    if [ -d "$folder" ]; then chmod -R a+rX "$folder"; fi
done

profile=cpu
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then profile=gpu; fi
keep COMPOSE_PROFILES "$profile"
keep MODELPORT_UID "$uid"
keep MODELPORT_GID "$gid"
if [ "$served" != ./served ]; then keep MODELPORT_SERVED "$served"; fi
if [ "$(id -u)" -eq 0 ]; then
    chown "$uid:$gid" "$served" secrets secrets/* .env
    chown -R "$uid:$gid" "$served"/model_repository{,.state}
fi
echo "next: docker compose up -d"
