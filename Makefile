# make install · make test · make lint · make format · make demo · make bench · make clean
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A Python that can make virtual environments; another: make PYTHON=/path/to/python3.13 install
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { echo $$python; exit; }; done; echo no-python)
PIP = -m pip install -qq --disable-pip-version-check --root-user-action=ignore
SERVER_CONFIG = etc/jupyter/jupyter_server_config.d/jhssh_ext.json
SOURCES = jhssh_ext tests demo examples bench

.PHONY: help install demo bench test lint format system-packages clean

help:
	@echo "make install  .venv with everything for development, .venv-hub5 with JupyterHub 5.5"
	@echo "make demo     a hub on this machine that you can ssh into (HUB_PORT, SSH_PORT)"
	@echo "make test     checks and all tests"
	@echo "make lint     the checks alone"
	@echo "make bench    a rebuild of the key cache for ten thousand user servers, and logins meanwhile"
	@echo "make format   what the linter can mend by itself"
	@echo "make clean    remove what was made here"

install: .venv/.installed .venv-hub5/.installed

# pip installs no data files with -e, so the extension is switched on by a link.
define make-environment
	@if [ "$(PYTHON)" = no-python ]; then echo "Python 3.10 or later with venv is needed (Debian: apt-get install python3-venv)" >&2; exit 1; fi
	@echo "Installing into $(@D) …"
	@[ -x $(@D)/bin/python ] || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP) $(1)
	@mkdir -p $(@D)/$(dir $(SERVER_CONFIG))
	@ln -sfn ../../../../jhssh_ext/$(SERVER_CONFIG) $(@D)/$(SERVER_CONFIG)
	@touch $@
endef

.venv/.installed: pyproject.toml
	$(call make-environment,-e '.[dev]')

.venv-hub5/.installed: pyproject.toml
	$(call make-environment,-e '.[test]' 'jupyterhub==5.5.*')

.venv/.demo-installed: pyproject.toml
	$(call make-environment,-e '.[demo]')

# A .venv for development has all that the demo needs.
demo: $(if $(wildcard .venv/.installed),.venv/.installed,.venv/.demo-installed)
	@exec .venv/bin/python -m demo

system-packages:
	@.ci/system-packages

bench: .venv/.installed
	.venv/bin/python -m bench.key_cache

lint: .venv/.installed
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/.installed
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)

# pytest comes last, so that its closing line is the last one. Quicker where nothing else runs, and a file's tests stay together,
# since they share Hubs: make test PYTEST="-n 2 --dist loadfile". A part: make test PYTEST="-k forwarding"
PYTEST ?=
test: system-packages install lint
	@rm -f .coverage .coverage.*
	@.venv/bin/python -m pytest --cov --cov-report=term $(PYTEST)

clean:
	rm -rf .venv .venv-hub5 .demo .demo-* build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
