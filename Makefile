# make run     everything once, without containers        make test    all tests
.DEFAULT_GOAL := help
SHELL := bash
BASE_PYTHON ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready

-include deploy.mk training/train.mk

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## make the virtual environment and install requirements.txt
$(READY): requirements.txt requirements-dev.txt requirements.lock
	@$(BASE_PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@test -x $(PYTHON) || { echo "making $(VENV)"; $(BASE_PYTHON) -m venv $(VENV); }
	@echo "installing requirements.txt and requirements-dev.txt (about 1.2 GB unpacked, once)"
	@$(PYTHON) -m pip install --disable-pip-version-check --progress-bar off -q -r requirements-dev.txt -c requirements.lock
	@touch $@

run: $(READY) ## run the whole system once, without containers, on the real test period
	@$(PYTHON) -m lab.demo

test: $(READY) ## run all tests; those that need a real Kafka start one
	@$(PYTHON) -m pytest

lint: $(READY) ## check style and types
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy

bench: $(READY) ## measure throughput and latency beside the bare limit and the naive way
	@$(PYTHON) -m benchmarks.throughput

faultlab: $(READY) ## score the detectors on injected faults (QUICK=1: three onsets); settings must be committed
	@$(PYTHON) -m lab.faultlab $(if $(QUICK),--quick)

lock: ## write requirements.lock from what is installed now
	@{ echo "# Everything below requirements.txt and requirements-dev.txt, as tested. Written by make lock."; \
	   $(PYTHON) -m pip freeze --exclude pip --exclude setuptools; } > requirements.lock

clean: ## remove what make run leaves behind, and caches (not the environment, not the data, nothing of anybody else)
	@test ! -x $(PYTHON) || $(PYTHON) -m lab.demo --clean
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup run test lint bench faultlab lock clean
