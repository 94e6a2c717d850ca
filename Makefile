.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint check bench lock clean
BIN := .venv/bin

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST)

setup:  ## .venv and npm's packages, from the locks; instant when nothing changed
	@tools/setup

demo: setup  ## a function's whole way to production and back, on the local AWS (KEEP=1 leaves it up)
	@tools/demo $(if $(KEEP),--keep)

# Four at a time: they wait more than they work, for the local AWS takes as few calls a second as AWS does. Who is done
# takes from who is not: the tests that fail each call in turn take minutes.
test:  ## every test
	@tools/setup $(if $(shell command -v google-chrome),,chromium) curl jq unzip zip
	@$(BIN)/pytest -n 4 --dist worksteal

lint: setup  ## style, types, architecture, and what no file may name
	@tools/lint

# The tests come last: their closing line is the last that CI shows.
check: lint demo test  ## all that CI does

bench: setup  ## every measurement in bench/
	@for each in bench/*.py; do [ -e "$$each" ] || continue; echo "== $$each"; $(BIN)/python "$$each" || exit 1; done

lock: setup  ## rewrite the locks from pyproject.toml and package.json
	@tools/lock

clean:  ## remove what the other targets made
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist examples/greeting/node_modules runtime/node/node_modules
