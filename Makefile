# make run     everything once, without containers        make test    all tests
# The parts one by one, each in a terminal of its own: make prepare, broker, topics, api, produce, consume.
.DEFAULT_GOAL := help
SHELL := bash
BASE_PYTHON ?= python3
VENV ?= .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready

-include deploy.mk training/train.mk supply.mk

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## make the virtual environment and install what requirements.lock says, hashes checked
$(READY): requirements.lock
	@$(BASE_PYTHON) -B -c 'import airquality'
	@test -x $(PYTHON) || { echo "making $(VENV)"; $(BASE_PYTHON) -m venv $(VENV); }
	@echo "installing requirements.txt and requirements-dev.txt as locked (about 1.2 GB unpacked, once)"
	@# --no-deps: the lock is whole, and pip takes a dependency's extra (pandas[parquet]) for a requirement without a version
	@$(PYTHON) -m pip install --disable-pip-version-check --progress-bar off -q --no-deps --require-hashes -r requirements.lock
	@touch $@

run: $(READY) ## run the whole system once, without containers, on the real test period (`FAULT=stuck:RH:2005-03-01`, `KEEP=1` keeps its records)
	@$(PYTHON) -m lab.demo $(if $(FAULT),--fault "$(FAULT)") $(if $(KEEP),--keep)

demo-fault: $(READY) ## see faults noticed: a frozen sensor and a slow gain beside a clean station
	@$(PYTHON) -m lab.demo --fault stuck:RH:2005-02-24 --fault gain:S1:1.3:2005-02-20 $(if $(KEEP),--keep)

prepare: $(READY) ## make data, backtest, reference with its calibration, and the registry (a minute or two)
	@$(PYTHON) -m lab.prepare

broker: $(READY) ## run a Kafka broker until Ctrl-C (`make broker PORT=9092`; ARGS="--data-dir run/kafka" keeps its records)
	@$(PYTHON) -m airquality broker --port $(or $(PORT),9092) $(ARGS)

topics: $(READY) ## create the topics where they are missing
	@$(PYTHON) -m airquality topics $(ARGS)

api: $(READY) ## serve the registry's champion until Ctrl-C (`make api PORT=8000`)
	@$(PYTHON) api_service.py --port $(or $(PORT),8000) $(ARGS)

produce: $(READY) ## replay the test period into Kafka (`make produce ARGS="--rate 50 --loop"`)
	@$(PYTHON) producer.py --csv $(or $(DATASET_DIR),dataset)/test_data_raw.csv $(ARGS)

consume: $(READY) ## predict, publish and monitor until Ctrl-C (`make consume ARGS="--idle-exit-seconds 10"`)
	@$(PYTHON) consumer.py $(ARGS)

test-fast: $(READY) ## run the tests for daily work: nothing slow, no real broker
	@# where it may not be kept, every worker compiles every test anew: a tenth of the time
	@PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest -m "not slow and not broker and not engine" -n 2 --dist loadfile

test: $(READY) ## run all tests; those that need a real Kafka start one
	@$(PYTHON) -m pytest

lint: $(READY) ## check style and types
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy

bench: $(READY) ## measure beside the limits and beside others, judged by targets: docs/benchmarks.md (`QUICK=1`, `ONLY=serving`)
	@$(PYTHON) -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(ARGS)

prove: $(READY) ## prove the delivery promise with faults and a judge of its own (`make prove QUICK=1`, `ROW=kills`)
	@$(PYTHON) -m lab.proof $(if $(QUICK),--quick) $(if $(ROW),--row $(ROW)) $(ARGS)

soak: $(READY) ## run 200 rows a second for an hour and see that memory, descriptors and latency stay flat
	@$(PYTHON) -m lab.proof --row soak $(if $(QUICK),--quick) $(ARGS)

faultlab: $(READY) ## score the detectors on injected faults (QUICK=1: three onsets); settings must be committed
	@$(PYTHON) -m lab.faultlab $(if $(QUICK),--quick)

clean: ## remove what make run leaves behind, and caches (not the environment, not the data, nothing of anybody else)
	@test ! -x $(PYTHON) || $(PYTHON) -m lab.demo --clean
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup run demo-fault prepare broker topics api produce consume test-fast test lint bench prove soak faultlab clean
