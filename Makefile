# SPDX-License-Identifier: Apache-2.0
# Everything a contributor types. `make` alone lists the targets. PYTHON=… picks another interpreter (3.11 or newer).

PYTHON ?= python3
FLAVOUR ?= docker
NAME ?=
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.locked
COMPILE = build/tools/bin/pip-compile -q --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links --no-header --strip-extras --no-annotate

# Two checks at a time, each to its end, so that one run tells everything; output stays whole.
PARALLEL := $(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target

.DEFAULT_GOAL := help
.PHONY: help venv programs browser shells demo check test lint types pure docs bench lab-up lab-shell lab-down cluster-up cluster-down lock dist clean matrix planted fuzz

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): requirements-dev.txt pyproject.toml tools/venv.sh
	@tools/venv.sh "$(PYTHON)" "$(VENV)" "$(STAMP)"

venv: $(STAMP)  ## make .venv from the locked requirements; does nothing when it is up to date

demo: venv  ## a whole migration and the way back, on a copy of the bundled node image
	@$(RUN) tools/demo.py

check: venv programs  ## seconds: style, types, pure tests (which also hold the documentation to the code)
	@$(PARALLEL) types lint pure

programs:
	@tools/need.sh dbus-daemon=dbus-daemon strace=strace tmux=tmux

shells:
	@tools/need.sh zsh=zsh fish=fish

browser:
	@tools/need.sh chromium=chromium

lint: venv
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check

types: venv
	@$(VENV)/bin/mypy

pure: venv programs
	@$(RUN) -m pytest -q -n 4 --dist worksteal $(addprefix --ignore=tests/,lab packaging crash process fuzz judges browser)

test: venv programs browser shells  ## everything, the lab's real nodes included; what this machine cannot run is named with the reason
	@style=0; $(PARALLEL) types lint || style=$$?; \
	$(RUN) -m pytest -n 3 --dist worksteal && exit $$style

matrix: venv  ## the whole crash matrix, on all kinds of node (half an hour on two cores); make test plays a part of it
	@CGMIGRATE_MATRIX=all $(RUN) -m pytest -q -n auto --dist worksteal tests/crash

fuzz: venv  ## fuzz the parsers: SECONDS=60, TARGET=name
	@$(RUN) -m tests.fuzz.run --seconds $(or $(SECONDS),60) $(if $(TARGET),--target $(TARGET))

planted: venv  ## plant known bugs in a copy, one at a time, and see that the suite catches each
	@$(RUN) tests/planted/run.py

docs: venv  ## write the generated pages of docs/reference and of plans
	@$(RUN) tools/gen_docs.py --write
	@$(RUN) tools/gen_plans.py

bench: venv  ## measure against the budgets and write docs/benchmarks.md (QUICK=1: small inputs, writes nothing)
	@$(RUN) tests/bench/run.py $(if $(QUICK),--quick)

lab-up: venv  ## boot a throwaway node: FLAVOUR=docker|containerd [NAME=…]; as root
	@$(RUN) -m tests.lab up --flavour $(FLAVOUR) $(if $(NAME),--name $(NAME))

lab-shell: venv  ## a shell in the node [NAME=…]
	@$(RUN) -m tests.lab shell $(NAME)

lab-down: venv  ## destroy the node [NAME=…], or all of them
	@$(RUN) -m tests.lab down $(NAME)

cluster-up: venv  ## boot a throwaway kubeadm cluster of three nodes [NAME=…]; as root
	@$(RUN) -m tests.lab cluster-up $(if $(NAME),--name $(NAME))

cluster-down: venv  ## destroy the cluster [NAME=…], or all of them
	@$(RUN) -m tests.lab cluster-down $(NAME)

build/tools/bin/pip-compile:
	@$(PYTHON) -m venv build/tools
	@build/tools/bin/pip install -q pip-tools build

lock: build/tools/bin/pip-compile  ## write requirements*.txt from pyproject.toml; UPGRADE=1 takes newer versions
	@$(COMPILE) $(if $(UPGRADE),--upgrade) -o requirements.txt pyproject.toml
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml

dist: build/tools/bin/pip-compile  ## wheel and source archive in dist/
	@build/tools/bin/python -m build --outdir dist

clean:  ## remove what make made in the checkout; the lab's cache stays
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis $(VENV)
