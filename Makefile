# Everything by one word, so that nobody must know meson. The build itself is meson.build.
BUILD ?= build
PREFIX ?= /usr/local
MESON_ARGS ?=

.PHONY: all build deps packages demo check bench bench-quality bench-memory engines past sanitize clang format lint install \
    clean

all: build

# What to do about missing packages: building alone only says so, the rest asks (scripts/deps.sh).
demo check bench bench-quality bench-memory: DEPS = --ask
DEPS = --say

# Install the Debian packages that are missing.
deps:
	@scripts/deps.sh --install

packages:
	@scripts/deps.sh $(DEPS)

$(BUILD)/build.ninja: | packages
	@meson setup $(BUILD) --prefix $(PREFIX) $(MESON_ARGS) >/dev/null

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

# Quantize the demonstration model to several types and print what each costs.
demo: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet nibble
	@scripts/demo.sh $(BUILD)/nibble

# Every test; non-zero when one fails.
check: build
	@meson test -C $(BUILD) --print-errorlogs

# Speed of codecs and of the forward pass beside the machine's limits. Prints; judges nothing.
bench: build
	@scripts/bench.sh $(BUILD)

# What quantizing costs on the demonstration model and a harder one, by method and type. TEXT=FILE: measured on it.
bench-quality: build
	@scripts/bench-quality.sh $(BUILD) $(TEXT)

# What solving keeps in memory, on the large model of the benchmarks; fails when it is more than derived.
bench-memory: build
	@tests/e2e/memory.sh . $(abspath $(BUILD)) "$$(scripts/bench-model.sh $(BUILD))"

# Other people's engines run what nibble writes, from a Python environment of their own (6 GB); the table of docs/engines.md.
engines: build
	@tests/engines/engines.sh . $(abspath $(BUILD))

# The same bytes as an earlier commit's: every kind of output, made by both programs. By hand; a quarter of an hour.
past: build
	@tests/e2e/past.sh . $(abspath $(BUILD))

# Address and undefined-behaviour sanitizers, plain tests only.
sanitize:
	@scripts/deps.sh clang
	@test -f build-sanitize/build.ninja || CC=clang meson setup build-sanitize -Db_sanitize=address,undefined \
	    -Db_lundef=false -Doptimization=1 -Dbench=false >/dev/null
	@ninja -C build-sanitize --quiet
	@meson test -C build-sanitize --print-errorlogs --no-suite interop --no-suite measured --timeout-multiplier 5

# The second compiler, warnings as errors.
clang:
	@scripts/deps.sh clang
	@test -f build-clang/build.ninja || CC=clang meson setup build-clang -Dwerror=true >/dev/null
	@ninja -C build-clang --quiet
	@meson test -C build-clang --print-errorlogs --no-suite interop --no-suite measured

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

lint:
	@git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror
	@cppcheck --quiet --enable=warning,portability --inline-suppr --error-exitcode=1 -I. \
	    base quant formats infer calib run report cli

install: build
	@meson install -C $(BUILD)

clean:
	@rm -rf $(BUILD) build-sanitize build-clang
