# make run: install, render the demo data, execute all notebooks. make test: the tests; make slow: those that take long.
# make bench: speed.
PYTHON ?= python3.11
VENV := .venv

.PHONY: run test slow bench clean

run: $(VENV)/installed
	$(VENV)/bin/python -m bundle run

test: $(VENV)/installed-tests
	$(VENV)/bin/python -m pytest -n auto

slow: $(VENV)/installed-tests
	$(VENV)/bin/python -m pytest -n auto -m slow

bench: $(VENV)/installed-tests
	$(VENV)/bin/python -m benchmarks

$(VENV)/installed: requirements.txt requirements-demo.txt bundle/install.py
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python bundle/install.py
	touch $@

$(VENV)/installed-tests: $(VENV)/installed requirements-test.txt
	$(VENV)/bin/python bundle/install.py --tests
	touch $@

clean:
	rm -rf runs cache data/demo
