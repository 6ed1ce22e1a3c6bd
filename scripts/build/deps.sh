#!/bin/sh
# deps.sh PACKAGE...: installs the Debian packages that are missing, and says so. Nothing is done when all are there.
set -eu
missing=
for p in "$@"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "ckpt needs Debian packages that are not here, installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q || echo "apt-get update failed, going on with the lists that are here" >&2
$sudo apt-get install -q -y --no-install-recommends $missing
