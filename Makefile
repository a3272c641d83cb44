# SPDX-License-Identifier: Apache-2.0
# The front door. Each target installs what is missing by itself (scripts/bootstrap.sh); meson does the building.
PREFIX ?= /usr/local
BUILD := build
BENCH_DIR ?= $(BUILD)/bench-data
BENCH_BYTES ?= 1073741824
BENCH_LARGE_GB ?= 12
ENGINES ?= varve,varve-threads,raw,file,file-threads,rocksdb,lmdb,hashlog
MINUTES ?= 10
SECONDS ?= 60
KILLS ?= 500
TARGETS ?=

.PHONY: all demo test soak soak-share fuzz test-sglang lint coverage mutants peers bench bench-quick bench-churn bench-shift docs install clean help

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

soak:
	@scripts/bootstrap.sh test
	@scripts/soak.sh $(MINUTES)

soak-share:
	@scripts/bootstrap.sh test
	@scripts/soak_share.sh $(KILLS)

test-sglang:
	@scripts/bootstrap.sh test
	@scripts/sglang_test.sh || [ $$? -eq 77 ]

fuzz:
	@scripts/bootstrap.sh test
	@scripts/fuzz.sh $(SECONDS) $(TARGETS)

lint:
	@scripts/bootstrap.sh test
	@scripts/lint.sh

coverage:
	@scripts/bootstrap.sh coverage
	@scripts/coverage.sh --check

mutants:
	@scripts/bootstrap.sh test
	@python3 tests/mutants/mutants.py

# Without root and network the bench runs all the same, and names what it left out.
peers: $(BUILD)/build.ninja
	@scripts/bootstrap.sh bench && meson configure $(BUILD) -Dpeers=enabled || true
	@$(MAKE) --no-print-directory all

bench: peers
	@python3 scripts/bench.py $(BUILD)/varve --dir $(BENCH_DIR) --engines $(ENGINES) --bytes $(BENCH_BYTES) --large-gb $(BENCH_LARGE_GB)

bench-quick: peers
	@python3 scripts/bench.py $(BUILD)/varve --dir $(BENCH_DIR) --engines $(ENGINES) --quick

bench-churn: all
	@rm -rf $(BENCH_DIR)/churn && mkdir -p $(BENCH_DIR)
	@$(BUILD)/bench/churn_bench $(BENCH_DIR)/churn --json > $(BUILD)/churn.jsonl; rc=$$?; rm -rf $(BENCH_DIR)/churn; exit $$rc
	@grep -v '"samples"' $(BUILD)/churn.jsonl
	@if scripts/plot.sh --probe; then scripts/plot.sh --churn $(BUILD)/churn.jsonl -o $(BUILD)/churn.png; fi

bench-shift: all
	@rm -rf $(BENCH_DIR)/shift && mkdir -p $(BENCH_DIR)
	@python3 scripts/bench_shift.py $(BUILD)/bench/shift_bench $(BENCH_DIR)/shift --ten > $(BUILD)/shift.jsonl
	@grep '"ablation": "controller"' $(BUILD)/shift.jsonl
	@if scripts/plot.sh --probe; then scripts/plot.sh --shift $(BUILD)/shift.jsonl -o $(BUILD)/shift.png; fi

docs: all
	@python3 scripts/gen_docs.py $(BUILD)/varve

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	@rm -rf build build-asan build-tsan build-tidy build-fuzz build-soak build-cov build-mutants

help:
	@echo "make            build: the command is $(BUILD)/varve, the libraries lie in $(BUILD)/src"
	@echo "make demo       play an LLM workload through the store, verify every byte, plot the outcome"
	@echo "make test       all tests with sanitizers, format, static analysis"
	@echo "make soak       MINUTES=$(MINUTES) of fresh seeds, fuzzing, and kills on real file systems"
	@echo "make soak-share KILLS=$(KILLS) of processes that share one directory"
	@echo "make test-sglang   the plugin against real releases of SGLang, on CPU (downloads about 3 GB once)"
	@echo "make fuzz       libFuzzer on parsers and whole directories, SECONDS=$(SECONDS) each; TARGETS='run open': only these"
	@echo "make lint       format and static analysis only"
	@echo "make coverage   branch coverage of the library, by file; fails below the targets of scripts/coverage.sh"
	@echo "make mutants    plant known bugs in a copy of the tree, and see that the tests catch each (takes long)"
	@echo "make bench      the store beside the raw disk and other stores, and every target: bench/report/index.html, in 20 minutes"
	@echo "                (BENCH_DIR=$(BENCH_DIR), BENCH_BYTES=$(BENCH_BYTES), BENCH_LARGE_GB=$(BENCH_LARGE_GB), ENGINES=...)"
	@echo "make bench-quick   the same, small: 3 minutes"
	@echo "make bench-churn   gets with and without reclaim, bytes on disk against capacity: $(BUILD)/churn.jsonl, churn.png"
	@echo "make bench-shift   ten stages between writing and reading, with the controller and without: $(BUILD)/shift.jsonl, shift.png"
	@echo "make docs       rewrite the generated parts of README.md and docs/tuning.md"
	@echo "make install    to PREFIX=$(PREFIX) (DESTDIR is honoured)"
	@echo "make clean      remove what was built"
