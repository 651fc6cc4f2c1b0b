# Every check that CI makes, and the pages made from the code. What each stage does is in tests/tools/.
STAGE = $(BIN)/python -m tests.tools

# What may be set: make molecule SCENARIO=redis DEBIAN=12; make unit ARGS=-x
export SCENARIO DEBIAN ARGS

.PHONY: test lint quality sanity unit integration molecule e2e bench docs changelog runtime-test runtime-wheel runtime-archive runtime-proto runtime-requirements agent-image
test: $(VENV_STAMP) ## Run every check (as CI does)
	@$(STAGE) test
lint: $(VENV_STAMP) ## Check style: yamllint, ansible-lint, ruff, shellcheck
	@$(STAGE) lint
quality: $(VENV_STAMP) ## Check this project's own rules (CONTRIBUTING.md)
	@$(STAGE) quality
sanity: $(VENV_STAMP) ## Run ansible-test sanity as far as it runs here
	@$(STAGE) sanity
unit: $(VENV_STAMP) ## Test the Python parts
	@$(STAGE) unit
runtime-test: $(VENV_STAMP) ## Test the package for the agent hosts in its own virtual environment
	@$(STAGE) runtime
runtime-wheel: $(VENV_STAMP) ## Build the wheel for the agent hosts into runtime/dist
	@$(BIN)/python -m tests.tools.runtime wheel
runtime-proto: $(VENV_STAMP) ## Write what is generated from the runtime package's .proto files anew
	@$(BIN)/python -m tests.tools.runtime proto
runtime-archive: $(VENV_STAMP) ## Build the archive of the runtime package that hosts install (DEBIAN=13)
	@$(BIN)/python -m lab.runtime $(or $(DEBIAN),13) runtime/dist
agent-image: $(VENV_STAMP) ## Build the agents' image, as a file for a mirror, into runtime/dist
	@$(BIN)/python -m lab.agent_image runtime/dist
runtime-requirements: $(VENV_STAMP) ## Pin the runtime package's requirements anew, with hashes
	@$(BIN)/python -m tests.tools.runtime requirements
integration: $(VENV_STAMP) ## Test the modules against real servers
	@$(STAGE) integration
molecule: $(VENV_STAMP) ## Test each role alone, on both Debians (SCENARIO=, DEBIAN=)
	@$(STAGE) molecule
e2e: $(VENV_STAMP) ## Build a new lab, converge it twice, test it from end to end
	@$(STAGE) e2e
bench: $(VENV_STAMP) ## Measure failovers, restarts, scaling and a conversion on the lab that is up, five times each (hours)
	@$(BIN)/python -m benchmarks.failover --continue
	@$(BIN)/python -m benchmarks.partition
docs: $(VENV_STAMP) ## Write the reference pages anew from the specs
	@$(BIN)/python -m tests.tools.docs
changelog: $(VENV_STAMP) ## Check the changelog's fragments
	@$(BIN)/antsibull-changelog lint
