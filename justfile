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

# take out what keeps each promise, one at a time, and see its test fail; arguments are ids
protections *ids:
    {{bin}}/python -m hodei_protections {{ids}}

# benches: figures beside what the machine takes for the bare work; arguments go to the command
bench *arguments:
    {{bin}}/python -m hodei_bench {{arguments}}

# sends a log of so many GiB through a server; tells its memory before, at its peak and after
large-log gib="10":
    HODEI_TEST_LOG_MIB=$(({{gib}} * 1024)) {{bin}}/pytest -q -s tests/e2e/test_memory.py
