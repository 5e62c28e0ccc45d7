"""A picture of how long jobs waited, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

#: When a job was submitted and how long it waited, in seconds.
Waits = Sequence[tuple[float, float]]


def picture(one_queue: Waits, fair: Waits) -> str:
    """Return the waits of a tenant's jobs over time, once in one queue for all, once in a queue of its own."""
    width, height = 640, 240
    shown = [(one_queue, "#c0392b"), (fair, "#2471a3")]
    most_x = max(submitted for submitted, _ in fair)
    most_y = max(waited for waits, _ in shown for _, waited in waits)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12">',
        '<g font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M50 10V210H{width - 10}" fill="none" stroke="#555"/>',
        f'<text x="4" y="16">{most_y:.0f} s</text><text x="30" y="210">0</text>',
        '<text x="50" y="230">submitted after 0 s</text>',
        f'<text x="{width - 10}" y="230" text-anchor="end">{most_x:.0f} s</text>',
        '<text x="330" y="24" fill="#c0392b">one queue for all</text>',
        '<text x="330" y="40" fill="#2471a3">a queue for each tenant, by what it has</text>',
    ]
    for waits, colour in shown:
        points = " ".join(
            f"{50 + submitted / most_x * (width - 60):.0f},{210 - waited / most_y * 200:.0f}"
            for submitted, waited in sorted(waits)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "\n".join([*lines, "</g></svg>"]) + "\n"
