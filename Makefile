# TradeFleet. Each target is one call of ansible-playbook, molecule, pytest or a program. README.md shows these calls, because real VMs
# need neither make nor the lab.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Targets take their inputs from make's command line only. Variables of these names in the environment, which a login shell or another
# project may have left, are ignored. So are Ansible's settings, except passwords, keys and colors.
FOREIGN := ENV VERSION STRATEGY LAST DURATION ROUNDS PURGE TO PERCENT STATE REASON CHANGE CONFIRM ROLE DRILL \
	BASH_ENV CDPATH GREP_OPTIONS POSIXLY_CORRECT LANGUAGE GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONSAFEPATH \
	$(filter-out ANSIBLE_VAULT_% %_PASSWORD_FILE ANSIBLE_PRIVATE_KEY_FILE ANSIBLE_FORCE_COLOR ANSIBLE_NOCOLOR,\
		$(filter ANSIBLE_% MOLECULE_%,$(.VARIABLES)))
$(foreach name,$(FOREIGN),$(if $(filter environment,$(origin $(name))),$(eval undefine $(name))))

ENV ?= lab
ifneq ($(ENV),lab)
$(foreach target,$(filter image hosts up down second-site meter drill bench test test-role test-roles test-fleet fleet-hosts fleet-tests soak-tests,$(MAKECMDGOALS)),\
	$(error make $(target) is for the lab: leave ENV=$(ENV) out))
endif
PROJECT_VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
VERSION ?= $(PROJECT_VERSION)
INVENTORY := inventories/$(ENV)
RELEASE := dist/tradefleet-$(VERSION).tar.gz
PLAYBOOK := ansible-playbook -i $(INVENTORY)
# Inputs of an operator that every playbook accepts, with any quotes in them: CHANGE=CHG-123 CONFIRM='green 0.3.0' REASON='…'
INPUTS = -e "$$(python -c 'import json, os; print(json.dumps({n.lower(): v for n, v in os.environ.items() if n in ("CHANGE", "CONFIRM", "REASON") and v}))')"

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Ansible rejects the locale C, and any locale that this machine lacks.
export LC_ALL := C.UTF-8
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# The lab and the tests use Mitogen, which is several times faster; STRATEGY=linear measures the stock strategy.
STRATEGY ?= lab_linear
export ANSIBLE_STRATEGY := $(STRATEGY)
export ANSIBLE_STRATEGY_PLUGINS := $(CURDIR)/.config/strategy
export ANSIBLE_DEPRECATION_WARNINGS := false
# The lab always uses its own vault password. Elsewhere an operator may name a file, a program or several ids; the default is .vault/ENV.
ifeq ($(ENV),lab)
undefine ANSIBLE_VAULT_IDENTITY_LIST
ANSIBLE_VAULT_PASSWORD_FILE =
endif
ifeq ($(ANSIBLE_VAULT_PASSWORD_FILE)$(ANSIBLE_VAULT_IDENTITY_LIST),)
PASSWORD := .vault/$(ENV)
export ANSIBLE_VAULT_PASSWORD_FILE := $(CURDIR)/.vault/$(ENV)
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## --- setting up ---

.PHONY: system
system: ## install the system packages that the lab and the tests need (root)
	@scripts/system-packages

# Debian's Python, even if PATH contains another one: it is built with profile-guided optimization, and Ansible spends its time in Python.
.venv/.ready: .config/controller.txt requirements.yml
	/usr/bin/python3 -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile -r .config/controller.txt
	@# Mitogen reads the metadata of every installed collection in each process that runs a module of one. Keep our four of a hundred.
	cd .venv/lib/python3.*/site-packages/ansible_collections && for each in */*/; do \
		grep -q "name: $$(tr / . <<< $${each%/})," $(CURDIR)/requirements.yml || rm -r $$each; done
	touch $@

.PHONY: venv
venv: .venv/.ready | .vault/lab ## create the virtualenv, pinned and with hashes

.vault/%:
	@[ ! -e inventories/$*/group_vars/all/vault.yml ] || { \
		echo "inventories/$*/group_vars/all/vault.yml exists, and $@, its password, does not. Restore that file, or name the password" \
			"(ANSIBLE_VAULT_PASSWORD_FILE). Nothing was changed." >&2; exit 1; }
	@mkdir -p -m 0700 .vault && (umask 077 && openssl rand -base64 32 > $@.partial) && mv $@.partial $@

.PHONY: secrets
secrets: venv | $(PASSWORD) ## generate the vault of an environment, or add what it lacks (ENV=lab)
	@$(PLAYBOOK) playbooks/secrets.yml

.PHONY: image
image: venv ## build the images that hosts start from, the network and the SSH key
	@$(PLAYBOOK) molecule/shared/ground.yml -e lab_image_tag=packages

.PHONY: hosts
hosts: venv | $(PASSWORD) ## create, start or replace the lab's hosts
	@$(PLAYBOOK) molecule/shared/create.yml

.PHONY: up
up: ## install everything, from a fresh machine to live traffic
	@RELEASE=$(RELEASE) scripts/up

