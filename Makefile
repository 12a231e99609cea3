# Two commands: `make demo` shows a Pod running, `make test` runs all tests. Both install what they need (Debian, root).

BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH):/usr/sbin:/sbin
CODE := src tests tools bench

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stop test test-long parity bench lint fmt lock

help:
	@echo "make demo    a cluster, and the first Pod in it        make demo FLAGS=\"--port 7443\"    make demo-stop"
	@echo "make test    all tests: unit, node (real containers), e2e (whole clusters), hostile (attackers)"
	@echo "make test-long   what takes hours: fresh machines, soak runs, many crashes"
	@echo "make setup   what Podling needs on this machine; then $(BIN)/podling is the command"
	@echo "make parity  answers to recorded requests beside those of kube-apiserver, file by file"
	@echo "make bench   measures latency, throughput and memory"
	@echo "make lint    ruff, mypy, import layers        make fmt   formats the code"
	@echo "make lock    newest dependencies into requirements.lock"

setup:
	@tools/setup.sh

demo:
	@tools/setup.sh demo
	@tools/demo.sh start $(FLAGS)

demo-stop:
	@tools/demo.sh stop

test:
	@tools/setup.sh test
	@$(BIN)/pytest -n 2 --dist worksteal --check-machine tests

test-long:
	@tools/setup.sh test
	@for seed in 1 2 3 4 5 6 7 8 9 10; do \
	    PODLING_CRASH_SEED=$$seed PODLING_TEST_SEED=$$seed PODLING_TEST_ROUNDS=50 \
	    $(BIN)/pytest tests/e2e/test_crash.py tests/node/test_runtime_adopt.py || exit 1; done
	@$(BIN)/pytest -m long tests/long

parity:
	@tools/setup.sh test
	@$(BIN)/python -m tools.parity $(FLAGS)

bench:
	@tools/setup.sh bench
	@$(BIN)/python -m bench

lint:
	@tools/setup.sh dev
	$(BIN)/ruff check --quiet $(CODE)
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt:
	@tools/setup.sh dev
	$(BIN)/ruff check --fix --quiet $(CODE)
	$(BIN)/ruff format --quiet $(CODE)

lock:
	@tools/lock.sh
