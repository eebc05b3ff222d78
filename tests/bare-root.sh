#!/bin/sh
# bare-root.sh -- prove the README's two commands on a system that has nothing but its base.
#
#     tests/bare-root.sh [--suite NAME] [--mirror URL] [--tar FILE] [--host-config] [--keep] [COMMAND ...]
#
# A developer's machine has everything, and hides a step that the installation forgot.  This makes
# a minimal root with debootstrap, copies the sources there (what git tracks or would track),
# installs `make` as a user would, and runs the commands: `make test` and `make demo` unless others
# are given.  Before that it checks that a user without rights is told the missing packages.
#
#   --suite NAME    bookworm unless told
#   --mirror URL    unless told, the first one that this machine's apt uses
#   --tar FILE      the bare root, packed: used if it is there, made if not; saves minutes
#   --host-config   give the root this machine's way to the registries (apt's and pip's settings,
#                   certificates, name resolution, proxy and PIP_* variables): needed behind a proxy
#   --keep          leave the root for a look; its path is printed
#
# Needs root, debootstrap and unshare.
set -eu

suite=bookworm mirror=${BARE_MIRROR:-} tar=${BARE_TAR:-} host_config=no keep=no
while [ $# -gt 0 ]; do
    case $1 in
    --suite) suite=$2 && shift 2 ;;
    --mirror) mirror=$2 && shift 2 ;;
    --tar) tar=$2 && shift 2 ;;
    --host-config) host_config=yes && shift ;;
    --keep) keep=yes && shift ;;
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" && exit 0 ;;
    -*) echo "bare-root.sh: unknown option $1" >&2 && exit 2 ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || set -- 'make test' 'make demo'

source=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" -eq 0 ] || { echo 'bare-root.sh: must be root' >&2 && exit 2; }
for tool in debootstrap unshare git; do
    command -v $tool >/dev/null || { echo "bare-root.sh: needs $tool" >&2 && exit 2; }
done

# Mounts live in a namespace of our own and vanish with it, however this script ends.
if [ -z "${BARE_INSIDE:-}" ]; then
    [ $host_config = no ] || set -- --host-config "$@"
    [ $keep = no ] || set -- --keep "$@"
    BARE_INSIDE=1 BARE_MIRROR=$mirror BARE_TAR=$tar \
        exec unshare --mount --pid --fork --kill-child "$0" --suite "$suite" "$@"
fi

root=$(mktemp -d "${TMPDIR:-/tmp}/navmap-bare.XXXXXX")
# shellcheck disable=SC2317 # the trap calls it
finish() {
    if [ "$keep" = yes ]; then
        echo "bare-root.sh: kept $root"
    else
        umount "$root/dev/pts" "$root/dev/shm" "$root/sys" "$root/proc" 2>/dev/null || :
        rm -rf --one-file-system "$root"
    fi
}
trap finish EXIT

if [ -n "$tar" ] && [ -f "$tar" ]; then
    tar -C "$root" -xf "$tar"
else
    # shellcheck disable=SC2016 # apt's own variable
    [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | head -n 1)
    debootstrap --variant=minbase "$suite" "$root" "${mirror%/}" >"$root.log" 2>&1 || {
        tail -n 20 "$root.log" >&2
        exit 1
    }
    rm -f "$root.log"
    [ -z "$tar" ] || tar -C "$root" -cf "$tar" .
fi

# mktemp made it for one user; in it there are others.
chmod 755 "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mkdir -p "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -sf pts/ptmx "$root/dev/ptmx"

set_aside=$root/tmp/environment
: >"$set_aside"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || :
if [ $host_config = yes ]; then
    mkdir -p "$root/etc/ssl/certs" "$root/root/.config"
    # The bundle is made anew from its parts when a package brings ca-certificates: both are needed.
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || :
    cp -rL /usr/local/share/ca-certificates "$root/usr/local/share/" 2>/dev/null || :
    cp -L /etc/apt/apt.conf.d/[0-9]*proxy* /etc/apt/apt.conf.d/99* "$root/etc/apt/apt.conf.d/" 2>/dev/null || :
    cp -L /etc/pip.conf "$root/etc/" 2>/dev/null || :
    cp -rL "${HOME:-/root}/.config/pip" "$root/root/.config/" 2>/dev/null || :
    # PIP_FIND_LINKS names folders of this machine, which the root does not have.
    env | grep -E '^(PIP_|SSL_CERT|REQUESTS_CA|CURL_CA|(https?|no)_proxy=|(HTTPS?|NO)_PROXY=)' |
        grep -v '^PIP_FIND_LINKS' >"$set_aside" || :
fi

in_root() { # USER COMMAND
    # shellcheck disable=SC2046 # one word per variable; none of these holds a space
    chroot --userspec="$1" "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        $(cat "$set_aside") /bin/sh -c "cd /opt/navmap && $2"
}

mkdir -p "$root/opt/navmap"
(cd "$source" && git ls-files -z -co --exclude-standard | tar --null -T - --ignore-failed-read -cf -) |
    tar -C "$root/opt/navmap" -xf -
# shellcheck disable=SC1091
. "$root/etc/os-release"
echo "bare-root.sh: ${PRETTY_NAME:-$suite}, $(chroot "$root" dpkg-query -W | wc -l) packages"

status=0
report=
note() {
    report="$report$1
"
}

# Without the right to install, the packages are named and nothing happens.
if said=$(in_root nobody:nogroup tools/bootstrap.sh 2>&1); then
    note "FAILED  a user without rights was told nothing" && status=1
else
    case $said in
    *missing:*liblmdb-dev*apt-get\ install*) note 'passed  a user without rights is told the packages' ;;
    *) note "FAILED  a user without rights was told: $said" && status=1 ;;
    esac
fi

# What the README asks of the user: make.
in_root root:root 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends make' \
    >"$root/tmp/make.log" 2>&1 || { tail -n 20 "$root/tmp/make.log" >&2 && exit 1; }
# A fresh machine has no package lists either.
rm -rf "$root"/var/lib/apt/lists/*

for command in "$@"; do
    echo "bare-root.sh: $command"
    began=$(date +%s)
    if in_root root:root "$command"; then verdict=passed; else verdict=FAILED && status=1; fi
    note "$verdict  $command ($(($(date +%s) - began)) s)"
done

printf '\nbare-root.sh: %s\n%s' "${PRETTY_NAME:-$suite}" "$report"
exit $status