.PHONY: second-site
second-site: secrets ## add the second site to the lab: a standby with one host for each tier (docs/second-site.md)
	@ln -sf ../../../lab/group_vars/all/vault.yml inventories/dr/group_vars/all/vault.yml
	@$(SECOND_SITE) molecule/shared/create.yml
	@sed -i 's/^site_peer:.*/site_peer: dr/' $(INVENTORY)/group_vars/all/sites.yml
	@sed -i 's/^release_blue:.*/release_blue: "$(VERSION)"/' inventories/dr/group_vars/all/traffic.yml
	@$(PLAYBOOK) playbooks/site.yml $(INPUTS)
	@$(SECOND_SITE) playbooks/site.yml $(INPUTS)
SECOND_SITE := ansible-playbook -i inventories/dr

.PHONY: down
down: venv | $(PASSWORD) ## remove the lab's hosts and network (PURGE=1: also image, virtualenv, keys and secrets)
	@$(SECOND_SITE) molecule/shared/destroy.yml
	@$(PLAYBOOK) molecule/shared/destroy.yml -e lab_remove=$(if $(PURGE),network+image,network)
	@scripts/no-fleet $(PROJECT_VERSION)
	$(if $(PURGE),rm -rf .venv .lab .vault/lab build inventories/lab/group_vars/all/vault.yml)

## --- operating ---

.PHONY: site
site: secrets $(RELEASE) ## converge the fleet to the inventory
	@$(PLAYBOOK) playbooks/site.yml $(INPUTS)

.PHONY: status
status: ## print a table of what runs where
	@mkdir -p .lab && $(PLAYBOOK) playbooks/status.yml -e '{"status_file": "$(CURDIR)/.lab/status.txt"}' > .lab/status.log || { cat .lab/status.log; exit 1; }
	@cat .lab/status.txt

$(RELEASE): pyproject.toml app/requirements.txt $(shell find app/tradefleet -type f -not -name '*.pyc') | .venv/.ready
	@python tools/build_release.py --version '$(VERSION)'

.PHONY: release
release: venv ## build dist/tradefleet-VERSION.tar.gz
	@python tools/build_release.py --version '$(VERSION)'

.PHONY: deploy
deploy: $(RELEASE) ## deploy VERSION to the idle color and verify it there
	@$(PLAYBOOK) playbooks/deploy.yml -e deploy_release=$(VERSION) $(INPUTS)

.PHONY: cutover
cutover: ## move the traffic to the other color (TO=green)
	@$(PLAYBOOK) playbooks/cutover.yml $(if $(TO),-e cutover_to=$(TO)) $(INPUTS)

.PHONY: rolling
rolling: $(RELEASE) ## replace the live color's release with VERSION, host by host
	@$(PLAYBOOK) playbooks/rolling.yml -e rolling_release=$(VERSION) $(INPUTS)

.PHONY: rollback
rollback: ## move the traffic back
	@$(PLAYBOOK) playbooks/rollback.yml $(INPUTS)

.PHONY: finalize
finalize: ## apply the contract migrations, once both colors run the live release
	@$(PLAYBOOK) playbooks/finalize.yml $(INPUTS)

.PHONY: canary
canary: ## give the idle color a judged share of the clients (PERCENT=10), or all, step by step
	@$(PLAYBOOK) playbooks/canary.yml $(if $(PERCENT),-e percent=$(PERCENT)) $(INPUTS)

.PHONY: shadow
shadow: ## mirror some reads to the idle color and compare (PERCENT=5)
	@$(PLAYBOOK) playbooks/shadow.yml -e percent=$(or $(PERCENT),$(error PERCENT is missing: make shadow PERCENT=5)) $(INPUTS)

.PHONY: maintenance
maintenance: ## close the platform to clients, or open it (STATE=on)
	@$(PLAYBOOK) playbooks/maintenance.yml -e maintenance=$(or $(STATE),$(error STATE is missing, on or off: make maintenance STATE=on)) $(INPUTS)

.PHONY: lock
lock: ## acquire the lock: other operators' playbooks fail until make unlock (REASON='…')
	@$(PLAYBOOK) playbooks/lock.yml $(INPUTS)

.PHONY: unlock
unlock: ## break the lock (REASON='…')
	@$(PLAYBOOK) playbooks/unlock.yml $(INPUTS)

LAST ?= 20
.PHONY: journal
journal: ## print the last operations: who, what, from, result, seconds, change, reason (LAST=20)
	@mkdir -p .lab && rm -f .lab/journal.txt
	@$(PLAYBOOK) playbooks/journal.yml -e last=$(LAST) -e '{"journal_file": "$(CURDIR)/.lab/journal.txt"}' > .lab/journal.log || { cat .lab/journal.log; exit 1; }
	@cat .lab/journal.txt

API_KEY = ansible-vault view $(INVENTORY)/group_vars/all/vault.yml | python -c 'import sys, yaml; print(yaml.safe_load(sys.stdin)["vault_demo_api_key"])'
.PHONY: api-key
api-key: ## print the demo trader's API key
	@$(API_KEY)

