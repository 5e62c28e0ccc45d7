"""Takes values out of a job that is submitted, and gives them to the worker that runs it."""

from __future__ import annotations

import asyncio

from hodei.v1 import types_pb2 as wire
from hodei_server.db.database import Database
from hodei_server.db.secrets import kept_secrets
from hodei_server.domain.errors import InvalidRequestError, PreconditionError, Violation
from hodei_server.domain.secrets import (
    Sealed,
    SecretError,
    check_values,
    target_of,
    without_values,
    wrong_in_value,
)
from hodei_server.secrets.keys import SecretKeys
from hodei_server.secrets.sources import ServerSources


class JobSecrets:
    """The secrets of all jobs.

    :param keys: None where no values are kept.
    """

    def __init__(self, database: Database, keys: SecretKeys | None, sources: ServerSources) -> None:
        self._database = database
        self._keys = keys
        self._sources = sources

    async def check(self, spec: wire.JobSpec) -> None:
        """Refuse a job whose values can't be kept, or whose references can't be had now.

        :param spec: one in which nothing is wrong by itself.
        :raise PreconditionError: there is no key to keep a value under.
        :raise InvalidRequestError: names a reference that can't be had, or whose value can't be used.
        """
        inline = [secret.name for secret in spec.secrets if secret.HasField("value")]
        if inline and self._keys is None:
            raise PreconditionError(
                f"spec.secrets: values ({', '.join(inline)}) can't be kept, as the server has no HODEI_SECRETS_KEY_FILE"
            )
        if spec.secrets:
            await asyncio.to_thread(self._try_references, spec)

    def take(self, job_id: str, spec: wire.JobSpec, retry_of: str) -> tuple[wire.JobSpec, Sealed | None]:
        """Return a job without the values of its secrets, and these as they are kept: not at all where there is no key.

        :param spec: one in which nothing is wrong by itself; `check` refuses it where its values can't be kept.
        """
        inline = [secret for secret in spec.secrets if secret.HasField("value")]
        if not inline:
            return spec, None
        if self._keys is None:
            return without_values(spec), Sealed(b"", b"", [])
        asked = retry_of.encode() + b"\0" + spec.SerializeToString(deterministic=True)
        values = wire.JobSpec(secrets=inline).SerializeToString()
        return without_values(spec), self._keys.seal(job_id, values, asked)

    def _try_references(self, spec: wire.JobSpec) -> None:
        violations: list[Violation] = []
        values: list[bytes] = []
        for place, secret in enumerate(spec.secrets):
            source = secret.WhichOneof("source") or "value"
            value = secret.value
            if source != "value":
                field = f"spec.secrets[{place}].{source}"
                try:
                    value = self._sources.read(secret)
                except SecretError as error:
                    violations.append(Violation(field, str(error)))
                    continue
                violations += [Violation(field, f"names what {wrong}") for wrong in wrong_in_value(secret, value)]
            values.append(value)
        violations += check_values("spec.secrets", values)
        if violations:
            raise InvalidRequestError(violations)

    async def of(self, job_id: str, spec: wire.JobSpec) -> list[wire.Secret]:
        """Return a job's secrets as its worker is to have them: each with its value and its target.

        :raise SecretError: one can't be had any more.
        """
        kept: dict[str, bytes] = {}
        if any(secret.WhichOneof("source") is None for secret in spec.secrets):
            kept = await self._kept(job_id)
        return await asyncio.to_thread(lambda: [self._with_value(secret, kept) for secret in spec.secrets])

    async def _kept(self, job_id: str) -> dict[str, bytes]:
        row = await self._database.read(lambda tx: kept_secrets(tx, job_id))
        if row is None or self._keys is None:
            why = "they are not there any more" if row is None else "the server has no HODEI_SECRETS_KEY_FILE"
            raise SecretError(f"The values of the job's secrets can't be read: {why}")
        try:
            values = self._keys.open(job_id, row["key_id"], row["data"])
        except SecretError as error:
            raise SecretError(f"The values of the job's secrets can't be read: {error}") from None
        return {secret.name: secret.value for secret in wire.JobSpec.FromString(values).secrets}

    def _with_value(self, secret: wire.Secret, kept: dict[str, bytes]) -> wire.Secret:
        value = kept.get(secret.name, b"")
        if secret.WhichOneof("source") is not None:
            named = secret.server_file or secret.server_variable
            try:
                value = self._sources.read(secret)
            except SecretError as error:
                raise SecretError(f"The secret {secret.name} can't be had: {named} {error}") from None
            for wrong in wrong_in_value(secret, value):
                raise SecretError(f"The secret {secret.name} can't be used: what {named} names {wrong}")
        elif not value:
            raise SecretError(f"The value of the secret {secret.name} was not kept")
        kind, target = target_of(secret)
        if kind == "file":
            return wire.Secret(name=secret.name, value=value, file=target)
        return wire.Secret(name=secret.name, value=value, variable=target)
