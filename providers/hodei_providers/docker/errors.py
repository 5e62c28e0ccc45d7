"""What the engine and the way to it answer when something is wrong, as the contract's errors: one function."""

from __future__ import annotations

import json
import re

import aiodocker
import aiohttp

from hodei_providers.contract import (
    LaunchRejectedError,
    ProviderError,
    ProviderUnavailableError,
    QuotaExceededError,
    UnsupportedRequestError,
)

#: What can be raised by a call of the engine's API.
FOREIGN = (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError, json.JSONDecodeError)

#: What the library calls an engine that it can't connect to.
NOT_CONNECTED = 900
#: What the engine answers where it can't give what the job asked for, and which field that is.
_FIELDS = (
    (re.compile(r"device driver.*gpu|could not select device", re.IGNORECASE), "resources.gpu_count"),
    (re.compile(r"storage-opt|pquota", re.IGNORECASE), "resources.disk_bytes"),
    (re.compile(r"range of cpus|nanocpus", re.IGNORECASE), "resources.cpu_millis"),
    (re.compile(r"minimum memory limit", re.IGNORECASE), "resources.memory_bytes"),
)
#: What an engine answers that is just ending, in any words beside these.
_ENDING = re.compile(r"failed to update store|database not open|shutting down", re.IGNORECASE)
#: What is gone since it was looked at, and is made or fetched again; and what the machine has too little of just now.
_PASSING = re.compile(
    r"no such (container|image)|resource temporarily unavailable|cannot allocate memory|too many open files"
    r"|device or resource busy|text file busy|is already in progress|context deadline exceeded",
    re.IGNORECASE,
)
#: What no repetition heals: the container can't be started with this image or these settings.
_HOPELESS = re.compile(
    r"oci runtime|executable file not found|no such file or directory|unknown or invalid runtime|unable to find user",
    re.IGNORECASE,
)


def provider_error(error: BaseException, doing: str) -> ProviderError:
    """Return the contract's error for one of `FOREIGN`.

    :param doing: what was done, to begin the sentence with: ``starting the container``.
    """
    if not isinstance(error, aiodocker.DockerError):
        words = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            words = "the engine did not answer in time"
        return ProviderUnavailableError(f"{doing}: the engine can't be reached: {words}")
    message, status = " ".join(str(error.message).split()), int(error.status)
    text = f"{doing}: {message}"
    if status == NOT_CONNECTED or _ENDING.search(message):
        return ProviderUnavailableError(text)
    for pattern, field in _FIELDS:
        if pattern.search(message):
            return UnsupportedRequestError(field, text)
    if status in {429, 507} or "no space left" in message.lower():
        return QuotaExceededError(text)
    if _PASSING.search(message):
        return ProviderUnavailableError(text)
    if _HOPELESS.search(message) or status in {400, 404, 422}:
        return LaunchRejectedError(text)
    if status >= 500 or status in {0, 408, 409}:
        return ProviderUnavailableError(text)
    return ProviderError(text, retryable=False)


def is_status(error: BaseException, *statuses: int) -> bool:
    """Whether an error is an answer of the engine with one of some statuses."""
    return isinstance(error, aiodocker.DockerError) and int(error.status) in statuses
