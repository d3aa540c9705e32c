# make fit    install into .venv and run the main job
# make test   install and run the tests
# make ui     open MLflow on the runs
# make check  linter, layers of imports, type checker
# make docs   build the documentation into site/; make docs-serve shows it while you write
# make stubs  tell editors the public names anew, after one was added
# Options: make fit ARGS="seed=1 balancer=uncertainty", PYTHON=python3.12

PYTHON ?= python3
ARGS ?=
# bytecode of packages, which pip leaves to their first import, and of the project: else every process
# of every test compiles it anew
export PYTHONDONTWRITEBYTECODE =
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: fit test ui check docs docs-serve stubs clean

fit: $(INSTALLED)
	$(BIN)/python -m pipeline.fit $(ARGS)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

ui: $(INSTALLED)
	$(BIN)/python -m pipeline.ui $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

# NO_MKDOCS_2_WARNING: hides the notice that the theme has a successor
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict --quiet

docs-serve: $(INSTALLED)
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs serve

stubs: $(INSTALLED)
	$(BIN)/python -m pollinate.stubs

# One call, so that torch and torchvision are resolved together. The pip of an older Python resolves for
# half a minute longer; of the packages' files a quarter is ever imported, so pip compiles none
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pollinate needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[quickstart,audio,pretrained,peft,gguf,study,explain,ray,slurm,test,docs,dev]"
	touch $(INSTALLED)

clean:
	rm -rf .venv build dist site *.egg-info
