# The commands of a checkout; each sets itself up. Any POSIX shell and GNU make since 3.81 will do.
#
#   VENV=DIR      the environment to make and use
#   PYTHON=PATH   the Python to make it from (default: the first of CANDIDATES that will do)
#   TORCH=X.Y.Z   the PyTorch to install instead of the one in constraints.txt, in a VENV of its own
#   ARGS="…"      passed on to the command

VENV = $(if $(TORCH),build/torch-$(TORCH),.venv)
PYTHON ?=
TORCH =
ARGS =

CANDIDATES = python3 python3.13 python3.12 python3.11 python3.10
PACKAGES = hesrl agents envs configs
STAMP = $(VENV)/.installed

# What a PyTorch can break: its graph, its operations, and recording and replaying them.
TORCH_TESTS = tests/curvature tests/losses tests/optim tests/train_step

.PHONY: help train test test-torch torture lint docs release FORCE

help:
	@echo 'make train   train PPO with AdaHesScale on HalfCheetah-v5  (ARGS="--seed 2 …": options)'
	@echo 'make test    run the tests                                 (ARGS="-k ppo …": some of them)'
	@echo 'make torture try faults in great number                      (ARGS="--only training": some)'
	@echo 'make lint    check style and types'
	@echo 'make docs    build the site into build/site'
	@echo 'make release build, check and try out the packages in dist/'
	@echo 'make test-torch TORCH=2.12.1   run the tests of the engine under another PyTorch'
	@echo
	@echo 'Each installs hesrl into $(VENV) first, when that is missing or out of date.'
	@echo 'PYTHON=/path/to/python chooses the Python (3.10 or newer), VENV=DIR the environment.'

train: $(STAMP)
	@$(VENV)/bin/hesrl train ppo $(ARGS)

# All of them on all cores; what ARGS selects in one process, which starts sooner.
test: $(STAMP)
	@$(VENV)/bin/python -m pytest $(or $(ARGS),-n auto --maxprocesses 8 --dist loadgroup)

# Takes about two hours; each part writes its row when it is done.
torture: $(STAMP)
	@$(VENV)/bin/python -m tests.torture $(or $(ARGS),--out docs/reliability.csv)

test-torch: $(if $(TORCH),$(STAMP))
	@[ -n '$(TORCH)' ] || { \
	    echo 'error: name a release of PyTorch: make test-torch TORCH=2.12.1' >&2; \
	    exit 1; \
	}
	@$(VENV)/bin/python -c 'import torch; print("PyTorch", torch.__version__)'
	@$(VENV)/bin/python -m pytest $(or $(ARGS),-q $(TORCH_TESTS))

# mypy does not follow package_dir: it finds hesrl.agents, hesrl.envs and hesrl.configs through
# links in build/mypy, which setup.cfg names.
lint: $(STAMP)
	@$(VENV)/bin/python -m ruff check $(PACKAGES) tests docs/*.py docs/*.ipynb
	@$(VENV)/bin/python -m ruff format --check $(PACKAGES) tests docs/*.py docs/*.ipynb
	@rm -rf build/mypy && mkdir -p build/mypy/hesrl
	@for package in agents envs configs; do \
	    ln -s ../../../$$package build/mypy/hesrl/$$package || exit 1; \
	done
	@$(VENV)/bin/python -m mypy

# A warning is an error.
docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo 'the site is in build/site'

# What is uploaded is tried out: installed into an environment of its own, with the pinned set.
RELEASE_VENV = build/release

release: $(STAMP)
	@rm -rf dist $(RELEASE_VENV)
	@$(VENV)/bin/python -m build --no-isolation --outdir dist .
	@$(VENV)/bin/python -m twine check --strict dist/*
	@$(VENV)/bin/python -m venv $(RELEASE_VENV)
	@$(RELEASE_VENV)/bin/python -m pip install -qq -c constraints.txt dist/*.whl
	@cd $(RELEASE_VENV) && bin/hesrl doctor
	@echo 'dist/ is ready: twine upload dist/*'

# Makes the environment from the first Python that will do. `--clear` repairs a broken environment;
# any other folder of that name is left as it is.
MAKE_VENV = \
    for python in $(or $(PYTHON),$(CANDIDATES)); do \
        $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 || continue; \
        if $$python -c 'import ensurepip, venv' >/dev/null 2>&1; then \
            [ -f $(VENV)/pyvenv.cfg ] && clear=--clear || clear=; \
            exec $$python -m venv $$clear $(VENV); \
        fi; \
        incomplete=$${incomplete:-$$python}; \
    done; \
    if [ -n "$$incomplete" ]; then \
        echo "error: $$incomplete has no venv or ensurepip module; install it (Debian, Ubuntu:" \
            "apt install python3-venv) or name another Python: PYTHON=/path/to/python" >&2; \
    else \
        echo "error: no Python 3.10 or newer (tried: $(or $(PYTHON),$(CANDIDATES)));" \
            "install one or say where it is: PYTHON=/path/to/python" >&2; \
    fi; \
    exit 1

PIP_INSTALL = $(VENV)/bin/python -m pip install
PINS = $(if $(TORCH),$(VENV)/constraints.txt,constraints.txt)
INSTALL_HESRL = $(PIP_INSTALL) -c $(PINS) -e '.[dev,docs]'

# The stamp holds the checkout's path, because an environment that was copied or moved along with
# it still runs the old one.
ifneq ($(shell [ -x $(VENV)/bin/python ] && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif

# pip 21.3 is the first that installs in place from a pyproject.toml; Python 3.10.0 brings 21.2.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@rm -f $@
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || { incomplete=; $(MAKE_VENV); }
	@echo 'Installing hesrl and what it needs into $(VENV); the first time takes some minutes.'
	@$(if $(TORCH),sed -e 's/^torch==.*/torch==$(TORCH)/' -e '/^setuptools==/d' constraints.txt >$(PINS))
	@{ $(PIP_INSTALL) -qq 'pip>=21.3' && $(INSTALL_HESRL) -qq; } || { \
	    echo "error: the installation failed; this shows all of it: $(INSTALL_HESRL)" >&2; \
	    exit 1; \
	}
	@echo '$(CURDIR)' >$@
