"""Protections of secrets: out of the log, out of what is kept, gone at the end (L23)."""

from __future__ import annotations

from hodei_protections.protection import Protection

REDACTION = "tests/unit/worker/test_redaction.py"
OUTPUT = "tests/unit/worker/test_output.py"
FILES = "tests/unit/worker/test_secret_files.py"
KEPT = "tests/integration/db/test_secrets.py"
SERVER = "tests/integration/server/test_secrets.py"
REFUSALS = "tests/integration/server/test_secret_refusals.py"

SECRETS: tuple[Protection, ...] = (
    Protection(
        "L23",
        "what may be the beginning of a secret is held back until what follows decides",
        "worker/hodei_worker/redaction.py",
        "        return self._give(data, max(undecided, len(self._before)), spans)\n",
        "        return self._give(data, max(undecided, len(data)), spans)\n",
        f"{REDACTION}::test_what_may_be_the_beginning_of_a_secret_is_held_until_it_is_decided",
        "the secret's first half is in the log, and so is the second",
    ),
    Protection(
        "L23",
        "base64 is found wherever the secret begins in what was encoded",
        "worker/hodei_worker/encodings.py",
        "    for before, shared in ((0, 0), (1, 2), (2, 3)):\n",
        "    for before, shared in ((0, 0),):\n",
        f"{REDACTION}::test_base64_is_found_wherever_the_secret_begins_in_it",
        "behind one byte, or two, the secret's base64 is not found",
    ),
    Protection(
        "L23",
        "base64 is found across the ends of its lines",
        "worker/hodei_worker/redaction.py",
        "        breaks = _breaks(data)\n",
        "        breaks: list[Span] = []\n",
        f"{REDACTION}::test_wrapped_base64_is_found",
        "a secret that a line ends in is not found",
    ),
    Protection(
        "L23",
        "every byte of a match is masked, where matches overlap, too",
        "worker/hodei_worker/redaction.py",
        "            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))\n",
        "            pass\n",
        f"{REDACTION}::test_overlapping_matches_leave_nothing_between_them",
        "the end of the second secret is left",
    ),
    Protection(
        "L23",
        "each stream is redacted by itself",
        "worker/hodei_worker/output.py",
        "            self._redacted[descriptor] = RedactedStream(self._redaction)\n",
        "            shared = next(iter(self._redacted.values()), RedactedStream(self._redaction))\n"
        "            self._redacted[descriptor] = shared\n",
        f"{OUTPUT}::test_secrets_are_taken_out_of_each_stream_by_itself",
        "what one stream held back comes out of the other",
    ),
    Protection(
        "L23",
        "the worker's own words are redacted",
        "worker/hodei_worker/output.py",
        '        said = f"{self.redact(text)}\\n".encode()[:READ_BYTES]\n',
        '        said = f"{text}\\n".encode()[:READ_BYTES]\n',
        f"{SERVER}::test_what_the_worker_itself_says_is_redacted",
        "the program's name is in the log as it was",
    ),
    Protection(
        "L23",
        "a job's values are erased with the move that ends it",
        "server/hodei_server/db/events.py",
        '        if row["has_secrets"] and target.terminal:\n',
        '        if row["has_secrets"] and not target:\n',
        f"{KEPT}::test_the_move_that_ends_a_job_erases_the_values_of_its_secrets",
        "the ended job's values are still there",
    ),
    Protection(
        "L23",
        "values are bound to their job",
        "server/hodei_server/secrets/keys.py",
        "    return job_id.encode()\n",
        '    return b""\n',
        f"{KEPT}::test_values_are_bound_to_their_job_and_to_a_key_that_is_there",
        "another job's row is read as this job's",
    ),
    Protection(
        "L23",
        "what is stored and shown of a job has no values",
        "server/hodei_server/secrets/jobs.py",
        "        return without_values(spec), self._keys.seal(job_id, values, asked)\n",
        "        return spec, self._keys.seal(job_id, values, asked)\n",
        f"{SERVER}::test_secrets_reach_the_job_and_nothing_that_is_kept_or_shown",
        "the job's row has the value, and so has every answer about it",
    ),
    Protection(
        "L23",
        "the server gives nothing of its own that the operator has not named",
        "server/hodei_server/secrets/sources.py",
        '        if not fits or name.startswith("HODEI_"):\n',
        '        if name.startswith("HODEI_"):\n',
        f"{REFUSALS}::test_what_is_wrong_with_secrets_is_named_and_nothing_is_kept",
        "a job may have any variable of the server's",
    ),
    Protection(
        "L23",
        "a secret's file is not sought outside the folder that the operator names",
        "server/hodei_server/secrets/sources.py",
        "            if not file.is_relative_to(folder) or not file.is_file():\n",
        "            if not file.is_file():\n",
        f"{REFUSALS}::test_what_is_wrong_with_secrets_is_named_and_nothing_is_kept",
        "a link leads to a file elsewhere",
    ),
    Protection(
        "L23",
        "what a killed worker leaves of its job's secrets goes with it",
        "providers/hodei_providers/process/provider.py",
        "        if not remove_folder(memory_folder(worker_id)):\n",
        "        if not worker_id:\n",
        f"{SERVER}::test_what_a_killed_worker_leaves_in_memory_is_removed",
        "the file with the secret is still there",
    ),
    Protection(
        "L23",
        "a folder of secrets that the job has closed to its own user is removed",
        "proto/hodei/folders.py",
        "    _let_owner_write(folder, parent)\n",
        "",
        f"{FILES}::test_a_folder_of_secrets_that_the_job_has_made_read_only_is_removed",
        "the file with the secret is still in memory, for whoever runs there next",
    ),
)
