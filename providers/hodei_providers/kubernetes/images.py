"""What is known of images, from what became of pods: whether they run as their own user."""

from __future__ import annotations

#: Images that are remembered at most, the newest.
KEPT = 1000


class Images:
    """Remembers images for as long as the process lives; a tag may be given to another one later."""

    def __init__(self) -> None:
        self._own: dict[str, bool] = {}

    def learn(self, image: str, *, own: bool) -> None:
        """Note whether an image runs as its own user."""
        self._own.pop(image, None)
        self._own[image] = own
        while len(self._own) > KEPT:
            del self._own[next(iter(self._own))]

    def own(self, image: str) -> bool | None:
        """Return whether an image runs as its own user; None where that is not known yet."""
        return self._own.get(image)
