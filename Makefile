# SPDX-License-Identifier: GPL-3.0-or-later
# Every target uses .venv, made from the pins in requirements/. PREFIX=name works on a lab of that name.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv agent packages test-packages lab lab-down lab-status demo test test-fast test-kernels test-lab test-boundaries test-drills soak sim sim-exhaustive transcripts bench-gate \
	bench bench-failover bench-sync bench-bulk bench-tables bench-packages bench-pairs lint ruff mypy sanity units pins clean

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE := 1
PREFIX ?=
prefix := $(if $(PREFIX),--prefix $(PREFIX))
python := .venv/bin/python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## .venv with ansible-core and all tools, exactly as pinned in requirements/
	@tools/make-venv

agent: venv ## the agent's archive, roles/agent/files/amaranten-ha-agent.tar.gz
	@$(python) tools/build_agent.py

packages: venv ## build/packages: the .deb files that a bare node needs and cannot fetch itself
	@tools/apt-need packages
	@$(python) tools/fetch_packages.py

test-packages: packages ## what the tests put on a node beside ours: radvd
	@$(python) tools/fetch_packages.py test

lab: venv ## boot the lab: two Debian nodes, their networks, a client, a server, a host on dmz
	@$(python) -m tests.lab up $(prefix)

lab-down: venv ## remove the lab, and only that
	@$(python) -m tests.lab down $(prefix)

lab-status: venv ## what of the lab is up
	@$(python) -m tests.lab status $(prefix)

# The node's image takes as long as all the rest, and needs none of it: both at once.
demo: ## deploy the pair in the lab, cut the active node's power under traffic, show what happened
	@python3 -m tests.lab image & image=$$!; \
		$(MAKE) --no-print-directory agent packages || { wait $$image; exit 1; }; wait $$image
	@$(python) -m tests.demo $(prefix)

# Cheap first, the lab last, one pytest over everything: its closing line counts all.
pytest := $(python) -m pytest -c pyproject.toml --rootdir .

test: ## everything: units, house, lint, sanity, kernels, lab; one closing line
	@tools/apt-need lab kernels browser
	@python3 -m tests.lab image & image=$$!; \
		$(MAKE) --no-print-directory agent test-packages || { wait $$image; exit 1; }; wait $$image
	@$(pytest) agent/tests tests/house tests/tools tests/bench tests/gatekeeping tests/kernels tests/integration

test-fast: venv ## at every save, under 30 s: agent units without namespaces, house, ruff, mypy
	@$(pytest) -q -m "not live" agent/tests tests/house tests/gatekeeping/test_python.py

test-kernels: venv agent ## the kernel facts on the kernels of Debian 12 and 13, in qemu
	@tools/apt-need kernels
	@$(pytest) -v tests/kernels

test-lab: venv agent test-packages ## deploy, failover, return, switchover, lease: in a lab of its own
	@tools/apt-need lab browser
	@$(pytest) -v tests/integration

test-boundaries: venv agent test-packages ## the controller dies at every boundary of upgrade, rotation, rules; hours (K=upgrade BOUNDARIES=12,30-33)
	@tools/apt-need lab
	@BOUNDARIES="$(BOUNDARIES)" $(pytest) -v -s tests/integration/every_boundary.py $(if $(K),-k $(K))

test-drills: venv agent test-packages ## every drill RUNS times beside an independent probe, and disturbed in each way; hours
	@tools/apt-need lab
	@$(python) -m tests.drills $(if $(RUNS),--runs $(RUNS)) $(prefix) $(if $(KEEP),--keep)

bench-gate: venv ## what gate, heart and walks cost: forwarding rate, processor, memory, a flood, the start, a kernel call
	@$(python) -m tests.costs $(CELLS)

soak: venv ## many pairs beat on a busy machine, every beat is counted (PROFILE, PAIRS, FOR_S)
	@$(python) -m tests.soak $(if $(PROFILE),--profile $(PROFILE)) $(if $(PAIRS),--pairs $(PAIRS)) \
		$(if $(FOR_S),--seconds $(FOR_S))

bench-pairs: venv agent packages ## preflight and drift of a pair, drift of 20 pairs of light nodes
	@tools/apt-need lab
	@$(python) -m tests.pairs

bench-packages: venv agent packages ## what the bench installs beside ours: keepalived, conntrackd; a compiler here
	@tools/apt-need packages lab bench
	@$(python) tools/fetch_packages.py bench

bench-failover: bench-packages ## failover side by side with keepalived; hours, resumable; ARGS="--quick --fault power"
	@$(python) -m tests.bench failover $(prefix) $(ARGS)

bench-sync: bench-packages ## replication side by side with conntrackd; resumable; ARGS="--quick --measurement lag"
	@$(python) -m tests.bench sync $(prefix) $(ARGS)

FIGURES ?= bulk.two_hundred_thousand bulk.half_a_million
bench-bulk: venv agent ## catching up with more entries than the lab's kernel may hold, in qemu; half an hour
	@tools/apt-need kernels
	@$(python) -m tests.kernels $(FIGURES)

bench-tables: venv ## the tables of docs/benchmarks.md, from what was measured
	@$(python) -m tests.bench tables

bench: ## both benches, then docs/benchmarks.md
	@$(MAKE) --no-print-directory bench-failover
	@$(MAKE) --no-print-directory bench-sync
	@$(MAKE) --no-print-directory bench-tables

SEEDS ?= 0-20000
sim: venv ## simulate two engines under drawn faults: SEEDS=a-b, resumable, or one seed to see its trace
	@cd agent/tests && PYTHONPATH=../src:. ../../$(python) -m simulator.campaign $(SEEDS)

sim-exhaustive: venv ## every combination of two faults, and of three, at a grid of instants
	@cd agent/tests && PYTHONPATH=../src:. ../../$(python) -m simulator.exhaustive

transcripts: venv ## draw every transcript of agent/tests/transcripts anew: read the diff
	@cd agent/tests && PYTHONPATH=../src:. ../../$(python) -m simulator.transcripts

lint: ruff mypy ## ruff, mypy --strict on the agent, ansible-lint production, yamllint
	@tools/lint-ansible

ruff: venv
	@$(python) -m ruff check .

mypy: venv
	@$(python) -m mypy --config-file agent/pyproject.toml

sanity: venv ## ansible-test sanity on the oldest and the newest supported ansible-core
	@$(python) tools/ansible_test.py oldest sanity
	@$(python) tools/ansible_test.py newest sanity || [ $$? -eq 77 ]

units: venv ## ansible-test units on both
	@$(python) tools/ansible_test.py oldest units
	@$(python) tools/ansible_test.py newest units || [ $$? -eq 77 ]

pins: venv ## resolve requirements/*.in anew into the exact pins of requirements/*.txt
	@$(python) tools/resolve_pins.py

clean: ## remove what was built below build/ (not .venv, not a lab: `make lab-down` does that)
	@find build -mindepth 1 -maxdepth 1 -not -name 'lab*' -exec rm -rf {} + 2>/dev/null || true
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
