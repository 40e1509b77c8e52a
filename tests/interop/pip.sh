# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by the interop tests: Python packages in an environment in the build folder, or a skipped test that says why.
#
#   pip_install REQUIREMENTS DEST    then DEST/bin/python has them
#
# Packages stay between runs until REQUIREMENTS changes.

skip() {
    echo "skipped: $*"
    exit 77
}

pip_install() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    mkdir -p "$2"
    exec 9>"$2/.lock"
    flock 9 # tests run side by side
    if ! cmp -s "$1" "$2/installed.txt"; then
        rm -f "$2/installed.txt"
        python3 -m venv "$2" >"$2/pip.log" 2>&1 || skip "no environment: $(tail -n 1 "$2/pip.log")"
        timeout 300 "$2/bin/pip" install --quiet --retries 1 --timeout 30 --requirement "$1" >"$2/pip.log" 2>&1 ||
            skip "pip install failed: $(grep -m 1 ERROR "$2/pip.log" || tail -n 1 "$2/pip.log")"
        cp "$1" "$2/installed.txt"
    fi
    exec 9>&-
}
