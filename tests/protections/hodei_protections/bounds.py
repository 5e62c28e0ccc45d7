"""What may be under way at once: streams, watches, calls, and what one call does."""

from __future__ import annotations

from hodei_protections.protection import Protection

SERVER = "tests/integration/server"

BOUNDS: tuple[Protection, ...] = (
    Protection(
        "L08",
        "log streams have a bound per job and per client, answered with RESOURCE_EXHAUSTED",
        "server/hodei_server/rpc/open_streams.py",
        "            if self._open[bound.kind, bound.name] >= bound.most:",
        "            if bound.most < 0:",
        f"{SERVER}/test_services.py::test_open_streams_have_a_bound",
        "no error is raised",
    ),
    Protection(
        "L08",
        "the streams of one client count together, whatever their jobs",
        "server/hodei_server/rpc/log_service.py",
        "return self._open.counted(of_all, of_client, *of_job)",
        "return self._open.counted(of_all, *of_job)",
        f"{SERVER}/test_services.py::test_open_streams_have_a_bound[client]",
        "the client opens one more",
    ),
    Protection(
        "L08",
        "pruning counts as a log stream, and all log streams together have a bound",
        "server/hodei_server/rpc/log_service.py",
        '        with self._counted("", peer_of(context)):\n',
        "        with contextlib.nullcontext():\n",
        f"{SERVER}/test_services.py::test_pruning_counts_as_a_log_stream",
        "no error is raised",
    ),
    Protection(
        "L08",
        "calls under way have a bound, refused with RESOURCE_EXHAUSTED and RetryInfo",
        "server/hodei_server/rpc/calls.py",
        "        if unary and self.under_way >= self._most:\n",
        "        if self.under_way < 0:\n",
        f"{SERVER}/test_calls.py::test_calls_beyond_the_bound_are_refused_and_a_client_makes_them_again",
        "no call is refused",
    ),
    Protection(
        "L08",
        "a client makes a call again that was one too many",
        "client/hodei_client/connection.py",
        "                again = monotonic() - began < CALL_SECONDS\n",
        "                again = False\n",
        f"{SERVER}/test_calls.py::test_calls_beyond_the_bound_are_refused_and_a_client_makes_them_again",
        "the client's call fails",
    ),
    Protection(
        "L08",
        "a call counts until gRPC is done with it, however it ends",
        "server/hodei_server/rpc/calls.py",
        "        self.under_way -= unary\n",
        "",
        f"{SERVER}/test_calls.py::test_a_call_that_is_given_up_makes_room",
        "calls are refused for ever",
    ),
    Protection(
        "L08",
        "the requests of the calls under way have a bound in bytes",
        "server/hodei_server/rpc/calls.py",
        "        if self._bytes + size > self._most_bytes:\n",
        "        if self._bytes < 0:\n",
        f"{SERVER}/test_calls.py::test_the_requests_of_calls_under_way_have_a_bound_in_bytes",
        "none is refused",
    ),
    Protection(
        "L08",
        "calls of which the request does not come have one, too",
        "server/hodei_server/rpc/listener.py",
        "maximum_concurrent_rpcs=most",
        "maximum_concurrent_rpcs=None",
        f"{SERVER}/test_calls.py::test_calls_of_which_the_request_does_not_come_have_a_bound",
        "none is refused",
    ),
    Protection(
        "L08",
        "watches of jobs have a bound, too, in all and per client",
        "server/hodei_server/rpc/job_service.py",
        "        with self._watches.counted(*bounds):\n",
        "        with self._watches.counted():\n",
        f"{SERVER}/test_services.py::test_open_watches_have_a_bound",
        "no error is raised",
    ),
    Protection(
        "L09",
        "one call for a page of a log looks through a part of it, whatever it is asked for",
        "server/hodei_server/rpc/log_page.py",
        "    while scanned < SCAN_BYTES:\n",
        "    while scanned >= 0:\n",
        f"{SERVER}/test_services.py::test_a_page_of_a_stream_that_says_little_comes_back_short_and_its_token_goes_on",
        "the first page has the line",
    ),
)
