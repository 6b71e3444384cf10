# make run · make test · make lint · make install.  Needs python3 (3.11 or newer) with venv, and make; nothing else.
PORT ?= 8000
PYTHON ?= python3
V := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK = 1
.DEFAULT_GOAL := help
.PHONY: help run test faults lint install bench audit clean

help:
	@echo "make run [PORT=8000]   the whole stack; prints the address and the first login"
	@echo "make test              installs what it needs and runs every test"
	@echo "make faults            every fault at its full size and number, within 20 minutes"
	@echo "make bench [ARGS=--json] measures against limits and peers"
	@echo "make lint              ruff, mypy, import contracts"
	@echo "make audit             asks PyPI for known weaknesses of the pinned versions"

install: .venv/base

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"TickStock needs Python 3.11 or newer; $(PYTHON) is {sys.version.split()[0]}. Try: make PYTHON=python3.11 run")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python cannot make virtual environments: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/base: .venv/python requirements/base.txt requirements/constraints.txt
	$(V) -m pip install -q --use-pep517 -r requirements/base.txt
	@touch $@

.venv/test: .venv/base requirements/test.txt
	$(V) -m pip install -q --use-pep517 -r requirements/test.txt
	@touch $@

.venv/dev: .venv/test requirements/dev.txt
	$(V) -m pip install -q --use-pep517 -r requirements/dev.txt
	@touch $@

run: .venv/base
	@exec $(V) manage.py up --port "$(PORT)"

test: .venv/test
	@$(V) -m tests.run $(ARGS)

faults: .venv/test
	@$(V) -m tests.run tests/faults --full --durations=15 $(ARGS)

bench: .venv/test .cache/peers/done
	@$(V) -m tests.run bench $(ARGS)

# The peers bring other versions of what we use, so they live apart
.cache/peers/done: requirements/bench.txt
	$(PYTHON) -m venv .cache/peers
	.cache/peers/bin/python -m pip install -q -r requirements/bench.txt
	@touch $@

# Strict: where the service does not answer it fails, instead of finding nothing wrong
audit: .cache/audit/done
	@.cache/audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements/constraints.txt

.cache/audit/done: requirements/audit.txt
	$(PYTHON) -m venv .cache/audit
	.cache/audit/bin/python -m pip install -q -r requirements/audit.txt
	@touch $@

lint: .venv/dev
	$(V) -m ruff check .
	$(V) -m ruff format --check .
	$(V) -m mypy
	.venv/bin/lint-imports 2>/dev/null || $(V) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	$(V) manage.py makemigrations --check --dry-run

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .hypothesis
