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

# kill tests for longer; prints the seed of a failing run; `just soak 600 --s3` with logs in S3; then the memory of many
soak seconds="600" *arguments:
    {{bin}}/python -m hodei_torture --seconds {{seconds}} {{arguments}}
    HODEI_TEST_MEMORY_SCALE=4 {{bin}}/pytest -q -s tests/e2e/test_memory_of_many.py tests/integration/s3/test_memory.py

# so many jobs at once on the cluster that KUBECONFIG names, each log compared; tells how long they took
soak-k8s jobs="100":
    HODEI_K8S_TEST=1 HODEI_TEST_K8S_JOBS={{jobs}} {{bin}}/pytest -q tests/integration/kubernetes/test_many_jobs.py

# the same on the Docker engine; none ends before all of them run
soak-docker jobs="100":
    HODEI_TEST_DOCKER_JOBS={{jobs}} {{bin}}/pytest -q tests/integration/docker/test_many_jobs.py

# build both images for this machine, tagged `latest` and with the version
images: (_images "docker build")

# build both for every platform; nothing is kept but the cache, unless a registry is named: just multiarch --push
multiarch *arguments: (_images "docker buildx build --platform linux/amd64,linux/arm64 " + arguments)

_images build:
    for part in worker server; do \
        {{build}} --file Dockerfile.$part --build-arg VERSION={{version}} --build-arg REVISION={{revision}} \
            --tag {{registry}}hodei-jobs-$part:latest --tag {{registry}}hodei-jobs-$part:{{version}} . || exit; \
    done

# build both for this machine and push them to HODEI_REGISTRY
push: images
    test -n "{{registry}}" || { echo "HODEI_REGISTRY: set it to where images are pushed to" >&2; exit 2; }
    for part in worker server; do \
        for tag in latest {{version}}; do docker push {{registry}}hodei-jobs-$part:$tag || exit; done; \
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

# archives a log of so many GiB, verifies it and reads it in places; tells the bytes fetched; wants an S3 server
archived-log gib="1":
    HODEI_TEST_ARCHIVED_MIB=$(({{gib}} * 1024)) {{bin}}/pytest -q -s tests/integration/s3/test_large_log.py

# run all benches and write the page of published figures; wants a machine that does nothing else
performance:
    -{{bin}}/python -m hodei_bench --json docs/performance.json
    {{bin}}/python -m hodei_bench --markdown docs/performance.json > docs/performance.md

# where the processor time of the benches goes, by part of the code; arguments go to the command, as --only jobs
profile *arguments:
    {{bin}}/python -m hodei_bench --profile docs/performance {{arguments}}

# jobs that show what their names say, with a server that runs; each follows its log and ends with the job's code
job-k8s-hello: (_job "kubernetes" "hello")
job-k8s-cpu: (_job "kubernetes" "cpu" "--cpu 1 --memory 128Mi -e PROCESSORS=1")
job-k8s-memory: (_job "kubernetes" "memory" "--memory 256Mi -e MEBIBYTES=256")
job-k8s-data: (_job "kubernetes" "data" "--cpu 500m --memory 256Mi")
job-k8s-ml: (_job "kubernetes" "ml" "--cpu 1 --memory 256Mi" + ml)
job-k8s-build: (_job "kubernetes" "build" "--cpu 1 --memory 512Mi" + build)
# ends with 125, and says why, where there is no GPU for it within a minute; the others' -all leaves it out
job-k8s-gpu: (_job "kubernetes" "gpu" gpu)
job-k8s-all: job-k8s-hello job-k8s-cpu job-k8s-memory job-k8s-data job-k8s-ml job-k8s-build

job-docker-hello: (_job "docker" "hello")
job-docker-cpu: (_job "docker" "cpu" "--cpu 1 --memory 128Mi -e PROCESSORS=1")
job-docker-memory: (_job "docker" "memory" "--memory 256Mi -e MEBIBYTES=256")
job-docker-data: (_job "docker" "data" "--cpu 500m --memory 256Mi")
job-docker-ml: (_job "docker" "ml" "--cpu 1 --memory 256Mi" + ml)
job-docker-build: (_job "docker" "build" "--cpu 1 --memory 512Mi" + build)
job-docker-gpu: (_job "docker" "gpu" gpu)
job-docker-all: job-docker-hello job-docker-cpu job-docker-memory job-docker-data job-docker-ml job-docker-build

job-local-hello: (_job "process" "hello")
job-local-cpu: (_job "process" "cpu")
job-local-memory: (_job "process" "memory" "-e MEBIBYTES=256")
job-local-data: (_job "process" "data")
job-local-ml: (_job "process" "ml")
job-local-build: (_job "process" "build")
job-local-gpu: (_job "process" "gpu" gpu)
job-local-all: job-local-hello job-local-cpu job-local-memory job-local-data job-local-ml job-local-build

gpu := "--gpus 1 --start-timeout 1m --infrastructure-retries 0"
# an image with a python3, and one with a C compiler: HODEI_BUILD_IMAGE=gcc:14 just job-k8s-build; else the worker's
ml := if env("HODEI_ML_IMAGE", "") == "" { "" } else { " --image " + env("HODEI_ML_IMAGE") }
build := if env("HODEI_BUILD_IMAGE", "") == "" { "" } else { " --image " + env("HODEI_BUILD_IMAGE") }

_job provider name options="":
    {{bin}}/hodei run --provider {{provider}} --name {{name}} {{options}} --script deploy/jobs/{{name}}.sh

# a cluster on this machine; needs kind; HODEI_KIND_IMAGE=kindest/node:v1.34.0 just k8s-up: of that node image
k8s-up:
    kind get clusters | grep -qx hodei-test || kind create cluster --name hodei-test --wait 2m{{kind_image}}

kind_image := if env("HODEI_KIND_IMAGE", "") == "" { "" } else { " --image " + env("HODEI_KIND_IMAGE") }

# bring the worker's image, or others, to a cluster: that of k8s-up, or another by HODEI_REGISTRY or HODEI_K8S_IMPORT
k8s-load-image *images="hodei-jobs-worker:latest":
    HODEI_REGISTRY={{registry}} deploy/load-images.sh {{images}}

# write deploy/k8s, which a test compares with the code
k8s-manifests:
    env -u HODEI_K8S_NAMESPACE -u HODEI_WORKER_IMAGE {{bin}}/hodei k8s manifests --folder deploy/k8s --add server --add hpa --add prepull
