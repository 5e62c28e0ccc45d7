# Developers' commands; `just` lists them. The environment is made by `make venv`.

bin := ".venv/bin"

default:
    @just --list

# style, types, imports
lint:
    {{bin}}/ruff check .
    {{bin}}/ruff format --check .

# put the code into shape
fmt:
    {{bin}}/ruff check --fix .
    {{bin}}/ruff format .

# mypy, strict, over everything
types:
    {{bin}}/mypy .

# the direction of dependencies
imports:
    {{bin}}/lint-imports

# make the stubs anew; fails when the committed ones differ
stubs:
    {{bin}}/python proto/generate.py
    git diff --exit-code -- proto

# lint the .proto files; needs npm's @bufbuild/buf, or buf itself, on PATH
buf:
    buf lint proto

# show that the migrations make exactly the tables, on SQLite and on HODEI_TEST_DATABASE_URL
schema:
    {{bin}}/python -m hodei_server.db.check

# lock the dependencies again, with hashes and without an index's address
lock:
    {{compile}} --all-extras --group dev pyproject.toml -o requirements.lock
    {{compile}} --extra all pyproject.toml -c requirements.lock -o requirements-server.lock
    {{compile}} pyproject.toml -c requirements.lock -o requirements-worker.lock

compile := "uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --custom-compile-command 'just lock'"

# the tests; arguments go to pytest
test *arguments:
    {{bin}}/pytest {{arguments}}

# docs made from code
docs:
    {{bin}}/python -m hodei_server.settings --markdown > docs/configuration.md
    {{bin}}/python -m hodei_protections --page

# kill tests for longer; prints the seed of a failing run
soak seconds="600":
    {{bin}}/python -m hodei_torture --seconds {{seconds}}

# build both images for this machine, tagged `latest` and with the version
images: (_images "docker build")

# build both for every platform; nothing is kept but the cache, unless a registry is named: just multiarch --push
multiarch *arguments: (_images "docker buildx build --platform linux/amd64,linux/arm64 " + arguments)

_images build:
    for part in worker server; do \
        {{build}} --file Dockerfile.$part --build-arg VERSION={{version}} --build-arg REVISION={{revision}} \
            --tag {{registry}}hodei-jobs-$part:latest --tag {{registry}}hodei-jobs-$part:{{version}} . || exit; \
    done

# where images are pushed to: HODEI_REGISTRY=registry.example/team/ just multiarch --push
registry := env("HODEI_REGISTRY", "")
version := `sed -n 's/^__version__ = "\(.*\)"$/\1/p' proto/hodei/__init__.py`
revision := `git rev-parse HEAD 2>/dev/null || echo unknown`

# take out what keeps each promise, one at a time, and see its test fail; arguments are ids
protections *ids:
    {{bin}}/python -m hodei_protections {{ids}}

# benches: figures beside what the machine takes for the bare work; arguments go to the command
bench *arguments:
    {{bin}}/python -m hodei_bench {{arguments}}

# sends a log of so many GiB through a server; tells its memory before, at its peak and after
large-log gib="10":
    HODEI_TEST_LOG_MIB=$(({{gib}} * 1024)) {{bin}}/pytest -q -s tests/e2e/test_memory.py
