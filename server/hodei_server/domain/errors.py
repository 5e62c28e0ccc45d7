"""What the server refuses, and why. `hodei_server.rpc.errors` gives each its status on the wire.

HodeiServerError
├── InvalidRequestError      fields that can't be taken; all of them at once
├── NotFoundError            there is no such thing
├── ConflictError            it is there already, and another one
├── PreconditionError        not in this state, or not with this installation
├── UnauthenticatedError     nobody we know
├── PermissionDeniedError    somebody we know, but not for this
├── ResourceExhaustedError   a limit is reached; try again later
│   └── TooManyCallsError    as many calls are under way as may be; nothing was done of this one
└── UnavailableError         not now; try again later
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field.

    :param field: its path in the request.
    :param description: goes on after the field's name: "is not negative".
    """

    field: str
    description: str


class HodeiServerError(Exception):
    """The server refuses something.

    :ivar reason: a constant that programs can act on.
    """

    reason = "REFUSED"


class InvalidRequestError(HodeiServerError):
    """Fields that can't be taken."""

    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{each.field} {each.description}" for each in self.violations))


class NotFoundError(HodeiServerError):
    """There is no such thing."""

    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name}")


class ConflictError(HodeiServerError):
    """It is there already, and another one."""

    reason = "CONFLICT"


class PreconditionError(HodeiServerError):
    """Not in this state, or not with this installation."""

    reason = "FAILED_PRECONDITION"


class UnauthenticatedError(HodeiServerError):
    """Nobody we know."""

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(HodeiServerError):
    """Somebody we know, but not for this."""

    reason = "PERMISSION_DENIED"


class ResourceExhaustedError(HodeiServerError):
    """A limit is reached.

    :param retry_after: seconds until it may be worth trying again.
    """

    reason = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyCallsError(ResourceExhaustedError):
    """As many calls are under way as may be. Those take moments: asking again at once is what a caller should do."""

    reason = "TOO_MANY_CALLS"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=0.1)


class UnavailableError(HodeiServerError):
    """Not now.

    :param retry_after: seconds until it may be worth trying again.
    """

    reason = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
