# Athanor. `make serve` and `make test` need nothing but Python 3.11+, venv, pip and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test pages check format slow bench crash fire clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Athanor needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.serve: $(VENV)/.python pyproject.toml constraints.txt
	@$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	@$(PIP) --editable '.[train,dev]'
	@touch $@

serve: $(VENV)/.serve ## set up what is missing and run the service on http://127.0.0.1:8000
	@exec $(BIN)/athanor serve

test: $(VENV)/.dev ## set up what is missing and run the tests, on two cores
	@OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

pages: $(VENV)/.dev ## run every block of the README and of the pages of examples
	@$(BIN)/pytest -m slow tests/docs

slow: $(VENV)/.dev ## the tests that take minutes: whole matrices, trainings under kill -9
	@$(BIN)/pytest -m slow

check: $(VENV)/.dev ## lint, types, import contracts, size limits
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --no-cache --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python tests/size_limits.py

bench: $(VENV)/.dev ## measure: serving against its limit and peers, overload, footprint (an idle machine, half an hour)
	@$(BIN)/python -m benchmarks.serving
	@$(BIN)/python -m benchmarks.overload
	@$(BIN)/python -m benchmarks.footprint

crash: $(VENV)/.dev ## kill, freeze and stop runs, workers and services at every seeded point
	@ATHANOR_TEST_ALL_KILLS=1 $(BIN)/pytest -m 'slow or not slow' tests/crash

fire: $(VENV)/.dev ## a thousand jobs while database, broker, workers and runs fail; writes a timeline (five minutes)
	@$(BIN)/python -m benchmarks.fire

format: $(VENV)/.dev ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
