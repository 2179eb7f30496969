# make run: install, render the demo data, execute all notebooks. make test: the tests; make slow: those that take long.
# make lab: open them. make notebooks: renew the outputs in them. make colab: bundle.zip. make bench: speed.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
VENV := .venv

.PHONY: run lab notebooks colab test slow bench clean

run: $(VENV)/installed
	$(VENV)/bin/python -m bundle run

lab: $(VENV)/installed
	$(VENV)/bin/jupyter lab notebooks

notebooks: $(VENV)/installed
	$(VENV)/bin/python -m bundle.colab
	$(VENV)/bin/python -m bundle.run.outputs

colab:
	git archive --format=zip --prefix=bundle/ --output=bundle.zip HEAD

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
