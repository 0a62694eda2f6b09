# Two commands on a fresh machine with Python 3.11 or later, git and make:
#   make demo    sets up and runs the whole way on synthetic scenes
#   make test    sets up and passes the tests
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
BIN_DOCS := .venv-docs/bin
READY_DOCS := .venv-docs/.ready

# Where Python may not write bytecode, each process would compile the package again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-fast test-clients campaign campaign-data campaign-models coverage check docs format lock clean

demo: $(READY)
	rm -rf runs/demo
	$(BIN)/pyramidseg demo --out runs/demo

# A process for each processor, one thread each: several threads in each would wait for each other.
# Where a process crashes the run ends and says so: with another in its place, xdist has been seen to wait for ever.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --max-worker-restart 0 \
		--dist loadfile --no-loadscope-reorder --durations 15

# Everything that neither trains nor starts processes nor takes seconds: about a minute on 2 cores.
test-fast: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --max-worker-restart 0 \
		--dist loadfile --no-loadscope-reorder -m "not slow"

# Hostile files for an hour, on two processors; N=full ends at the full numbers. Interrupted, a second call continues.
campaign: $(READY)
	$(MAKE) --jobs 2 campaign-data campaign-models

campaign-data: CAMPAIGNS := images labels shapes odd_names non_finite many_files two_processes
campaign-models: CAMPAIGNS := bundles exports checkpoints payloads resources \
	predict_kills train_kills convert_kills export_kills

campaign-data campaign-models: $(READY)
	PYTHONPATH=tests:. OMP_NUM_THREADS=1 $(BIN)/python -m campaigns --state runs/campaign \
		$(if $(filter full,$(N)),,--minutes 60) $(CAMPAIGNS)

# The share of src that the tests execute; subprocesses are not counted.
# What the video decoder, the workers of the server and those of Ray execute in processes of their own is not counted.
coverage: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --max-worker-restart 0 \
		--dist loadfile --no-loadscope-reorder --cov --cov-report term:skip-covered --cov-report html:runs/coverage

# Tests with the real programs that people use, each in an environment of its own on top of .venv:
# tests/clients/NAME has its packages (requirements.txt, made from requirements.in and, where one is to come from .venv,
# overrides.txt) and its tests.
CLIENTS := $(notdir $(patsubst %/,%,$(dir $(wildcard tests/clients/*/requirements.in))))

# Two at a time: while one is installed or waits for its server, the other has the processors.
test-clients: $(READY)
	$(MAKE) --jobs 2 $(CLIENTS:%=test-client-%)

# Some clients bring anyio, whose plugin of pytest imports a deprecated name.
test-client-%: .venv-clients/%/.ready
	OMP_NUM_THREADS=1 .venv-clients/$*/bin/python -m pytest -p no:anyio tests/clients/$*

.venv-clients/%/.ready: tests/clients/%/requirements.txt $(READY)
	test -x .venv-clients/$*/bin/python || $(BIN)/python -m venv .venv-clients/$*
	$(BIN)/uv pip install --quiet --no-deps --python .venv-clients/$*/bin/python --require-hashes --requirement $<
	$(BIN)/python -c "import site; print('import site; site.addsitedir(%r)' % site.getsitepackages()[0])" \
		> "$$(.venv-clients/$*/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth"
	touch $@

.PRECIOUS: .venv-clients/%/.ready

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site in runs/site; broken links and anchors are errors.
docs: $(READY_DOCS)
	$(BIN_DOCS)/mkdocs build --strict --site-dir runs/site

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The environment is updated whenever the lock or the project's own metadata change. uv leaves libraries as source unless
# told otherwise, and where Python may not write bytecode either every process would compile them: 6 s in each start.
$(READY): requirements-dev.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
		--requirement requirements-dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(READY)

$(READY_DOCS): requirements-docs.lock
	test -x $(BIN_DOCS)/python || $(PYTHON) -m venv .venv-docs
	test -x $(BIN_DOCS)/uv || $(BIN_DOCS)/python -m pip install --quiet uv
	$(BIN_DOCS)/uv pip install --quiet --python $(BIN_DOCS)/python --require-hashes --requirement requirements-docs.lock
	touch $(READY_DOCS)

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --group dev pyproject.toml --output-file requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --group docs --output-file requirements-docs.lock
	grep -oE '^torch(vision)?==[0-9.]+' requirements.lock > deploy/torch.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --extra serve --extra onnx --extra openvino \
		$$(grep -oE '^((nvidia|cuda)[a-z0-9-]*|torchvision|torch|triton)==' requirements.lock | tr -d = \
			| sed 's/^/--no-emit-package /') \
		pyproject.toml --output-file deploy/requirements.lock
	for folder in tests/clients/*/; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
			--custom-compile-command "make lock" $$(ls "$$folder"/overrides.txt 2>/dev/null | sed 's/^/--override /') \
			"$$folder/requirements.in" --output-file "$$folder/requirements.txt"; \
	done

clean:
	rm -rf .venv .venv-docs .venv-clients runs
