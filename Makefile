# The one interface for people and for CI. `make` prints what there is.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
EXAMPLES ?= 20000
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' proxy/__init__.py)

.DEFAULT_GOAL := help

.PHONY: help run dev test check fmt lint types imports cover unit fuzz soak image test-image lock bench docs dashboard clean

help: ## list every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A venv with penstock in it; made anew when the dependencies change.
$(VENV)/.run: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# The same with the test tools.
$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(VENV)/.run ## start penstock with its demo model server, show a streamed answer, keep serving
	@deploy/examples/run.sh $(BIN)/penstock

dev: $(VENV)/.dev ## set up the virtual environment with the test tools

test: check cover ## all checks and all tests: what CI runs

check: lint types imports ## formatting, lint, strict types, import contracts

fmt: $(VENV)/.dev ## format the code and mend what lint can mend
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

lint: $(VENV)/.dev ## formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev ## strict types
	$(BIN)/mypy

imports: $(VENV)/.dev ## who may import whom
	$(BIN)/lint-imports

cover: $(VENV)/.dev ## all tests; fails under 95 % branch coverage in parsers, 90 % in proxy
	$(BIN)/coverage erase
	$(BIN)/pytest --cov --cov-branch --cov-report= -n 2
	$(BIN)/coverage report --include='parsers/*' --fail-under=95
	$(BIN)/coverage report --include='proxy/*' --fail-under=90

unit: $(VENV)/.dev ## all tests, without coverage
	$(BIN)/pytest -n 2

fuzz: $(VENV)/.dev ## the property tests with EXAMPLES examples each (default 20000)
	HYPOTHESIS_PROFILE=fuzz FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -m fuzz -n 2 --timeout=0

soak: $(VENV)/.dev ## many mixed requests, then: nothing leaked, every book balanced
	SOAK_REQUESTS=100000 $(BIN)/pytest --timeout=0 tests/e2e/test_soak.py \
	    tests/e2e/test_soak_streams.py tests/e2e/test_resilience.py tests/e2e/test_leaving.py

image: ## build the container image (by docker, podman or buildah; EXTRAS=bedrock,google; BASE=another image with Python)
	$(or $(shell command -v docker || command -v podman || command -v buildah),docker) build \
	  --file deploy/docker/Dockerfile --tag penstock:$(VERSION) \
	  $(EXTRAS:%=--build-arg EXTRAS=%) $(BASE:%=--build-arg BASE=%) .

test-image: $(VENV)/.dev ## build the image on a base made here and run it; install as the pages say (needs root, debootstrap, buildah)
	$(BIN)/pytest -m image -n 2 --dist loadfile --timeout=300

LOCKED := deploy/docker/requirements
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

lock: ## write deploy/docker/requirements*.lock anew from setup.cfg (needs uv)
	{ echo '# What the image installs, for every supported Python and platform. Made by `make lock`.'; \
	  $(COMPILE) setup.cfg; } >$(LOCKED).new
	mv $(LOCKED).new $(LOCKED).lock
	for extra in bedrock google; do \
	  { echo "# What the extra $$extra adds to requirements.lock. Made by \`make lock\`."; \
	    $(COMPILE) --extra $$extra --constraint $(LOCKED).lock \
	      $$(sed -n 's/^\([a-z-]*\)==.*/--no-emit-package \1/p' $(LOCKED).lock) setup.cfg; \
	  } >$(LOCKED)-$$extra.new && mv $(LOCKED)-$$extra.new $(LOCKED)-$$extra.lock || exit 1; \
	done

bench: $(VENV)/.run ## CPU per request and per token beside nginx (needs gcc and nginx; ARGS=--help)
	$(BIN)/python tests/bench/run.py $(ARGS)

docs: $(VENV)/.run ## write the pages that are made from the code anew
	$(BIN)/penstock schema --markdown >docs/configuration.md
	$(BIN)/python -m proxy.manual docs/cli.md
	$(BIN)/python -m proxy.commands.errors_reference docs/errors.md
	$(BIN)/python -m proxy.commands.metrics_reference docs/metrics.md
	$(BIN)/python deploy/grafana/dashboard.py
	$(BIN)/penstock rules deploy/examples/demo.jsonc >deploy/prometheus/rules.yml
	$(BIN)/penstock rules deploy/prometheus/objectives.jsonc >deploy/prometheus/objectives.yml
	$(BIN)/python -m proxy.commands.dialects docs/dialects.md README.md

dashboard: $(VENV)/.dev ## draw docs/dashboard.svg from a run before Prometheus (a minute)
	$(BIN)/python -m tests.deploy.picture docs/dashboard.svg

clean: ## remove the virtual environment and everything made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* tests/bench/bin
