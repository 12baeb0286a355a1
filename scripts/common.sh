# Shared by the scripts of this folder; source it with bash. Leaves ROOT (the package) and BIN (built programs, after build).

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The libraries that Package.swift links to, and what the scripts themselves run.
BUILD_PACKAGES=(pkg-config libsodium-dev libsnappy-dev libzstd-dev zlib1g-dev libarchive-dev libsqlite3-dev libcurl4-openssl-dev libssl-dev python3)
# Programs that the tests run or compare with.
TEST_PACKAGES=(minisign redis-server curl wget rclone davfs2 fuse3 chromium-headless-shell)
SITE_PACKAGES=(iproute2 ethtool procps curl nftables)
BENCH_PACKAGES=(nginx-light python3-libtorrent)

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Installs the Debian packages that are missing; does nothing, and needs no root, when all are there.
need_packages() {
    local package missing=() sudo=()
    command -v dpkg-query >/dev/null || { say "not a Debian system: these packages must be there already: $*"; return 0; }
    for package in "$@"; do
        # Any nginx serves; the full package satisfies the light one's place.
        [[ $package == nginx-light ]] && command -v nginx >/dev/null && continue
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "needs these packages, and root to install them: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    say "installing ${missing[*]}"
    # The lists may be older than the mirror: refresh them only when the first try fails.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { "${sudo[@]}" apt-get update -qq >/dev/null &&
            "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; } ||
        die "apt-get could not install ${missing[*]}"
}

# test_python: a Python of its own under .build with a real S3 server and its reference client, for the tests of S3 stores. Does nothing when
# one is there already; 1 when the package index is out of reach.
test_python() {
    local place=$ROOT/.build/test-python check='import moto, boto3, flask' python
    for python in "$place/bin/python3" /usr/bin/python3 /usr/local/bin/python3 "$(command -v python3)"; do
        [[ -x $python ]] && "$python" -c "$check" 2>/dev/null && return 0
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || (need_packages python3-venv) || return 1
    say "installing moto and boto3 into .build/test-python"
    python3 -m venv "$place" && "$place/bin/pip" install --quiet --disable-pip-version-check 'moto[server]>=5,<6' boto3 >&2 || {
        rm -rf "$place"
        return 1
    }
}

need_swift() {
    command -v swift >/dev/null || die "Swift 6.2 or newer is needed and not found in PATH: install it from https://www.swift.org/install/linux/"
}

# build release|debug [PRODUCT…]: the two programs, and others; sets BIN.
build() {
    local configuration=$1 start=$SECONDS product
    shift
    [[ -x $ROOT/.build/$configuration/chunkmeshd ]] ||
        say "building ($configuration); the first time takes five to ten minutes on two cores"
    for product in chunkmeshd chunkmesh "$@"; do
        swift build --package-path "$ROOT" -c "$configuration" --product "$product" >&2 || die "the build of $product failed"
    done
    BIN=$(swift build --package-path "$ROOT" -c "$configuration" --show-bin-path)
    say "built in $((SECONDS - start)) s: $BIN"
}

# free_ports N: N TCP ports of loopback that are free now, blank separated.
free_ports() {
    python3 - "$1" <<'PY'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))
PY
}

# wait_for SECONDS COMMAND…: polls until the command succeeds; 1 when the time is over.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}
