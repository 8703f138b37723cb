#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Have programs that the tests use: need.sh PROGRAM=DEBIAN-PACKAGE... Installs what is missing (root on Debian), or says what to install.
set -eu
missing=
for each in "$@"; do
    command -v "${each%%=*}" >/dev/null || missing="$missing ${each#*=}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing" >&2
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "the tests need$missing (names of Debian packages); install that first" >&2
    exit 2
fi
