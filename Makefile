# make install                set up .venv
# make repro [PROFILE=name]   set up, run the pipeline, print the table
# make test                   set up, lint, tests (with a small end-to-end `dvc repro`)
# make lint | make bench | make clean

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export RAY_USAGE_STATS_ENABLED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install repro test lint bench clean

install: $(VENV)/.installed

repro: $(VENV)/.installed
	@facesr profile $(if $(PROFILE),--use $(PROFILE))
	dvc repro
	@facesr table

test: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	ruff format --check .
	ruff check .
	mypy

bench: $(VENV)/.installed-dev
	@for file in benchmarks/bench_*.py; do echo "== $$file"; python $$file || exit 1; done

clean:
	rm -rf $(VENV) work build dist .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "facesr needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "facesr needs Python 3.11 or newer, $(PYTHON) is older" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# the marks are newer than what they were installed from, so a second call does not reinstall
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing into $(VENV); most of it is torch" >&2
	$(BIN)/python deploy/install.py
	@# a copy without .git (a downloaded archive, COPY in a container): DVC is told that there is none
	@git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python deploy/install.py dev
	@touch $@
