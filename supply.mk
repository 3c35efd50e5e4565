# What this project is made of, included by the Makefile: locks, known vulnerabilities, bill of materials, licences.
TOOLS := $(VENV)/tools
TOOLS_READY := $(TOOLS)/.ready
ROLES := api producer consumer data
# One resolution for every Python from 3.11 and every platform. What is locked already stays unless UPGRADE=1.
# uv asks the index that pip is set to, which it does not look up by itself.
INDEX = $${PIP_INDEX_URL:-$$($(PYTHON) -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)}
COMPILE = UV_DEFAULT_INDEX="$(INDEX)" $(TOOLS)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

$(TOOLS_READY): requirements-tools.lock | $(READY)
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --disable-pip-version-check --progress-bar off -q --no-deps --require-hashes -r requirements-tools.lock
	@touch $@

lock: $(TOOLS_READY) ## write the locks from the requirements (UPGRADE=1: the newest versions that the bounds allow)
	@$(COMPILE) requirements-dev.txt -o requirements.lock
	@for role in $(ROLES); do $(COMPILE) -c requirements.lock requirements-$$role.txt -o requirements-$$role.lock || exit 1; done
	@$(COMPILE) requirements-tools.txt -o requirements-tools.lock
	@echo "wrote requirements.lock and requirements-{tools,api,producer,consumer,data}.lock: now run make setup"

audit: $(TOOLS_READY) ## look up known vulnerabilities of what is locked (needs the database of pip-audit)
	@$(PYTHON) -m deploy.audit $(TOOLS)/bin/pip-audit requirements.lock

sbom: $(TOOLS_READY) ## write run/sbom.json, the bill of materials (CycloneDX 1.6) of what is locked
	@mkdir -p run && $(TOOLS)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --sv 1.6 --of JSON -o run/sbom.json
	@echo "wrote run/sbom.json"

licences: $(READY) ## write docs/licences.md from what is installed
	@$(PYTHON) -m deploy.licences

.PHONY: lock audit sbom licences
