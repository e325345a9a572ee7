# What one does here, by name; `make help` lists it. Needs Python 3.11 or newer, and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where `make demo` leaves its files and its home, which `make serve` serves.
DEMO := demo
# A directory with the real OULAD files; without it, `make demo` makes up a university.
OULAD ?=
# For `make lock`; LOCK_FLAGS=--upgrade takes newer releases.
UV ?= uv
LOCK_FLAGS ?=
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all check lint bench serve schemas lock clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: $(READY) ## make .venv with what requirements/ pins

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## make up a university, ask five questions, spend a budget, verify the journal
	rm -rf $(DEMO)
	$(BIN)/dpanalytics demo --home $(DEMO) $(if $(OULAD),--oulad "$(OULAD)")

test: $(READY) ## run all tests but those that take long (minutes)
	$(BIN)/pytest -q -n auto -m "not slow"

test-all: $(READY) ## run all tests
	$(BIN)/pytest -q -n auto

lint: $(READY) ## check format, style, types and import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test-all ## all that a change must pass

bench: $(READY) ## measure against the figures to reach, into docs/benchmarks.md (minutes)
	$(BIN)/python benchmarks/report.py

serve: $(READY) ## serve the demonstration on this machine, and say how to sign in
	@test -e $(DEMO)/home/settings.toml || $(MAKE) --no-print-directory demo
	$(BIN)/dpanalytics serve demonstration --home $(DEMO)/home

schemas: $(READY) ## write the JSON Schemas of the declarations, and docs/openapi*.json
	$(BIN)/dpanalytics declarations schemas
	$(BIN)/python -m dpanalytics.api macro > docs/openapi.json
	$(BIN)/python -m dpanalytics.api micro > docs/openapi-micro.json

lock: ## pin requirements/ to what pyproject.toml allows, with hashes (needs uv)
	$(LOCK) $(LOCK_FLAGS) --extra dev --output-file requirements/dev.txt pyproject.toml requirements/build.in
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/base.txt pyproject.toml
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/build.txt requirements/build.in

clean: ## remove what was made: .venv, caches, the demonstration's home
	rm -rf $(VENV) $(DEMO) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
