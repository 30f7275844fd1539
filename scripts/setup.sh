#!/bin/sh
# Brings up what a run needs and is missing: the locked npm packages (Node 24 among them), the generated protocol code
# and, on Debian, the system programs. Prints nothing when all is there.
#   setup.sh lab|test
set -eu
cd "$(dirname "$0")/.."

stamp=node_modules/.sluice-lock
if ! cmp -s package-lock.json "$stamp"; then
  # What a link leads to belongs to another checkout: npm would empty it.
  [ ! -L node_modules ] || rm node_modules
  npm ci
  cp package-lock.json "$stamp"
fi
PATH="$PWD/node_modules/.bin:$PATH"

if [ ! -d proto/gen ] || [ -n "$(find proto buf.gen.yaml -name gen -prune -o -newer proto/gen -type f -print | head -n 1)" ]; then
  buf generate
fi

programs="ip:iproute2 nft:nftables bird:bird2 ping:iputils-ping"
[ "$1" = test ] && programs="$programs tcpdump:tcpdump vtysh:frr chromium:chromium"
missing=""
for entry in $programs; do
  command -v "${entry%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${entry%%:*}" ] || missing="$missing ${entry#*:}"
done
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  apt-get update -qq
  # Packages that start daemons must not: the lab runs its own, in its own namespaces.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
