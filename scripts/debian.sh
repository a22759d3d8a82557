#!/usr/bin/env bash
# Makes sure that the named Debian packages are installed: `debian.sh wrk curl`.
# As root, or with a sudo that asks for no password, it installs what is missing; else it says what to install.
set -euo pipefail

missing=()
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
cannot() {
    echo "error: missing Debian packages: ${missing[*]}
  why: $1
  do:  apt-get install ${missing[*]}" >&2
    exit 1
}
command -v apt-get >/dev/null || cannot "this machine has no apt-get to install them with"
"${as_root[@]}" true 2>/dev/null || cannot "installing needs root, or a sudo that asks for no password"

# Some bring a service, as prometheus does: it is started neither now nor with the machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
silence() {
    command -v systemctl >/dev/null || return 0
    local services
    services=$(dpkg-query -L "${missing[@]}" | sed -n 's|.*/systemd/system/\([^/]*\.service\)$|\1|p')
    # shellcheck disable=SC2086
    [ -z "$services" ] || "${as_root[@]}" systemctl disable --quiet $services
}

echo "== installing Debian packages: ${missing[*]}"
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" </dev/null; }
install() { apt install -y --no-install-recommends "${missing[@]}" >/dev/null; }
install 2>/dev/null || { apt update && install; } || cannot "apt-get could not install them; its words are above"
silence
