# SPDX-License-Identifier: Apache-2.0
# The front door. Each target installs what is missing by itself (scripts/bootstrap.sh); meson does the building.
PREFIX ?= /usr/local
BUILD := build
BENCH_DIR ?= $(BUILD)/bench
BENCH_BYTES ?= 1073741824

.PHONY: all demo test test-sglang lint bench docs install clean help

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

$(BUILD)/build.ninja:
	@scripts/bootstrap.sh build
	@meson setup $(BUILD) -Dtests=false --prefix=$(PREFIX) >/dev/null

demo:
	@scripts/bootstrap.sh demo
	@$(MAKE) --no-print-directory all
	@python3 scripts/demo.py $(BUILD)/varve $(BUILD)/demo

test:
	@scripts/bootstrap.sh test
	@scripts/test.sh

test-sglang:
	@scripts/bootstrap.sh test
	@scripts/sglang_test.sh || [ $$? -eq 77 ]

lint:
	@scripts/bootstrap.sh test
	@scripts/lint.sh

bench: all
	@for page in 1048576 65536 16384; do \
		$(BUILD)/varve bench $(BENCH_DIR) --page-bytes $$page --pages $$(($(BENCH_BYTES) / page)) --batch 128 \
			--engines uring,threads || exit 1; \
	done

docs: all
	@python3 scripts/gen_docs.py $(BUILD)/varve

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	@rm -rf build build-asan build-tsan build-tidy

help:
	@echo "make            build: the command is $(BUILD)/varve, the libraries lie in $(BUILD)/src"
	@echo "make demo       play an LLM workload through the store, verify every byte, plot the outcome"
	@echo "make test       all tests with sanitizers, format, static analysis"
	@echo "make test-sglang   the plugin against real releases of SGLang, on CPU (downloads about 3 GB once)"
	@echo "make lint       format and static analysis only"
	@echo "make bench      the store beside the raw disk (BENCH_DIR=$(BENCH_DIR), BENCH_BYTES=$(BENCH_BYTES))"
	@echo "make docs       rewrite the generated parts of README.md and docs/tuning.md"
	@echo "make install    to PREFIX=$(PREFIX) (DESTDIR is honoured)"
	@echo "make clean      remove what was built"
