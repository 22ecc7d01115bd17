# What needs explaining is in CONTRIBUTING.md. Every target works on a fresh clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
VSIX   := editors/vscode/midfill-$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml).vsix
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run cluster programs test test-full bench bench-full lint vsix clean docs pages

run: $(VENV)/serve.done
	@$(BIN)/python tools/run.py

cluster: $(VENV)/cluster.done
	@$(BIN)/python -m deploy.cluster

test: $(VENV)/dev.done programs .tools/nvim/bin/nvim .tools/vscode
	$(BIN)/python -m pytest -m "not full" -n 4 --dist loadfile  # most tests wait for processes, not for a core

test-full: $(VENV)/dev.done programs .tools/nvim/bin/nvim .tools/vscode .tools/editors/bin/emacs
	$(BIN)/python -m pytest

# ten minutes on an idle machine with two cores
bench: $(VENV)/dev.done $(VENV)/bench.done
	@$(BIN)/python -m tests.benchmarks

# every table of the pages that needs no GPU: forty minutes; the later parts want prepared data, see docs/performance.md
bench-full: $(VENV)/dev.done $(VENV)/bench.done
	@$(BIN)/python -m tests.benchmarks --full

# the pages as HTML in site/
docs: $(VENV)/docs.done
	$(BIN)/mkdocs build

# what programs write of the pages; tests notice when it was forgotten
pages: $(VENV)/dev.done
	$(BIN)/python -m tools.sync_settings
	$(BIN)/python -m tools.api_docs
	$(BIN)/python -m tools.cli_docs
	$(BIN)/python -m tools.metrics_docs
	$(BIN)/python -m tools.figures

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

vsix: $(VSIX)

$(VSIX): $(shell find editors/vscode/src editors/vscode/images lsp_server -name '*.*' -not -path '*/__pycache__*') \
         editors/vscode/package.json editors/vscode/requirements.txt editors/vscode/README.md \
         editors/vscode/node_modules/.package-lock.json constraints.txt tools/vendor_server.py | $(BIN)/python
	$(BIN)/python -m tools.vendor_server
	cd editors/vscode && npm run package -- --out $(notdir $@)

editors/vscode/node_modules/.package-lock.json: editors/vscode/package-lock.json
	cd editors/vscode && npm ci --no-audit --no-fund

clean:
	rm -rf $(VENV) .tools build dist *.egg-info

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Midfill needs Python 3.11 or newer, and there is no '$(PYTHON)': install it, or run 'make PYTHON=/path/to/python3 ...'."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Midfill needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) --version): run 'make PYTHON=/path/to/python3.11 ...'."; exit 1; }
	@echo "1/3 creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: on Debian and Ubuntu, install the package python3-venv."; exit 1; }

$(VENV)/serve.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo "2/3 installing the service and the language server (PyTorch is large: this takes a minute or more)"
	@$(PIP) --editable '.[serve]'
	@touch $@

$(VENV)/cluster.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo "2/3 installing the service with its drivers for PostgreSQL and Redis"
	@$(PIP) --editable '.[cluster]'
	@touch $@ $(VENV)/serve.done

$(VENV)/dev.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo "2/3 installing Midfill with everything that the tests need (PyTorch is large: this takes a minute or more)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/serve.done $(VENV)/cluster.done

# nginx, Redis and PostgreSQL where the system has none
programs: $(BIN)/python
	-@$(BIN)/python -m deploy.cluster.programs

$(VENV)/docs.done: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	@touch $@

# where that fails the benchmarks go on without the other engines and say so
$(VENV)/bench.done: $(VENV)/dev.done
	@echo "installing the other engines (llama.cpp is compiled for this processor: this takes some minutes)"
	-@$(PIP) --editable '.[bench]' && touch $@

# real editors for the end-to-end tests; where that fails the tests say what is missing, on CI they fail
.tools/nvim/bin/nvim:
	-@tools/install_nvim.sh .tools/nvim

.tools/vscode:
	-@tools/install_vscode.sh .tools/vscode

.tools/editors/bin/emacs:
	-@tools/install_other_editors.sh .tools/editors
