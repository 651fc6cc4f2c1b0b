# The virtual environment and the lab. The work is done by the Python package in lab/.
VENV_STAMP := $(VENV)/.made
LAB = $(BIN)/python -m lab

$(VENV): $(VENV_STAMP)
$(VENV_STAMP): requirements.txt requirements-bootstrap.txt lab/bootstrap
	@lab/bootstrap $(VENV) $@

# What an operator may set: make lab HOSTS=redis LIMIT=redis,consul_servers
export HOSTS LIMIT ARGS PURGE RELEASE SECRETS

.PHONY: lab lab-hosts lab-fresh lab-down lab-status lab-image lab-new-secrets lab-forget-secrets
lab: $(VENV_STAMP) ## Build the lab and converge it (HOSTS=, LIMIT=, ARGS=)
	@$(LAB) up
lab-hosts: $(VENV_STAMP) ## Only start the lab's hosts and its mirror (HOSTS=)
	@$(LAB) hosts
lab-fresh: $(VENV_STAMP) ## Like lab, with new hosts; caches are kept
	@$(LAB) fresh
lab-status: $(VENV_STAMP) ## Say what runs, who leads, how it is
	@$(LAB) status
lab-down: $(VENV_STAMP) ## Remove what lab made (PURGE=1: also images, caches, secrets)
	@$(LAB) down
lab-image: $(VENV_STAMP) ## Build a node image (RELEASE=bookworm), for Molecule
	@$(LAB) image
lab-new-secrets: $(VENV_STAMP) ## Make new secrets for rotate_secrets.yml (SECRETS=redis)
	@$(LAB) new-secrets
lab-forget-secrets: $(VENV_STAMP) ## Forget the ones before them (SECRETS=redis)
	@$(LAB) forget-secrets
