# The container engine's verbs, included by the Makefile. docker-compose (1.29.2 or later) or compose v2, whichever is here.
COMPOSE ?= $(shell command -v docker-compose >/dev/null && echo docker-compose || echo docker compose)
# BROKERS=3: three brokers that replicate each other; give it to up, stream, logs and down alike.
ifeq ($(BROKERS),3)
export COMPOSE_FILE := docker-compose.yml:docker-compose.three-brokers.yml
endif
PREFLIGHT := $(BASE_PYTHON) deploy/preflight.py $(if $(filter 3,$(BROKERS)),--brokers 3)

preflight: ## say what `make up` would miss: engine, ports, memory, files
	@$(PREFLIGHT)

up: ## start the stack in containers (`BROKERS=3`: three brokers); then drive it with the scripts, or with `make stream`
	@$(PREFLIGHT)
	$(COMPOSE) up -d --build
	@cat deploy/welcome.txt

stream: ## start the stack with consumer and producer as containers, too
	@$(PREFLIGHT) --stream
	$(COMPOSE) --profile stream up -d --build
	@cat deploy/welcome.txt

down: ## stop the stack and keep its data (`make down VOLUMES=-v` throws them away)
	$(COMPOSE) --profile stream --profile alerting down $(VOLUMES)

logs: ## follow the logs of all services (`make logs SERVICE=api` for one)
	$(COMPOSE) --profile stream logs -f --tail=50 $(SERVICE)

e2e: $(READY) ## run the whole stack on a container engine and check every promise (`FLOW=brokers` one part; all: 20 minutes)
	@$(PREFLIGHT) --bare --brokers 3
	@COMPOSE="$(COMPOSE)" $(PYTHON) -m lab.containers $(FLOW)

.PHONY: preflight up stream down logs e2e
