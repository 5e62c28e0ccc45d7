"""What a `JobSpec` may say. Every field has a rule here: it is honoured, or refused by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.errors import Violation
from hodei_server.domain.secrets import TAKEN_VARIABLES, check_secrets
from hodei_server.domain.states import INFRASTRUCTURE_CAUSES, Cause

MAX_SPEC_BYTES = 2 << 20
MAX_STDIN_BYTES = 1 << 20
MAX_ANNOTATION_BYTES = 256 << 10
MAX_LABELS = 64
MIN_LOG_BUDGET = 64 << 10
MAX_SECONDS = 365 * 86400
#: What Linux takes as one argument or one variable of a program, without the NUL at its end.
MAX_ARGUMENT_BYTES = (128 << 10) - 1
#: Exit codes and causes are so few that more of them are a mistake.
MAX_CHOICES = 255

#: With these a job has ended, whatever its policy says.
_FINAL_CAUSES = frozenset({wire.CAUSE_UNSPECIFIED, wire.CAUSE_CANCELLED, wire.CAUSE_QUEUE_TIMEOUT})

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Rule = Callable[[wire.JobSpec], Iterator[Violation]]


def check_spec(spec: wire.JobSpec) -> list[Violation]:
    """Return everything that is wrong with a job; nothing when it can be taken."""
    if spec.ByteSize() > MAX_SPEC_BYTES:
        return [Violation("spec", f"is larger than {MAX_SPEC_BYTES} bytes")]
    found = [*unknown_fields(spec, "spec")]
    for rule in RULES.values():
        found += rule(spec)
    return found


def unknown_fields(message: Message, path: str = "") -> Iterator[Violation]:
    """Yield the fields that this version does not know: to drop them would be to do something else than asked (W38)."""
    unknown = UnknownFieldSet(message)
    prefix = f"{path}." if path else ""
    for place in range(len(unknown)):
        yield Violation(f"{prefix}{unknown[place].field_number}", "is a field that this server does not know")
    for descriptor, value in message.ListFields():
        kind = descriptor.message_type
        if kind is not None and not kind.GetOptions().map_entry:
            for each in value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]:
                yield from unknown_fields(each, f"{prefix}{descriptor.name}")


def check_text(field: str, text: str, most: int) -> Iterator[Violation]:
    """Yield what is wrong with one line for people: its length in characters, and control characters in it."""
    if len(text) > most:
        yield Violation(field, f"must have at most {most} characters")
    if any(character < " " or character == "\x7f" for character in text[: most + 1]):
        yield Violation(field, "must hold no control characters")


def check_labels(field: str, labels: Mapping[str, str]) -> Iterator[Violation]:
    """Yield what is wrong with labels."""
    if len(labels) > MAX_LABELS:
        yield Violation(field, f"must have at most {MAX_LABELS} entries")
        return
    for key, value in labels.items():
        yield from _label(field, key, value)


def _name(spec: wire.JobSpec) -> Iterator[Violation]:
    yield from check_text("spec.name", spec.name, 253)


def _label(field: str, key: str, value: str) -> Iterator[Violation]:
    prefix, slash, name = key.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or len(name) > 63:
        yield Violation(f"{field}[{key!r}]", "must have a key of at most 63 letters, digits, '-', '_' and '.'")
    if slash and (not _DNS_NAME.fullmatch(prefix) or len(prefix) > 253):
        yield Violation(f"{field}[{key!r}]", "has a prefix that is no DNS name")
    if value and (not _LABEL_NAME.fullmatch(value) or len(value) > 63):
        yield Violation(f"{field}[{key!r}]", "must have a value of at most 63 letters, digits, '-', '_' and '.'")


def _label_map(name: str) -> Rule:
    def rule(spec: wire.JobSpec) -> Iterator[Violation]:
        yield from check_labels(f"spec.{name}", dict(getattr(spec, name)))

    return rule


def _annotations(spec: wire.JobSpec) -> Iterator[Violation]:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in spec.annotations.items())
    if size > MAX_ANNOTATION_BYTES:
        yield Violation("spec.annotations", f"must have at most {MAX_ANNOTATION_BYTES} bytes in all")
    if "" in spec.annotations:
        yield Violation("spec.annotations", "must have no empty key")


def _argument(field: str, argument: str) -> Iterator[Violation]:
    if "\0" in argument:
        yield Violation(field, "must hold no NUL")
    if len(argument.encode()) > MAX_ARGUMENT_BYTES:
        yield Violation(field, f"must have at most {MAX_ARGUMENT_BYTES} bytes: Linux runs no program with more")


def _argv(spec: wire.JobSpec) -> Iterator[Violation]:
    if bool(spec.argv) == spec.HasField("script"):
        yield Violation("spec.argv", "or spec.script must be given, one of the two")
    if spec.argv and not spec.argv[0]:
        yield Violation("spec.argv[0]", "must name the program")
    for place, argument in enumerate(spec.argv):
        yield from _argument(f"spec.argv[{place}]", argument)


def _script(spec: wire.JobSpec) -> Iterator[Violation]:
    if not spec.HasField("script"):
        return
    if not spec.script.text:
        yield Violation("spec.script.text", "must not be empty")
    for place, argument in enumerate(spec.script.interpreter):
        if place == 0 and not argument:
            yield Violation("spec.script.interpreter[0]", "must name the program")
        yield from _argument(f"spec.script.interpreter[{place}]", argument)


def _environment(spec: wire.JobSpec) -> Iterator[Violation]:
    for name, value in spec.environment.items():
        if not _VARIABLE.fullmatch(name):
            yield Violation(
                f"spec.environment[{name!r}]", "must have a name of letters, digits and '_' that begins with no digit"
            )
        elif name.startswith("HODEI_"):
            yield Violation(f"spec.environment[{name!r}]", "begins with HODEI_, which is kept for Hodei itself")
        elif name in TAKEN_VARIABLES:
            yield Violation(f"spec.environment[{name!r}]", "is kept for Hodei itself, which sets it for every job")
        yield from _argument(f"spec.environment[{name!r}]", f"{name}={value}")


def _working_directory(spec: wire.JobSpec) -> Iterator[Violation]:
    if spec.working_directory and not spec.working_directory.startswith("/"):
        yield Violation("spec.working_directory", "must be absolute")
    yield from check_text("spec.working_directory", spec.working_directory, 4095)


def _stdin(spec: wire.JobSpec) -> Iterator[Violation]:
    if len(spec.stdin) > MAX_STDIN_BYTES:
        yield Violation("spec.stdin", f"must have at most {MAX_STDIN_BYTES} bytes")


def _image(spec: wire.JobSpec) -> Iterator[Violation]:
    yield from check_text("spec.image", spec.image, 1024)
    if any(character.isspace() for character in spec.image):
        yield Violation("spec.image", "must hold no spaces")


def _resources(spec: wire.JobSpec) -> Iterator[Violation]:
    resources = spec.resources
    for name in ("cpu_millis", "memory_bytes", "disk_bytes", "gpu_count"):
        if getattr(resources, name) < 0:
            yield Violation(f"spec.resources.{name}", "must not be negative")
    if resources.gpu_type and not resources.gpu_count:
        yield Violation("spec.resources.gpu_type", "needs a gpu_count")
    yield from check_text("spec.resources.gpu_type", resources.gpu_type, 63)


def _priority(spec: wire.JobSpec) -> Iterator[Violation]:
    if not -1000 <= spec.priority <= 1000:
        yield Violation("spec.priority", "must lie between -1000 and 1000")


def check_duration(field: str, value: Duration, *, zero: bool = False) -> Iterator[Violation]:
    """Yield what is wrong with a duration.

    :param zero: whether none at all is fine.
    """
    mixed = (value.seconds > 0 > value.nanos) or (value.seconds < 0 < value.nanos)
    if mixed or not -999_999_999 <= value.nanos <= 999_999_999:
        yield Violation(field, "is no valid duration: seconds and nanos differ in sign, or nanos are out of range")
    elif value.seconds < 0 or value.nanos < 0 or (not zero and not value.seconds and not value.nanos):
        yield Violation(field, "must not be negative" if zero else "must be longer than nothing")
    elif value.seconds > MAX_SECONDS:
        yield Violation(field, "must be at most 365 days")


def _duration_of(name: str, *, zero: bool = False) -> Rule:
    def rule(spec: wire.JobSpec) -> Iterator[Violation]:
        if spec.HasField(name):  # type: ignore[arg-type]  # a name from RULES
            yield from check_duration(f"spec.{name}", getattr(spec, name), zero=zero)

    return rule


def _retry(spec: wire.JobSpec) -> Iterator[Violation]:
    retry = spec.retry
    if not 0 <= retry.max_attempts <= 100:
        yield Violation("spec.retry.max_attempts", "must lie between 0 and 100")
    if retry.HasField("max_infrastructure_retries") and not 0 <= retry.max_infrastructure_retries <= 100:
        yield Violation("spec.retry.max_infrastructure_retries", "must lie between 0 and 100")
    for name in ("on_causes", "on_exit_codes"):
        if len(getattr(retry, name)) > MAX_CHOICES:
            yield Violation(f"spec.retry.{name}", f"must have at most {MAX_CHOICES} entries")
            return
    for place, cause in enumerate(retry.on_causes):
        if cause not in wire.Cause.values() or cause in _FINAL_CAUSES:
            yield Violation(f"spec.retry.on_causes[{place}]", "must be a cause that can be retried")
        elif Cause(cause) in INFRASTRUCTURE_CAUSES:
            yield Violation(
                f"spec.retry.on_causes[{place}]",
                "must be a cause of the job's own: the infrastructure's are max_infrastructure_retries' alone",
            )
    if retry.on_exit_codes and retry.on_causes and wire.CAUSE_EXIT_CODE not in retry.on_causes:
        yield Violation("spec.retry.on_exit_codes", "needs CAUSE_EXIT_CODE among on_causes, where these are given")
    for place, code in enumerate(retry.on_exit_codes):
        if not 1 <= code <= 255:
            yield Violation(f"spec.retry.on_exit_codes[{place}]", "must lie between 1 and 255")
    if retry.HasField("initial_backoff"):
        yield from check_duration("spec.retry.initial_backoff", retry.initial_backoff, zero=True)
    if retry.HasField("max_backoff"):
        yield from check_duration("spec.retry.max_backoff", retry.max_backoff, zero=True)


def _providers(spec: wire.JobSpec) -> Iterator[Violation]:
    for place, name in enumerate(spec.providers):
        if not name or len(name) > 63:
            yield Violation(f"spec.providers[{place}]", "must be a name of 1 to 63 characters")


def _strategy(spec: wire.JobSpec) -> Iterator[Violation]:
    if spec.strategy not in wire.Strategy.values():
        yield Violation("spec.strategy", f"{spec.strategy} is not a strategy")


def _custom_strategy(spec: wire.JobSpec) -> Iterator[Violation]:
    yield from check_text("spec.custom_strategy", spec.custom_strategy, 63)
    if spec.custom_strategy and spec.strategy:
        yield Violation("spec.custom_strategy", "excludes spec.strategy")


def _architecture(spec: wire.JobSpec) -> Iterator[Violation]:
    if spec.architecture and (not _DNS_LABEL.fullmatch(spec.architecture) or len(spec.architecture) > 63):
        yield Violation("spec.architecture", "must be a name as images have it, such as amd64 or arm64")


def _log_budget(spec: wire.JobSpec) -> Iterator[Violation]:
    if spec.log_budget_bytes and spec.log_budget_bytes < MIN_LOG_BUDGET:
        yield Violation("spec.log_budget_bytes", f"must be at least {MIN_LOG_BUDGET}, or 0 for the server's default")


def check_tenant(field: str, tenant: str) -> Iterator[Violation]:
    """Yield what is wrong with a tenant's name; the empty one means the default."""
    if tenant and (not _DNS_LABEL.fullmatch(tenant) or len(tenant) > 40):
        yield Violation(field, "must be a DNS label of at most 40 characters")


#: The rule of each field; a test sees to it that none is missing.
RULES: dict[str, Rule] = {
    "name": _name,
    "labels": _label_map("labels"),
    "annotations": _annotations,
    "argv": _argv,
    "script": _script,
    "environment": _environment,
    "working_directory": _working_directory,
    "stdin": _stdin,
    "image": _image,
    "resources": _resources,
    "priority": _priority,
    "queue_timeout": _duration_of("queue_timeout"),
    "start_timeout": _duration_of("start_timeout"),
    "run_timeout": _duration_of("run_timeout"),
    "cancel_grace": _duration_of("cancel_grace", zero=True),
    "retry": _retry,
    "providers": _providers,
    "strategy": _strategy,
    "required_labels": _label_map("required_labels"),
    "preferred_labels": _label_map("preferred_labels"),
    "region": lambda spec: check_text("spec.region", spec.region, 63),
    "log_budget_bytes": _log_budget,
    "log_ttl": _duration_of("log_ttl"),
    "tenant": lambda spec: check_tenant("spec.tenant", spec.tenant),
    "secrets": check_secrets,
    "custom_strategy": _custom_strategy,
    "architecture": _architecture,
}
