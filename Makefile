# make            set everything up, start the service and send it one signed event
# make test       the tests, on SQLite and on a real PostgreSQL (under four minutes on two idle cores, installation included)
# make test-release   the tests of what is released: the wheel, the pages as printed, the kernel as a witness
# make lint types wheel     what CI checks besides
# make test-brokers   Celery as an engine, over RabbitMQ and Redis where they are here (minutes)
# make test-alone     what measures a time on one core, so nothing else may run beside it
# make test-hosts     several hosts as network namespaces that are cut off and lose power (minutes; Linux, as root)
# make test-browser   the dashboard in Debian's Chromium, which it installs where it is root and there is none
# make docs       the site of docs/ in build/site, its warnings errors
# make coverage   what part of the code unit and integration tests run (minutes)
# make oldest     what touches the database, on SQLAlchemy 2.0 in a virtual environment of its own (minutes)
# make mutants    break the verifying code in 142 ways and see each noticed (a quarter of an hour)
# make bench      side by side with what people would use instead (minutes; wants an idle machine)
# make bench BENCH=quick   what an event and a delivery cost, to look at before and after a change (two minutes)
# make crash      the long harness: kill -9 again and again (minutes)
# .ci/run         what CI runs: all of the tests with every example, and the checks above (under an hour)
# .ci/nightly     the long ones: crash, mutants, coverage, every Python that is here (hours)
#
# make PYTHON=python3.12    to choose the interpreter; CONSTRAINTS= to install without pinned versions;
# make test PYTEST="tests/unit -k close" to run a part; make bench BENCH="ingest --all" too (benchmarks/README.md).
.POSIX:

VENV = .venv
BIN = $(VENV)/bin
PYTHON =
CONSTRAINTS = constraints.txt
PYTEST =
BENCH =

demo: $(VENV)/.installed
	@echo "make: a server, a worker and a Close of your own on this machine; a story of half a minute, then commands to try" >&2
	@exec $(BIN)/webhooks dev --demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST)

test-release: $(VENV)/.installed-dev
	WEBHOOKS_TEST_RELEASE=1 $(BIN)/python -m pytest -n auto --dist worksteal -m release $(PYTEST)

test-brokers: $(VENV)/.installed-test
	WEBHOOKS_TEST_BROKERS=1 $(BIN)/python -m pytest -n 2 -m brokers tests/acceptance $(PYTEST)

test-alone: $(VENV)/.installed-test
	WEBHOOKS_TEST_ALONE=1 $(BIN)/python -m pytest -m alone $(PYTEST)

test-hosts: $(VENV)/.installed-test
	WEBHOOKS_TEST_HOSTS=1 $(BIN)/python -m pytest -s -m hosts tests/acceptance/hosts $(PYTEST)
test-browser: $(VENV)/.installed-browser
	sh .ci/browser "$(VENV)"
	WEBHOOKS_TEST_BROWSER=1 $(BIN)/python -m pytest -m browser tests/acceptance/dashboard $(PYTEST)

coverage: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered tests/unit tests/integration $(PYTEST)

crash: $(VENV)/.installed-test
	WEBHOOKS_TEST_LONG=1 WEBHOOKS_TEST_BROKERS=1 $(BIN)/python -m pytest -m long tests/acceptance $(PYTEST)

oldest:
	@sh .ci/install .venv-oldest "$(PYTHON)" "" --editable '.[test]' 'SQLAlchemy>=2.0.50,<2.1'
	.venv-oldest/bin/python -m pytest -n auto --dist worksteal tests/integration $(PYTEST)

mutants: $(VENV)/.installed-test
	$(BIN)/python tests/mutation/mutants.py

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(BENCH)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-dev
	$(BIN)/mypy

wheel: $(VENV)/.installed-dev
	rm -rf build dist
	$(BIN)/python -m build

docs: $(VENV)/.installed-docs
	rm -rf build/site
	$(BIN)/python -m sphinx -c docs -b html -d build/doctrees --fresh-env --fail-on-warning --keep-going --quiet . build/site
	@echo "the site: build/site/index.html"

clean:
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf $(VENV) .venv-oldest .venv-python3* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: demo test test-release test-alone test-brokers test-hosts test-browser coverage oldest mutants bench crash lint types wheel docs clean

# One stamp for each set of packages, so that nothing is installed twice unless what is asked for changed.
INSTALL = sh .ci/install "$(VENV)" "$(PYTHON)" "$(CONSTRAINTS)"

# with what the demo's last commands ask a sender with
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@$(INSTALL) --editable '.[http]'
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml constraints.txt
	@$(INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-browser: setup.cfg pyproject.toml constraints.txt
	@$(INSTALL) --editable '.[browser]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-docs: setup.cfg pyproject.toml constraints.txt
	@$(INSTALL) --editable '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: setup.cfg pyproject.toml constraints.txt
	@$(INSTALL) --editable '.[bench]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-dev: setup.cfg pyproject.toml constraints.txt
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test
