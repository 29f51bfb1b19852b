# The two commands of the README: `make demo` and `make test`. Both make .venv when it is missing or out of date.
PYTHON ?= python3.11 python3
# The first of them that runs and is new enough, as the file that it is: also from within .venv it is the one below it.
PROBE := import os, sys; sys.version_info < (3, 11) or print(os.path.realpath(sys.executable))
INTERPRETER := $(shell for python in $(PYTHON); do $$python -c '$(PROBE)' 2>/dev/null; done | head -n 1)
VENV := .venv
BIN := $(VENV)/bin
OTHER := .venv-ib-insync
CLIENTS := ib_async ib_insync ibapi
# An install is done again when what it is made from changes, not when a file's time does.
MADE := $(shell echo '$(CURDIR) $(INTERPRETER)' | cksum | cut -d ' ' -f 1)
STAMP := $(MADE)-$(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
COMPAT := $(foreach client,$(CLIENTS),.venv-compat-$(client)/.done-$(MADE)-$(shell cat compat/requirements/$(client).txt constraints.txt | cksum | cut -d ' ' -f 1))
# uv where it is installed, since it is faster; pip otherwise. Nothing is compiled: neither extensions, for which a new
# machine has no compiler, nor bytecode, most of which is never imported (measured: 16 s instead of 22).
UV := $(shell command -v uv)
ifdef UV
MAKE_VENV := $(UV) venv -q --python $(INTERPRETER)
PIP = $(UV) pip install -q --only-binary :all: -c constraints.txt --python $(BIN)/python
else
MAKE_VENV := $(INTERPRETER) -m venv
PIP = $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --only-binary :all: -c constraints.txt
endif

# Where it is set every program that a test starts compiles its libraries anew: 3.2 s of the server instead of 1.1.
unexport PYTHONDONTWRITEBYTECODE

# Tests wait for programs and sockets as often as they compute: two for a core.
WORKERS ?= $(shell $(INTERPRETER) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')

.DEFAULT_GOAL := help
.PHONY: demo test fuzz pacing integration coverage lint explore-simulator explore mutants crash failures docs proto bench ib-insync compat help examples

demo: $(VENV)/.run-$(STAMP)  ## show everything once, on the simulator
	$(BIN)/ibkr-gateway demo

test: $(VENV)/.dev-$(STAMP)  ## run the tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

fuzz: $(VENV)/.dev-$(STAMP)  ## random bytes and fields at the simulator, more of them than the tests send: TIMES=20
	FUZZ_TIMES=$(or $(TIMES),20) $(BIN)/python -m pytest -q -n $(WORKERS) --timeout 0 tests/server/simulator/test_malformed.py tests/server/simulator/test_session.py

pacing: $(VENV)/.dev-$(STAMP)  ## hours of hostile demand in virtual time, in which IBKR's pacing is never violated: HOURS=2
	PACING_HOURS=$(or $(HOURS),2) $(BIN)/python -m pytest -q --timeout 0 tests/server/broker/test_pacing_proof.py

integration: $(VENV)/.dev-$(STAMP)  ## tests against your own IB Gateway, paper only: IBKR_GATEWAY_PORT=4002
	$(BIN)/python -m pytest -q -m integration tests/integration

coverage: $(VENV)/.dev-$(STAMP)  ## the tests with their coverage: a table, htmlcov/ and coverage.xml; fails below the floor
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --cov --cov-report=term --cov-report=html --cov-report=xml

lint: $(VENV)/.dev-$(STAMP)  ## check style, types, imports and the contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code
	$(BIN)/python tools/check_breaking.py

examples: $(VENV)/.dev-$(STAMP)  ## build and run the examples in other languages: ONLY="go rust"
	$(BIN)/python tools/run_examples.py $(ONLY)

explore-simulator: $(VENV)/.dev-$(STAMP)  ## random orders and faults on the simulator, replayed to the byte: ORDERS=10000 SEED=1
	$(BIN)/python -m tests.server.simulator.exploration --orders $(or $(ORDERS),10000) --seed $(or $(SEED),1)

explore: $(VENV)/.dev-$(STAMP)  ## orders under every failure, against the broker's truth: SEEDS=1000 JOBS=2 WRITE=1; SEED=7 alone: its trace
	$(BIN)/python -m tests.reliability.explorer --seed $(or $(SEED),1) --seeds $(or $(SEEDS),$(if $(SEED),1,1000)) --jobs $(or $(JOBS),2) $(if $(MUTANT),--mutant "$(MUTANT)") $(if $(WRITE),--write)

mutants: $(VENV)/.dev-$(STAMP)  ## faults put into the order core, each of which seeds must find: ONLY="dedupe" MOST=1000 WRITE=1
	$(BIN)/python -m tests.reliability.hunt --most $(or $(MOST),1000) --jobs $(or $(JOBS),2) $(if $(ONLY),--only "$(ONLY)") $(if $(WRITE),--write)

crash: $(VENV)/.dev-$(STAMP)  ## the server killed at random while orders are placed, and started again: KILLS=300 SEED=1 WRITE=1
	$(BIN)/python -m tests.reliability.crash --kills $(or $(KILLS),300) --seed $(or $(SEED),1) $(if $(WRITE),--write)

failures: $(VENV)/.dev-$(STAMP)  ## run the tests of tests/failures and write docs/failures.md
	$(BIN)/python -m tools.failures_table

docs: $(VENV)/.dev-$(STAMP)  ## write docs/api.md, docs/cli.md and the tables of docs/monitoring.md again
	$(BIN)/python -m tools.api_reference
	$(BIN)/python -m tools.cli_reference
	$(BIN)/python -m tools.metrics_table

proto: $(VENV)/.dev-$(STAMP)  ## write the stubs and errors.json again
	$(BIN)/buf format -w
	$(BIN)/python tools/generate_stubs.py

bench: $(VENV)/.bench-$(STAMP)  ## measure beside peers; QUICK=1: in two minutes, writing nothing; ONLY="latency flood"
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ONLY:%=--only %)

ib-insync: $(OTHER)/.done-$(STAMP)  ## the broker's and the simulator's tests on ib_insync 0.9.86, in an environment of its own
	$(OTHER)/bin/python -m pytest -q -p no:cacheprovider tests/server/broker tests/server/simulator/test_with_clients.py

compat: $(VENV)/.dev-$(STAMP) $(COMPAT)  ## unmodified ib_async, ib_insync and IBKR's ibapi talk to the simulator; JSON=FILE
	$(BIN)/python -m compat $(if $(JSON),--json $(JSON))

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.run-$(STAMP): | $(VENV)/.made-$(MADE)
	$(PIP) -e .
	@rm -f $(VENV)/.run-* $(VENV)/.dev-* $(VENV)/.bench-*
	@touch $@

$(VENV)/.dev-$(STAMP): | $(VENV)/.made-$(MADE)
	$(PIP) -e '.[dev]'
	@rm -f $(VENV)/.run-* $(VENV)/.dev-* $(VENV)/.bench-*
	@touch $(VENV)/.run-$(STAMP) $@

# What only benchmarks need: the servers that ours is measured beside.
$(VENV)/.bench-$(STAMP): | $(VENV)/.made-$(MADE)
	$(PIP) -e '.[dev,bench]'
	@rm -f $(VENV)/.run-* $(VENV)/.dev-* $(VENV)/.bench-*
	@touch $(VENV)/.run-$(STAMP) $(VENV)/.dev-$(STAMP) $@

# An environment knows the place and the interpreter it was made for; elsewhere it does not run.
$(VENV)/.made-$(MADE):
	@test -n "$(INTERPRETER)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python"; exit 1; }
	@rm -rf $(VENV)
	$(MAKE_VENV) $(VENV)
	@touch $@

# ib_insync and ib_async install the same package (eventkit), so they cannot share an environment.
$(OTHER)/.done-$(STAMP): BIN := $(OTHER)/bin
$(OTHER)/.done-$(STAMP): tools/other_library.py
	@rm -rf $(OTHER)
	$(MAKE_VENV) $(OTHER)
	$(INTERPRETER) tools/other_library.py > $(OTHER)/requirements.txt
	$(PIP) -r $(OTHER)/requirements.txt
	$(PIP) --no-deps -e .
	@touch $@

# Each client as its users have it: nothing of this project is installed beside it.
$(COMPAT): BIN = $(@D)/bin
$(COMPAT):
	@rm -rf $(@D)
	$(MAKE_VENV) $(@D)
	$(PIP) -r compat/requirements/$(@D:.venv-compat-%=%).txt
	@touch $@
