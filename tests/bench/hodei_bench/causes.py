"""Where the time goes where an aim is not reached, and what would be needed; by the beginning of a figure's name.

Figures that a run makes have no place here: they are in the tables.
"""

from __future__ import annotations

CAUSES = {
    "jobs.finished": """
        A job costs processor time, not waiting: the rows `processor-…` say how much of it the server, the workers (with
        their jobs' processes) and the client use for each job, and a machine has no more of it than its processors. In
        the server it is gRPC's Python layer (a call for each submission, a few stream messages for each job), the
        statements of a job's moves, and its log's file. More would need fewer messages (submissions in batches, several
        jobs in one message to a worker), several server processes on one database, or a server that is not Python.
    """,
    "latency.": """
        A job is submitted, written down, given to a worker and run; its result and its log are written down before its
        end is told: commits of the database and a sync of the log one after the other, and half a dozen messages
        between three Python processes. On a busy machine each of these waits for a processor. Fewer syncs would need a
        log and a database in one journal.
    """,
    "line.": """
        A line passes the job's pipe, the worker, the server's disk (it is durable before it is shown) and the
        follower: two gRPC messages and one sync. The tail is the disk's, and that of a processor that is not free.
    """,
    "log.": """
        Beyond the two hops that the limit takes, the worker numbers the chunks and sums them up, the server parses each
        block once and has it on the disk before it sends it on, and the client checks the sums. On two processors these
        four processes share the time that the bare relay has for itself; the rows `processor-…` say how much of it each
        uses for all lines (the worker's with the job's own process).
    """,
    "log-cli.": """
        The command's own start (Python and gRPC, see the command line below) is part of it, and the job's end is
        waited for after the log's.
    """,
    "many.": """
        A hundred workers and followers share two processors: what one job sends in large blocks comes in many small
        ones, each with its own message, sync and acknowledgement. This is from reading the code; it was not profiled.
    """,
    "compression.": """
        gzip in gRPC's core runs in the server's own process, for each follower anew.
    """,
    "history.": """
        What the database does for each of these does not grow (a test counts its steps with few and with many jobs).
        What is left are pages of deeper indexes, which are read from the disk the first time they are needed, and the
        noise of questions that take two or three milliseconds.
    """,
    "seek.": """
        The place is found by the index at the end of the segment, so what is read does not grow with the log. What is
        left is the noise of a question that takes a few milliseconds, most of them the call's own.
    """,
    "cli.help": """
        Python's own start, and the library that reads the command line; gRPC is not imported.
    """,
    "cli.": """
        Most of it is the start of Python and the import of gRPC, which the limit shows; the rest are the command's own
        modules, the connection, and for `run` the job itself.
    """,
    "docker.": """
        Processors, not waiting: both runs keep them busy, so what counts is the processor time of a container (measured
        on 2026-11-25 on two busy processors, by the kernel's counters; medians). The engine's daemons use 118 ms for a
        container of the peer, and its Python 54 ms; the rest, runc and the shim, is the same for both. For one of
        Hodei's the daemons use 158 to 178 ms: about 20 ms more for the two volumes (the working directory's is filled
        with what the image has there), and 33 ms for the token's archive, for which the engine starts itself anew to
        unpack it. Limits, the read-only root, dropped capabilities and the engine's log cost nothing that could be
        told from noise, and twelve calls of the API no more than their few milliseconds. In the container the agent has
        used 86 ms when its job's process reads the counter: 22 ms more imports, then TLS, registration, the stream and
        the job's start; its end costs 6 ms more. The server uses 21 ms for each job, the client 2 ms. That makes about
        110 ms on top of some 300. Nearer to the peer would need an engine that takes files in the call that
        makes a container, one volume for both folders (subpaths, in engines from 26 on), and an agent with less Python.
        A pool of warm containers has paid all of this before the job comes.
    """,
    "idle.": """
        Both sides ping on the stream of each worker, so that a dead connection is noticed within seconds. That is what
        an idle worker costs; a longer `HODEI_PING_INTERVAL` makes it less.
    """,
}
