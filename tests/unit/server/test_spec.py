"""Every field of a job is checked, and what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.retry import decide_retry
from hodei_server.domain.spec import RULES, check_spec
from hodei_server.domain.states import Cause

#: Causes of jobs that have ended whatever their policy says, and none at all.
ENDS = {Cause.QUEUE_TIMEOUT, Cause.CANCELLED, Cause.UNSPECIFIED}


def make(**fields: Any) -> wire.JobSpec:
    """Return a job that is fine but for some fields."""
    values: dict[str, Any] = {"argv": ["true"], **fields}
    return wire.JobSpec(**values)


def test_every_field_has_a_rule() -> None:
    """W38: a field that is added to the wire can't be forgotten here."""
    assert set(RULES) == {field.name for field in wire.JobSpec.DESCRIPTOR.fields}


def test_a_full_job_is_fine() -> None:
    """All fields at once, each with something sensible."""
    spec = make(
        name="train",
        labels={"team": "a", "example.com/stage": "dev"},
        annotations={"anything": "at all \n"},
        environment={"A": "b"},
        working_directory="/tmp",
        stdin=b"\0",
        priority=-5,
        queue_timeout={"nanos": 1},
        run_timeout={"seconds": 90},
        cancel_grace={},
        retry={"max_attempts": 3, "on_causes": [wire.CAUSE_SIGNAL, wire.CAUSE_EXIT_CODE], "on_exit_codes": [1, 255]},
        providers=["process"],
        strategy=wire.STRATEGY_LABELS,
        log_budget_bytes=1 << 20,
        log_ttl={"seconds": 60},
        tenant="team-a",
    )
    assert check_spec(spec) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (wire.JobSpec(), "spec.argv"),
        (make(script={"text": "true"}), "spec.argv"),
        (make(argv=[""]), "spec.argv[0]"),
        (make(argv=["a", "b\0"]), "spec.argv[1]"),
        (wire.JobSpec(script=wire.Script()), "spec.script.text"),
        (wire.JobSpec(script=wire.Script(text="x", interpreter=[""])), "spec.script.interpreter[0]"),
        (make(name="x" * 254), "spec.name"),
        (make(name="a\nb"), "spec.name"),
        (make(labels={"": "x"}), "spec.labels['']"),
        (make(labels={"a": "x y"}), "spec.labels['a']"),
        (make(labels={str(n): "" for n in range(65)}), "spec.labels"),
        (make(annotations={"a": "x" * (256 << 10)}), "spec.annotations"),
        (make(environment={"A=B": ""}), "spec.environment['A=B']"),
        (make(environment={"HODEI_X": ""}), "spec.environment['HODEI_X']"),
        (make(environment={"TRACEPARENT": ""}), "spec.environment['TRACEPARENT']"),
        (make(environment={"A": "\0"}), "spec.environment['A']"),
        (make(working_directory="tmp"), "spec.working_directory"),
        (make(stdin=b"x" * ((1 << 20) + 1)), "spec.stdin"),
        (make(image="a b"), "spec.image"),
        (make(resources={"cpu_millis": -1}), "spec.resources.cpu_millis"),
        (make(resources={"gpu_type": "a100"}), "spec.resources.gpu_type"),
        (make(priority=1001), "spec.priority"),
        (make(queue_timeout={}), "spec.queue_timeout"),
        (make(start_timeout={"seconds": -1}), "spec.start_timeout"),
        (make(run_timeout={"seconds": 1, "nanos": -1}), "spec.run_timeout"),
        (make(run_timeout={"seconds": 366 * 86400}), "spec.run_timeout"),
        (make(cancel_grace={"seconds": -1}), "spec.cancel_grace"),
        (make(retry={"max_attempts": 101}), "spec.retry.max_attempts"),
        (make(retry={"on_causes": [99]}), "spec.retry.on_causes[0]"),
        (make(retry={"on_exit_codes": [0]}), "spec.retry.on_exit_codes[0]"),
        (make(retry={"on_causes": [wire.CAUSE_SIGNAL], "on_exit_codes": [3]}), "spec.retry.on_exit_codes"),
        (make(retry={"initial_backoff": {"seconds": -1}}), "spec.retry.initial_backoff"),
        (make(retry={"max_infrastructure_retries": -1}), "spec.retry.max_infrastructure_retries"),
        (make(providers=[""]), "spec.providers[0]"),
        (make(strategy=99), "spec.strategy"),
        (make(required_labels={"-": ""}), "spec.required_labels['-']"),
        (make(preferred_labels={"a": "-"}), "spec.preferred_labels['a']"),
        (make(region="x" * 64), "spec.region"),
        (make(log_budget_bytes=-1), "spec.log_budget_bytes"),
        (make(log_budget_bytes=1), "spec.log_budget_bytes"),
        (make(log_ttl={"seconds": -1}), "spec.log_ttl"),
        (make(tenant="A"), "spec.tenant"),
        (make(tenant="a" * 41), "spec.tenant"),
        (make(secrets=[{"name": "a"}]), "spec.secrets[0]"),
        (make(annotations={"a": "x" * (3 << 20)}), "spec"),
    ],
)
def test_what_is_wrong_is_named(spec: wire.JobSpec, field: str) -> None:
    """W38: bad input is refused by the name of its field."""
    assert field in [violation.field for violation in check_spec(spec)]


def test_a_cause_that_a_policy_can_not_act_on_is_refused() -> None:
    """W38: infrastructure's failures have a count of their own, and a job that has waited for too long has ended."""
    for value in wire.Cause.values():
        cause, policy = Cause(value), wire.RetryPolicy(max_attempts=3, on_causes=[value])
        found = check_spec(make(retry=policy))
        retry = decide_retry(policy, cause, 1, 0, 0)
        acts = retry is not None and not retry.infrastructure and cause not in ENDS
        assert [violation.field for violation in found] == ([] if acts else ["spec.retry.on_causes[0]"]), cause
    [told] = check_spec(make(retry={"on_causes": [wire.CAUSE_EVICTED]}))
    assert "max_infrastructure_retries" in told.description


def test_an_unknown_field_is_refused_by_its_number() -> None:
    """W38: what a newer client asks for is not dropped without a word."""
    spec = wire.JobSpec.FromString(make().SerializeToString() + b"\xfa\x3f\x01x")
    assert [violation.field for violation in check_spec(spec)] == ["spec.1023"]


def test_all_violations_are_told_at_once() -> None:
    """A user mends a job once, not field by field."""
    assert len(check_spec(make(priority=5000, tenant="A", working_directory="x"))) == 3


def test_a_refusal_says_what_must_be_and_not_that_it_is() -> None:
    """Who reads "is absolute" of a path takes it for what is the case."""
    found = check_spec(make(priority=5000, working_directory="x", run_timeout={}, retry={"on_causes": [99]}))
    assert [violation.description for violation in found] == [
        "must be absolute",
        "must lie between -1000 and 1000",
        "must be longer than nothing",
        "must be a cause that can be retried",
    ]
