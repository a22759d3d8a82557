# One command per task, the same for a person and for CI. `make` alone lists them.
#
# PYTHON=/path/to/python3.11   the interpreter for .venv (default: the first Python 3.10 to 3.12 that is found)
# PIP_ARGS="..."               passed on to pip. torch's ordinary build brings several GB of CUDA libraries; on a
#                              machine without a GPU, name the index of PyTorch's CPU builds instead:
#                              make demo PIP_ARGS="--extra-index-url ADDRESS"
# BENCH_ARGS="..."             passed on to the benchmark: make bench-peers BENCH_ARGS="--models digits_cnn --resume"
# PYTEST_ARGS="..."            passed on to pytest, which then runs one test at a time: make test PYTEST_ARGS="-k layers"

SHELL := /bin/bash
VENV  := .venv
BIN   := $(VENV)/bin
export PYTHON PIP_ARGS PYTEST_ARGS VENV
# setup.sh installs packages uncompiled. Where this is set, as in many containers, every process would compile all anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test serve bench bench-peers lint format docs lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: ## Make .venv with the locked dependencies (done by the other targets too)
	@scripts/setup.sh

demo: setup ## Build the sample models, serve them, check every answer; rows in build/demo.json
	@$(BIN)/modelport demo

test: ## Lint, type check and the whole test suite
	@scripts/test.sh

serve: setup ## Serve model_repository/ until Ctrl-C (builds the samples first when there are none)
	@ls model_repository/*/*/manifest.json >/dev/null 2>&1 || $(BIN)/modelport demo
	@$(BIN)/modelport serve

bench: setup ## Measure a model with perf_analyzer: make bench NAME=digits_cnn; results in benchmarks/results/
	@ls model_repository/*/*/manifest.json >/dev/null 2>&1 || $(BIN)/modelport demo
	@$(BIN)/modelport bench --install
	@$(BIN)/modelport bench $(or $(NAME),digits_cnn)

bench-peers: setup ## Embedded Triton against six other servers, ~1 h: make bench-peers BENCH_ARGS=--quick
	@scripts/debian.sh wrk; command -v java >/dev/null || scripts/debian.sh default-jre-headless
	@ls model_repository/*/*/manifest.json >/dev/null 2>&1 || $(BIN)/modelport demo
	@$(BIN)/python benchmarks/against_peers.py $(BENCH_ARGS)

lint: setup ## ruff and mypy only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## Let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: setup ## Write docs/cli.md, docs/doctor.md and the dashboards anew from commands, rules and scripts/dashboards
	@$(BIN)/python scripts/cli_docs.py
	@$(BIN)/python scripts/doctor_docs.py
	@$(BIN)/python scripts/dashboards

lock: ## Resolve pyproject.toml anew into requirements.lock
	@scripts/lock.sh

clean: ## Remove .venv, build/ and caches; the model repository stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
	find src tests export clients benchmarks scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
