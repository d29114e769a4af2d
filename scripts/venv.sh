# Sourced by demo, test and check: makes .venv in the checkout once, and installs again only when
# what it is made from has changed, so that a second run needs no network.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
all=cpu,litert,dev
[ "$(uname -sm)" != "Linux x86_64" ] || all=$all,tensorrt-rtx # parses and builds without a GPU; its other platforms are untried

make_venv() { # 3.11 first: a CPU build of torch is easiest to come by there. Each is run, for pyenv's shims exist and fail
    "$python" -c "" 2>/dev/null && return
    for found in python3.11 python3.12 python3.13 python3.10 python3 ""; do
        "$found" -c "import sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null || continue
        if "$found" -c "import ensurepip, venv" 2>/dev/null; then break; else bare=$found; fi
    done
    [ -n "$found" ] || { echo "CPython 3.10 or newer with venv is needed. Debian, Ubuntu: sudo apt install ${bare:-python3}-venv" >&2; exit 1; }
    echo "Making .venv with $found: $("$found" -c 'import sys; print(sys.executable, sys.version.split()[0])')"
    "$found" -m venv --clear "$root/.venv"
}

install() { # install EXTRA,EXTRA "what it downloads"
    make_venv
    state="$root $(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum)"
    ! grep -sF "$state" "$root/.venv/installed" | grep -q "^$1" || return 0 # cpu is there where cpu,litert,dev is
    echo "Installing fcn-edge[$1] into .venv, once: $2"
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip # a venv that uv made has none
    "$python" -m pip install $([ -t 1 ] || echo --quiet) --disable-pip-version-check -c "$root/constraints.txt" -e "$root[$1]"
    echo "$1 $state" >>"$root/.venv/installed"
}
