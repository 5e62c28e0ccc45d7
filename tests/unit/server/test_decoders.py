"""What the server reads from strangers: tokens, times, specifications, blocks."""

from __future__ import annotations

import contextlib
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from hodei.v1 import job_pb2, log_pb2
from hodei.v1 import log_pb2 as log_wire
from hodei.v1 import types_pb2 as wire
from hodei_logstore.block import BlockError, chunks_of, make_block, parse_block
from hodei_server.db.jobs import duration_micros
from hodei_server.domain.candidates import Candidate
from hodei_server.domain.errors import InvalidRequestError
from hodei_server.domain.retry import decide_retry
from hodei_server.domain.spec import MAX_SECONDS, check_spec
from hodei_server.domain.states import Cause
from hodei_server.domain.strategies import rank
from hodei_server.rpc.requests import PageTokens, micros, page_size, parse_place

SETTINGS = settings(deadline=None, print_blob=True)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.sampled_from([0, 1, -1, 999_999_999, 1_000_000_000, -999_999_999])
DURATIONS = st.builds(Duration, seconds=NUMBERS | INT64, nanos=NUMBERS | INT32)
TEXT = st.text(max_size=10)
SPECS = st.builds(
    wire.JobSpec,
    name=TEXT,
    argv=st.lists(TEXT, max_size=2),
    labels=st.dictionaries(TEXT, TEXT, max_size=2),
    environment=st.dictionaries(TEXT, TEXT, max_size=2),
    working_directory=TEXT,
    priority=NUMBERS | INT32.filter(lambda number: abs(number) < 2**31),
    queue_timeout=st.none() | DURATIONS,
    run_timeout=st.none() | DURATIONS,
    cancel_grace=st.none() | DURATIONS,
    log_ttl=st.none() | DURATIONS,
    retry=st.builds(
        wire.RetryPolicy,
        max_attempts=st.integers(-1, 101),
        max_infrastructure_retries=st.none() | st.integers(-1, 101),
        initial_backoff=st.none() | DURATIONS,
        max_backoff=st.none() | DURATIONS,
        on_causes=st.lists(st.integers(-1, 20), max_size=2),
        on_exit_codes=st.lists(st.integers(-1, 256), max_size=2),
    ),
    strategy=st.integers(-1, 7),
    resources=st.builds(wire.Resources, cpu_millis=INT64, gpu_count=st.integers(-1, 2), gpu_type=TEXT),
    log_budget_bytes=INT64,
    tenant=TEXT,
)


@given(st.text() | st.binary().map(lambda data: data.hex()), st.text(max_size=5))
def test_any_text_is_a_page_token_or_refused(text: str, name: str) -> None:
    """W38: a token that was not given out is named, not guessed at."""
    tokens = PageTokens(job_pb2.ListJobsRequest(name=name))
    with contextlib.suppress(InvalidRequestError):
        assert tokens.decode(text) == ""
    with contextlib.suppress(InvalidRequestError):
        assert 0 <= parse_place(text) < 2**63


@given(st.from_regex(r"[!-~]+", fullmatch=True), st.text(max_size=5), st.text(max_size=5))
def test_a_page_token_goes_on_with_its_own_question_only(place: str, name: str, other: str) -> None:
    """Whatever the place is called; the size of the page may change."""
    token = PageTokens(job_pb2.ListJobsRequest(name=name, page_size=1)).encode(place)
    assert PageTokens(job_pb2.ListJobsRequest(name=name, page_size=2, page_token=token)).decode(token) == place
    if other != name:
        with contextlib.suppress(InvalidRequestError):
            PageTokens(job_pb2.ListJobsRequest(name=other)).decode(token)
            raise AssertionError("it was taken")


@given(st.integers(0, 2**63 - 1))
def test_a_place_in_a_log_comes_back_as_it_was_given_out(sequence: int) -> None:
    """L04: exactly."""
    tokens = PageTokens(log_pb2.GetLogsRequest(job_id="job"))
    assert tokens.decode_number(tokens.encode(str(sequence))) == sequence


