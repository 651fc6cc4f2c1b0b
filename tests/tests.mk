# Every check that CI makes, and the pages made from the code. What each stage does is in tests/tools/.
STAGE = $(BIN)/python -m tests.tools

# What may be set: make molecule SCENARIO=redis DEBIAN=12; make unit ARGS=-x
export SCENARIO DEBIAN ARGS

.PHONY: test lint quality sanity unit integration molecule e2e docs changelog
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
integration: $(VENV_STAMP) ## Test the modules against real servers
	@$(STAGE) integration
molecule: $(VENV_STAMP) ## Test each role alone, on both Debians (SCENARIO=, DEBIAN=)
	@$(STAGE) molecule
e2e: $(VENV_STAMP) ## Build a new lab, converge it twice, test it from end to end
	@$(STAGE) e2e
docs: $(VENV_STAMP) ## Write the reference pages anew from the specs
	@$(BIN)/python -m tests.tools.docs
changelog: $(VENV_STAMP) ## Check the changelog's fragments
	@$(BIN)/antsibull-changelog lint
