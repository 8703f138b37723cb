#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make the virtual environment of the checkout: venv.sh PYTHON VENV STAMP. Called by `make venv` when the lock changed.
set -eu
python=$1 venv=$2 stamp=$3

usable() {
    command -v "$python" >/dev/null &&
        "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if ! usable && [ "$python" = python3 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing python3 and python3-venv" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
fi
if ! usable; then
    echo "$python is not a Python 3.11 or newer with venv: install it (Debian: apt-get install python3-venv)," \
        "or name another one: make PYTHON=/path/to/python3.12" >&2
    exit 2
fi

# An environment of another interpreter is of no use; one that only lags behind is brought up to date in place.
wanted=$("$python" -c 'import sys; print(sys.version_info[:2])')
if [ "$("$venv/bin/python" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null || true)" != "$wanted" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
echo "installing the locked requirements into $venv" >&2
"$venv/bin/pip" install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
"$venv/bin/pip" install -q --disable-pip-version-check --no-deps -e .
touch "$stamp"
