# shellcheck shell=bash
# What ./demo, ./test and scripts/setup share: where the project is, a known
# environment, and how they speak. Sourced after `set -euo pipefail`; runs nothing.

# shellcheck disable=SC2034  # used by those that source this
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
me=${0##*/}

# The system's own tools come first: a python3 of pyenv or conda does not see
# Debian's bcc, and a shell started by `su` has no /usr/sbin.
export PATH="/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}"
# Each of these makes Python or pip use another place than the project's .venv.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON
export PYTHONNOUSERSITE=1 PIP_USER=0

# Where the live tests have Docker's programs if they are not installed: unpacked, so that no daemon is started.
docker_folder=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/xdpguard/docker

say() { printf '%s\n' "$*"; }

# die MESSAGE [EXIT_CODE]
die() {
    printf '%s: error: %s\n' "$me" "$1" >&2
    exit "${2:-1}"
}

is_root() { ((EUID == 0)); }

# Runs a command as root. The caller has made sure that there is a way.
as_root() {
    if is_root; then "$@"; else sudo -- "$@"; fi
}

can_be_root() { is_root || command -v sudo >/dev/null; }