@given(NUMBERS | INT64, NUMBERS | INT32)
def test_any_time_is_read_or_refused(seconds: int, nanos: int) -> None:
    """Nothing else ever comes of it."""
    with contextlib.suppress(InvalidRequestError):
        assert abs(micros("time", Timestamp(seconds=seconds, nanos=nanos))) < 2**63
    with contextlib.suppress(InvalidRequestError):
        assert 1 <= page_size(nanos, default=50, most=1000) <= 1000


#: Now and then one of these is out of bounds; mostly all are within.
BOUNDED = st.none() | st.builds(
    Duration,
    seconds=st.sampled_from([0, 1, 60, 3600, MAX_SECONDS, 1 << 40]),
    nanos=st.sampled_from([0, 1, 999_999_999]),
)
LIKELY = st.builds(
    wire.JobSpec,
    argv=st.just(["true"]),
    queue_timeout=BOUNDED,
    run_timeout=BOUNDED,
    cancel_grace=BOUNDED,
    log_ttl=BOUNDED,
    retry=st.builds(
        wire.RetryPolicy,
        max_attempts=st.integers(0, 100),
        initial_backoff=BOUNDED,
        max_backoff=BOUNDED,
        on_causes=st.lists(st.integers(1, 15), max_size=2),
    ),
    strategy=st.integers(0, 6),
)


@SETTINGS
@given(LIKELY, st.sampled_from(list(Cause)), st.integers(0, 99))
def test_a_specification_that_is_taken_can_be_honoured(spec: wire.JobSpec, cause: Cause, before: int) -> None:
    """W38, W40: what passes the rules is within the bounds of everything that works with it."""
    if check_spec(spec):
        return
    assert wire.JobSpec.FromString(spec.SerializeToString(deterministic=True)) == spec
    for name in ("queue_timeout", "run_timeout", "cancel_grace", "log_ttl"):
        if spec.HasField(name):
            least = 0 if name == "cancel_grace" else 1
            assert least <= duration_micros(getattr(spec, name)) <= (MAX_SECONDS + 1) * 1_000_000
    retry = decide_retry(spec.retry, cause, 1, before, before)
    bound = spec.retry.max_backoff
    longest = bound.seconds + bound.nanos / 1e9 if spec.retry.HasField("max_backoff") else 300
    assert retry is None or 0 <= retry.delay <= longest
    assert len(rank(spec, [Candidate("a", enabled=True, healthy=True, held=0, max_workers=1)], "lowest-cost")) == 1


@SETTINGS
@given(SPECS, st.data())
def test_a_damaged_specification_is_no_message_or_judged(spec: wire.JobSpec, data: st.DataObject) -> None:
    """W38: its rules never fail, whatever was decoded."""
    encoded = bytearray(spec.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(encoded)))
        encoded[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=4))
    try:
        damaged = wire.JobSpec.FromString(bytes(encoded))
    except DecodeError:
        return
    assert all(violation.field.startswith("spec") for violation in check_spec(damaged))


@SETTINGS
@given(
    chunks=st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 2**40)), min_size=1, max_size=5),
    first=st.sampled_from([0, 1, 127, 128, 2**32, 2**62]),
    data=st.data(),
)
def test_a_damaged_block_is_refused_or_told_of_as_it_is(
    chunks: list[tuple[bytes, int]], first: int, data: st.DataObject
) -> None:
    """L04, L07: bytes changed, put in or taken out never give a block that is not what its figures say."""
    now = 0
    message = log_wire.LogBlock()
    for place, (content, later) in enumerate(chunks):
        now += later
        message.chunks.add(sequence=first + place, time_unix_nanos=now, stream=1 + place % 3, data=content)
    encoded = bytearray(message.SerializeToString())
    assert parse_block(bytes(encoded)).count == len(chunks)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(encoded)))
        encoded[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
    try:
        block = parse_block(bytes(encoded))
    except BlockError:
        return
    numbers = [chunk.sequence for chunk in chunks_of(block.data)]
    assert numbers == list(range(block.first_sequence, block.next_sequence))
    again: Any = make_block(chunks_of(block.data))
    for field in ("first_sequence", "count", "size", "lines", "first_time", "last_time", "checksum"):
        assert getattr(again, field) == getattr(block, field)
    assert len(again.data) == len(block.data) == len(encoded)
