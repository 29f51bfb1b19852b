# The two commands of the README: `make demo` and `make test`. Both make .venv when it is missing or out of date.
PYTHON ?= python3.11
PYTHON := $(shell command -v $(PYTHON) || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PARTS := pyproject.toml constraints.txt
# uv where it is installed, since it is faster; pip otherwise.
UV := $(shell command -v uv)
ifdef UV
MAKE_VENV := $(UV) venv -q --python $(PYTHON) $(VENV)
PIP := $(UV) pip install -q --python $(BIN)/python
else
MAKE_VENV := $(PYTHON) -m venv $(VENV)
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile
endif

.DEFAULT_GOAL := help
.PHONY: demo test lint proto bench ib-insync help

demo: $(VENV)/.run  ## show everything once, on the simulator
	$(BIN)/ibkr-gateway demo

test: $(VENV)/.dev  ## run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(VENV)/.dev  ## check style, types, imports and the contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code
	$(BIN)/python tools/check_breaking.py

proto: $(VENV)/.dev  ## write the stubs and errors.json again
	$(BIN)/buf format -w
	$(BIN)/python tools/generate_stubs.py

bench: $(VENV)/.dev  ## measure (there are no benchmarks yet)
	@echo "There are no benchmarks in this version yet; nothing was measured."

ib-insync: .venv-ib-insync/.done  ## the broker's tests on ib_insync 0.9.86, in an environment of its own
	.venv-ib-insync/bin/python -m pytest -q -p no:cacheprovider tests/server/broker

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.run: $(PARTS)
	test -x $(BIN)/python || $(MAKE_VENV)
	$(PIP) -e . -c constraints.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[dev]' -c constraints.txt
	@touch $@

# ib_insync and ib_async install the same package directory (eventkit), so they cannot share an environment.
.venv-ib-insync/.done: $(PARTS) $(VENV)/.dev
	rm -rf .venv-ib-insync
	$(PYTHON) -m venv .venv-ib-insync
	$(BIN)/python tools/other_library.py > .venv-ib-insync/requirements.txt
	.venv-ib-insync/bin/python -m pip install -q --disable-pip-version-check -r .venv-ib-insync/requirements.txt -c constraints.txt
	.venv-ib-insync/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@
