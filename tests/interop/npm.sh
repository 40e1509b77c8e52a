# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by the interop tests: npm packages in the build folder, or a skipped test that says why.
#
#   npm_install SOURCE DEST    SOURCE holds package.json and the scripts (*.mjs) that use the packages.
#
# DEST gets both, so that the scripts find the packages beside them. Packages stay between runs until
# package.json changes. Optional dependencies are left out: they are more than a gigabyte of builds
# for graphics cards.

skip() {
    echo "skipped: $*"
    exit 77
}

npm_install() {
    command -v node >/dev/null || skip "node is not installed"
    command -v npm >/dev/null || skip "npm is not installed"
    [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] ||
        skip "node $(node --version) is too old, 20 is needed"
    mkdir -p "$2"
    exec 9>"$2/.lock"
    flock 9 # tests run side by side
    if ! cmp -s "$1/package.json" "$2/.installed.json"; then
        rm -f "$2/.installed.json"
        cp "$1/package.json" "$2/package.json"
        (cd "$2" && timeout 400 npm install --omit=optional --ignore-scripts --no-audit --no-fund \
            --fetch-retries=1 --fetch-timeout=30000) >"$2/npm.log" 2>&1 ||
            skip "npm install failed: $(grep -m 1 'npm error' "$2/npm.log" || tail -n 1 "$2/npm.log")"
        cp "$1/package.json" "$2/.installed.json"
    fi
    cp "$1"/*.mjs "$2"
    exec 9>&-
}
