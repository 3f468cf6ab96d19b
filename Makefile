# The commands of this repository. Each one installs what it needs and can be run again.
#
#   make test                          everything; takes three quarters of an hour on two cores
#   make test STAGES="unit lint"       only these stages (make help lists them)
#   make demo | make demo-clean        a hardened Docker host in two tables
#   make bench                         what the own table costs
#   make fuzz FUZZ="--rulesets 10000"  random rulesets and packets against the kernel, for longer

VENV ?= .venv
PYTHON ?= python3
STAGES ?=
SUITES ?=
FUZZ ?= --rulesets 10000 --packets 200
export PYTHONPATH := tests
export PYTHONUNBUFFERED := 1
ifneq ($(SUITES),)
export LAB_SUITES := $(SUITES)
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-lab test demo demo-clean bench fuzz lab-clean clean

help:
	@echo 'make demo        boot a real Docker host, show what leaks, harden it, show it again'
	@echo 'make demo-clean  remove everything the demo left'
	@echo 'make test        run all tests; STAGES="unit lint" chooses, SUITES="trixie" limits the hosts'
	@echo 'make bench       measure connections per second and times with a large policy'
	@echo 'make fuzz        compare the analyser of exposure with the kernel for a quarter of an hour'
	@echo 'make lab-clean   remove every test host, also those of a run that was killed'
	@echo 'make clean       remove the virtual environment and the logs'
	@$(PYTHON) -m run --list

setup-lab:
	@$(PYTHON) tests/run/bootstrap.py --venv $(VENV) lab

setup:
	@$(PYTHON) tests/run/bootstrap.py --venv $(VENV) lab test

test: setup
	@$(VENV)/bin/python -m run $(STAGES)

demo: setup-lab
	@$(VENV)/bin/python -m demo

demo-clean: setup-lab
	@$(VENV)/bin/python -m demo --clean

bench: setup-lab
	@$(VENV)/bin/python -m bench

fuzz: setup
	@$(VENV)/bin/python -m fuzz $(FUZZ)

lab-clean: setup-lab
	@$(VENV)/bin/python -m lab clean

clean:
	rm -rf $(VENV) .test-output .mypy_cache .pytest_cache .ruff_cache .hypothesis
