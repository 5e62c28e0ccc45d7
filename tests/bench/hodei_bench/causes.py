"""Where the time goes where an aim is not reached, and what would be needed; by the beginning of a figure's name.

Figures that a run makes have no place here: they are in the tables.
"""

from __future__ import annotations

CAUSES = {
    "jobs.finished": """
        A job costs processor time: the rows `processor-…`, and by part of the code the profile
        [`jobs`](performance/profile.md#jobs). They make seven to eight tenths of what two processors have; what the
        rest goes to was not told apart (the kernel's own threads, the disk, turns in which one processor has nothing to
        do). 500 jobs a second on two processors leave 4 ms to each, for server, worker, client and the job's own
        process together. Of the time that the server runs Python (sampled on 2026-11-29), the event loop's thread has
        three fifths: two fifths of that are gRPC's and the loop's own (each job is a call, three tasks of gRPC's and
        some twenty turns of the loop), a good quarter the messages of workers, two to a worker and one or two from it,
        a tenth the submission. A quarter of the time is the thread's that writes the database: some sixteen statements
        for each job, a third of it to give jobs out, as much to end them. The rest is mostly the log: a file of its own
        for each job, which is made, written, synced with its folder and renamed. Of the workers' share a third is the
        job's own process, the rest its start, pipes and messages. More would need fewer messages (submissions in
        batches, several jobs in one message to a worker), the logs of short jobs together in one file, an end that
        moves a job and its attempt once and not three times, several server processes on one database, or a server that
        is not Python.
    """,
    "latency.": """
        By the profile [`latency`](performance/profile.md#latency) a good two fifths of one job's time are processor
        time; the rest is steps that wait for each other: with nothing to share a transaction with each has its own, so
        there are several commits and syncs, several wake-ups of threads and processes, and three calls of the client's
        (submit, follow, wait). Less would need fewer steps that are durable each by itself. The aim is in milliseconds,
        and machines differ: on one where fork and exec alone take 0.7 ms a job took 11 to 13 (2026-11-25).
    """,
    "line.": """
        A line passes the job's pipe, the worker, the server's disk (it is durable before it is shown) and the follower:
        two gRPC messages and one sync. The profile [`line`](performance/profile.md#line) tells what each costs; it is
        less than the time a line takes, and the rest is waiting for the disk and for a free processor.
    """,
    "log.": """
        Processor time, which the profile [`log`](performance/profile.md#log) tells by part of the code (its shares: the
        machine that it was made on was faster): beyond the two hops that the limit takes, the worker reads pipes and
        numbers chunks, both ends and the client sum them up, and the server writes each block to the disk and syncs it
        before it sends it on, and compresses segments that are whole. On two processors four processes share the time
        that the bare relay has for itself. Less would need fewer copies than Python's gRPC makes, or no checksum of all
        bytes, which is a tenth. The limit's messages have 64 KiB, as the aim was set by them; in messages as large as a
        worker's blocks (512 KiB) the bare hops take less than half of that (the row `lines-in-blocks`), since a message
        costs gRPC more than its bytes do.
    """,
    "log-cli.": """
        The command's own start and end, which the row `its-start` tells (`hodei run -- true`), are part of it: Python
        and gRPC (see the command line below), a job and its end. Without them the ratio is that of `beyond-its-start`.
    """,
    "many.": """
        The ratio of the rates is that of the processor time: the profile [`many`](performance/profile.md#many) beside
        [`many-one`](performance/profile.md#many-one), the same lines by one job. What one job sends in large blocks
        comes in many small ones: more goes into the system's work (messages, syncs of a hundred files) and into gRPC's
        core in the server and in a hundred workers, each of which wakes up for a little. Less would need one process
        for many workers, or a log store with fewer files.
    """,
    "compression.": """
        gzip runs in gRPC, for each follower anew: the row of gRPC's Python side in the profile
        [`compression`](performance/profile.md#compression), beside that of [`log`](performance/profile.md#log).
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
    "archive.upload": """
        Beyond the put that the limit takes, each segment is read and compared before it goes, S3 is asked for it before
        and after, it is named in the manifest and noted in the database in two commits, and leaves the disk.
    """,
    "archive.": """
        Beyond the get and the unpacking, which the limit takes one after the other and a reader at once, each frame is
        compared with its CRC-32 and cut into blocks; on the way to a client each block goes through gRPC, and both ends
        share two processors with the S3 server, which is on the same machine; the client sums all bytes up.
    """,
    "by-time.first-line": """
        Most of it is the command's own start (see the command line above); the rest is the index, which is read from
        the end of the first segment, and that segment's first frames: neither grows with the log.
    """,
    "by-time.": """
        A frame of 256 KiB is the least that is read, for the begin, for the end, and for what lies between.
    """,
    "cli.help": """
        Python's own start, and the library that reads the command line; gRPC is not imported.
    """,
    "cli.": """
        Most of it is the start of Python and the import of gRPC, which the limit shows; the rest are the command's own
        modules, the connection, and for `run` the job itself.
    """,
    "decisions-postgresql.": """
        A third of a decision are the inserts of attempts, events, segments, workers and decisions, which reach the
        database's processes row by row, though in one call for each table and look; more than a third is the choice
        with its record. The UPDATE that moves all jobs of a look at once is a fifteenth (cProfile, 2026-11-30; with one
        for each job it was two fifths). The database's processes share the two processors. On SQLite the same steps are
        calls within the process. More would need inserts of all rows of a look by one statement, too. Something else
        ran beside this bench (its load is told there): what the two lengths of a queue differ by is noise.
    """,
    "decisions-stored.": """
        Processor time: a third is the choice, a tenth its record, a quarter SQLite's statements, a fifth what each look
        costs once, above all reading which workers there are (cProfile, 2026-11-30); then the commit.
    """,
    "docker.warm": """
        No container is made for it: it costs what a job on a warm worker costs anywhere (see one job at a time above),
        and the engine's network between worker and server. That aim is in milliseconds, too.
    """,
    "docker.": """
        Processors, not waiting: both runs keep them busy, so what counts is the processor time of a container (the
        profiles [`docker`](performance/profile.md#docker) and [`docker-peer`](performance/profile.md#docker-peer), and,
        measured on 2026-11-25 on two busy processors, by the kernel's counters; medians). The engine's daemons use 118
        ms for a container of the peer, and its Python 54 ms; the rest, runc and the shim, is the same for both. For one
        of Hodei's the daemons use 158 to 178 ms: about 20 ms more for the two volumes (the working directory's is
        filled with what the image has there), and 33 ms for the token's archive, for which the engine starts itself
        anew to unpack it. Limits, the read-only root, dropped capabilities and the engine's log cost nothing that could
        be told from noise, and twelve calls of the API no more than their few milliseconds. In the container the agent
        has used 86 ms when its job's process reads the counter: 22 ms more imports, then TLS, registration, the stream
        and the job's start; its end costs 6 ms more. The server uses 21 ms for each job, the client 2 ms. That makes
        about 110 ms on top of some 300. Nearer to the peer would need an engine that takes files in the call that makes
        a container, one volume for both folders (subpaths, in engines from 26 on), and an agent with less Python. A
        pool of warm containers has paid all of this before the job comes.
    """,
    "idle.": """
        Both sides ping on the stream of each worker, so that a dead connection is noticed within seconds. That is what
        an idle worker costs; a longer `HODEI_PING_INTERVAL` makes it less.
    """,
}
