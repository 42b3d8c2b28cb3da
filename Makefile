# make demo   set everything up, run the whole pipeline on the built-in data, print the table
# make test   set everything up, run the tests
# make quick  the tests that start no engine, browser or other process
# make coverage  the same and those of processes, with the lines that they leave out
# make check  what pre-commit and CI check: lint, format, types, and the project's consistency checks
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: setup demo test quick coverage check clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "novelseg needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	pip install --progress-bar on -c requirements.lock -e ".[dev]"
	@touch $@

demo: setup
	python -m workflow use demo
	snakemake --cores all
	@python -m workflow table
	@echo "pictures and curves: report/index.html"

test: setup
	OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadfile  # a process a core, a thread each

quick: setup
	OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadfile -m "not engines and not processes"

coverage: setup
	OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadfile -m "not engines" --cov --cov-report=term

check: setup
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow/rules
	python -m workflow check

clean:
	rm -rf artifacts provenance report .cache .snakemake
