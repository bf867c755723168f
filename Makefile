# make run    the chat page on http://127.0.0.1:7860, over the built-in sample library
# make test   the whole suite          make check  format, lint, types and the suite
# make eval   the shipped questions over the sample library, held to their floors
# make bench  the page's waits, then start, ingest, search and memory beside LangChain + Chroma    make screenshots  pictures of it in screenshots/
# make faults every way in which an endpoint may fail, with seconds, requests and outcome
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 7860

.PHONY: run test check lint eval bench faults screenshots sample clean
.DELETE_ON_ERROR:

run: .venv/run.stamp
	$(BIN)/assistant serve --port $(PORT)

test: .venv/test.stamp
	$(BIN)/python -m pytest -n auto --dist loadfile

check: lint test

lint: .venv/check.stamp
	$(BIN)/ruff format --check assistant eval tests
	$(BIN)/ruff check assistant eval tests
	$(BIN)/mypy

# The shipped questions over the sample library, held to their floors.
eval: .venv/test.stamp
	$(BIN)/python -m eval retrieval --questions eval/questions/dev.jsonl --papers assistant/data/sample.jsonl --floor eval/floors/retrieval.json
	$(BIN)/python -m eval retrieval --questions eval/questions/conversations.jsonl --papers assistant/data/sample.jsonl --floor eval/floors/conversations.json
	$(BIN)/python -m eval answers --questions eval/questions/dev.jsonl --papers assistant/data/sample.jsonl --floor eval/floors/answers.json

# The page's waits, in a real browser; then start, ingest, search and memory beside a peer, in an environment of its own.
bench: .venv/test.stamp
	$(BIN)/python -m eval page
	$(BIN)/python -m eval bench --check eval/floors/bench.json

# The page in light and dark, on a desk and on a phone, to be looked at.
screenshots: .venv/test.stamp
	$(BIN)/python -m tests.screenshots screenshots

# Every way in which an endpoint may fail a question, through the whole product.
faults: .venv/test.stamp
	$(BIN)/python -m tests.faults

# The shipped vectors of the sample library, made anew from its papers.
sample: .venv/run.stamp
	$(BIN)/python -m assistant.sample assistant/data/sample.jsonl

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; run: make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/test.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ .venv/run.stamp

.venv/check.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check]'
	touch $@ .venv/run.stamp .venv/test.stamp

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
