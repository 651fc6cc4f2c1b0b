# `make lab` builds the lab and converges it; `make test` runs every check. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

include lab/lab.mk
include tests/tests.mk

.PHONY: help requirements
help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

requirements: $(VENV) ## Pin requirements.in anew, with hashes
	$(BIN)/uv pip compile --python-version 3.11 --generate-hashes --no-header --quiet --upgrade requirements.in --output-file requirements.txt
