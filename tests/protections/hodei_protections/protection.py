"""One protection: where it stands in the code, what the code is without it, and the test that notices."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Protection:
    """Keeps one promise, or has a part in it.

    :param id: of the failure mode it stands against.
    :param promise: what holds while it is there.
    :param file: from the project's root.
    :param present: lines that are found in the file once.
    :param absent: what takes their place when the protection is taken out.
    :param test: as pytest takes it.
    :param fails: how that test fails then, for people.
    :param needs: a variable without which the test is skipped.
    """

    id: str
    promise: str
    file: str
    present: str
    absent: str
    test: str
    fails: str
    needs: str = ""
