"""What a provider may raise, and nothing else.

ProviderError                  something went wrong; `retryable` says whether trying again may help
├── ProviderUnavailableError   the infrastructure can't be reached or is overloaded: wait and try again
├── QuotaExceededError         there is no room now: wait and try again
├── LaunchRejectedError        this worker can never be launched as asked (an invalid request)
│   └── ImageRejectedError     its image is not there, or may not be had
└── UnsupportedRequestError    the provider can't honour a field; `field` names it
"""

from __future__ import annotations


class ProviderError(Exception):
    """A provider could not do what it was asked.

    :param message: one sentence for people.
    :param retryable: whether the same call may succeed later.
    :ivar retry_after: for how many seconds the infrastructure asked to be left alone; after a launch that fails so,
        none is tried there until they are over.
    """

    retryable: bool = True
    retry_after: float = 0.0

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable


class ProviderUnavailableError(ProviderError):
    """The infrastructure can't be reached or is overloaded."""


class QuotaExceededError(ProviderError):
    """The infrastructure has no room for another worker now."""


class LaunchRejectedError(ProviderError):
    """The worker can never be launched as asked."""

    retryable = False


class ImageRejectedError(LaunchRejectedError):
    """The worker's image is not there, or may not be had; trying again can't heal that."""


class UnsupportedRequestError(ProviderError):
    """The provider can't honour a field of the request.

    :param field: the field's path in `JobSpec`, such as ``resources.gpu_count``.
    """

    retryable = False

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
