# `make demo` and `make test` are all that a fresh machine needs; the README gives the plain commands.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: demo test torture gpu lint bench clean help

help:
	@echo "make demo     install, compose demo music, train a small cGAN on it, make a page of new sounds"
	@echo "make test     install and run the tests"
	@echo "make torture  hundreds of kills, a thousand power cuts, thousands of damaged files and every fault that can be staged"
	@echo "make lint     check style"
	@echo "make bench    measure how fast it is beside others, a quarter of an hour, into docs/benchmarks.md"
	@echo "make gpu      run the tests that need a GPU, and measure there, into docs/benchmarks.md"
	@echo "make clean    remove the environment and what the demo made"

# The stamp file tells which requirements the environment holds, so that nothing is installed twice.
$(VENV)/installed: requirements.txt pyproject.toml
	@echo "Installing into $(VENV): about two minutes and 5 GB"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: $(VENV)/installed
	@$(RUN) preprocess.py --dataset demo --output demo_images
	@$(RUN) run.py --config configs/demo.yaml --dataset demo_images
	@$(RUN) -m musicspectrogan generate --checkpoint latest --count 4

test: $(VENV)/installed-dev
	@$(RUN) -m pytest

torture: $(VENV)/installed-dev
	@$(RUN) -m pytest tests/torture --torture

lint: $(VENV)/installed-dev
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

bench: $(VENV)/installed
	@PYTHONPATH=. $(RUN) benchmarks/report.py

gpu: $(VENV)/installed-dev
	@$(RUN) -m pytest -m gpu --numprocesses 0
	@PYTHONPATH=. $(RUN) benchmarks/report.py --gpu

clean:
	rm -rf $(VENV) demo_music demo_images