DURATION ?= 60
LAB_SQL = ssh -i .lab/ssh_key -o IdentitiesOnly=yes -o UserKnownHostsFile=.lab/known_hosts/%h -o ConnectTimeout=5 debian@10.203.0.$(1) \
	sudo -u postgres psql -AtX -d tradefleet
.PHONY: meter
meter: ## measure the lab with a request loop (DURATION=60)
	@TRADEFLEET_API_KEY=$$($(API_KEY)) python -m tools.meter --duration $(DURATION) \
		--target 10.203.0.11:443 --target 10.203.0.12:443 $(foreach host,41 42 43,--database-command "$(call LAB_SQL,$(host))")

## --- checks ---

# A part of the tests: its output is in .lab/log/PART.txt, its costs are rows of the table at the end of make test.
PART := python -m tools.suite run
FAILED := { python -m tools.suite report; cat .lab/log/*.failed; molecule destroy --scenario-name fleet > .lab/log/destroy.txt 2>&1; exit 1; }

# The test of words loads no plugin of a caller.
.PHONY: lint
lint: export PYTEST_ADDOPTS :=
lint: venv ## run codespell, banned words, ruff, mypy, import-linter, yamllint, ansible-lint
	@codespell && pytest -q tests/repo/test_words.py && ruff check . && ruff format --check . && mypy app plugins tests molecule tools && env PYTHONPATH=app lint-imports --no-cache --no-logo && yamllint --strict . && ansible-lint --strict --offline

.PHONY: test-app
test-app: venv ## test the application, the programs and plugins, the repository and the templates
	@$(PART) units pytest tests/app tests/unit tests/repo tests/templates

.PHONY: test-role
test-role: venv ## test one role in its containers (ROLE=redis)
	@$(PART) $(or $(ROLE),$(error ROLE is missing: make test-role ROLE=redis)) molecule test --scenario-name $(ROLE)

# In two steps: make test creates the fleet next to the last roles, and tests it alone, because these tests have bounds of seconds.
.PHONY: test-fleet
test-fleet: ## test the whole fleet under load
	@$(MAKE) fleet-hosts
	@$(MAKE) fleet-tests

.PHONY: fleet-hosts
fleet-hosts: secrets ## create the fleet that fleet-tests tests
	@scripts/no-fleet $(PROJECT_VERSION)
	@$(MAKE) release
	@$(PART) fleet-hosts molecule converge --scenario-name fleet

.PHONY: fleet-tests
fleet-tests: venv ## test the fleet under load, and remove it
	@$(PART) fleet molecule test --scenario-name fleet
	@scripts/no-fleet $(PROJECT_VERSION)

.PHONY: drill
drill: venv ## inject faults into the lab under load, one after the other (DRILL=name: one of them); writes docs/reliability.md
	@DRILL=$(or $(DRILL),all) pytest tests/fleet/drills

# The longest scenarios first, so that the last one does not run alone: they are last in the alphabet, except for these. The production
# scenario is left out, because 14 hosts with the stock strategy take twelve minutes (docs/testing.md).
SHORT := acme operations pki base
LONG := $(filter-out fleet production $(SHORT),$(patsubst molecule/%/molecule.yml,%,$(shell ls -r molecule/*/molecule.yml)))
.PHONY: test-roles
test-roles: $(LONG:%=test-role-%) $(SHORT:%=test-role-%) ## test every role (make -j2: two at a time)
test-role-%: venv
	@$(PART) $* molecule test --scenario-name $*

# "make" and not $(MAKE) for the first part, because --dry-run runs a line with $(MAKE).
.PHONY: test
test: export PYTEST_ADDOPTS := -m 'not thorough'
test: system ## run all tests except those marked thorough, which test-app, test-role and test-fleet also run
	@$(MAKE) venv
	@python -m tools.suite clean
	@$(PART) lint make --jobs 2 --output-sync=target lint image
	@$(MAKE) --jobs 3 --keep-going --output-sync=target test-app $(LONG:%=test-role-%) fleet-hosts $(SHORT:%=test-role-%) || $(FAILED)
	@$(MAKE) fleet-tests || $(FAILED)
	@python -m tools.suite report

ROUNDS ?= 5
.PHONY: soak-tests
soak-tests: venv ## run every part of the tests ROUNDS times next to a load of half a core, to find those that fail by chance (hours)
	@PYTEST_ADDOPTS="-m 'not thorough'" scripts/soak-tests $(ROUNDS) units $(LONG) $(SHORT) fleet

.PHONY: bench
bench: ## measure make up, a second run, deploy and cutover (removes the lab first); writes docs/benchmarks.md
	@scripts/bench

.PHONY: pins
pins: venv ## pin what the controller and the application need, with hashes
	@$(PINS) --group controller --universal --python-version 3.11 --output-file .config/controller.txt
	@$(PINS) --only-binary :all: --python-version 3.13 --python-platform x86_64-manylinux_2_28 --output-file app/requirements.txt
PINS := uv pip compile pyproject.toml --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make pins"
