"""Values that make no sense, for every field of a message; made from its descriptor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from hodei_server.rpc.requests import PageTokens

Change = Callable[[Any], Any]

STRINGS = {"empty": "", "long": "x" * (1 << 20), "nul": "a\0b", "control": "a\x1bb", "unknown": "nosuchthing"}
INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: {"negative": -1, "least": -(1 << 31), "most": (1 << 31) - 1},
    FieldDescriptor.CPPTYPE_INT64: {"negative": -1, "least": -(1 << 63), "most": (1 << 63) - 1},
    FieldDescriptor.CPPTYPE_UINT32: {"most": (1 << 32) - 1},
    FieldDescriptor.CPPTYPE_UINT64: {"signed": 1 << 63, "most": (1 << 64) - 1},
}
VALUES: Mapping[int, Mapping[str, Any]] = {
    FieldDescriptor.CPPTYPE_STRING: STRINGS,
    FieldDescriptor.CPPTYPE_ENUM: {"unknown": 999, "negative": -1},
    FieldDescriptor.CPPTYPE_BOOL: {},
    FieldDescriptor.CPPTYPE_DOUBLE: {"negative": -1.0, "nan": float("nan")},
    **INTEGERS,
}
BYTES = {"empty": b"", "long": b"x" * ((1 << 20) + 1)}
DURATIONS = {
    "negative": {"seconds": -1},
    "mixed": {"seconds": 1, "nanos": -1},
    "nanos": {"nanos": 1_000_000_000},
    "most": {"seconds": (1 << 63) - 1},
}
TIMESTAMPS = {
    "negative": {"nanos": -1},
    "nanos": {"nanos": 1_000_000_000},
    "least": {"seconds": -(1 << 63)},
    "most": {"seconds": (1 << 63) - 1},
}
MANY = 70_000
#: Number 1007, a string.
UNKNOWN_FIELD = b"\xfa\x3e\x01x"


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad value of one field.

    :param change: what it does to the message that holds the field.
    :param reach: from the request to that message.
    """

    path: str
    kind: str
    change: Change
    reach: Callable[[Any], Any]

    def request(self, base: Message) -> bytes | None:
        """Return the encoded request; None where the value is what the field has anyway."""
        request = type(base)()
        request.CopyFrom(base)
        if self.path.startswith("spec.script."):  # one of the two
            request.spec.ClearField("argv")  # type: ignore[attr-defined]  # that path is a job's
            request.spec.script.text = "true"  # type: ignore[attr-defined]  # the same
        before = request.SerializeToString(deterministic=True)
        self.change(self.reach(request))
        changed = request.SerializeToString(deterministic=True)
        return changed if changed != before else None


def put(name: str, value: Any) -> Change:
    """Set a field."""
    return lambda target: setattr(target, name, value)


def extend(name: str, values: list[Any]) -> Change:
    """Add elements to a field."""
    return lambda target: getattr(target, name).extend(values)


def entries(name: str, values: dict[str, str]) -> Change:
    """Add entries to a map."""
    return lambda target: getattr(target, name).update(values)


def inside(name: str, fields: dict[str, int]) -> Change:
    """Set the fields of a message in a field."""

    def change(target: Any) -> None:
        for each, value in fields.items():
            setattr(getattr(target, name), each, value)

    return change


def clear(name: str) -> Change:
    """Take a field away, if it is there."""

    def change(target: Any) -> None:
        if any(field.name == name for field, _ in target.ListFields()):
            target.ClearField(name)

    return change


def forge(place: str) -> Change:
    """Make a page token of the right form for a place that there is not."""
    return lambda target: setattr(target, "page_token", PageTokens(target).encode(place))


def bad_values(field: FieldDescriptor) -> Iterator[tuple[str, Change]]:
    """Make bad values of a field that is no message of our own."""
    name, kind = field.name, field.message_type
    yield "missing", clear(name)
    values = BYTES if field.type == FieldDescriptor.TYPE_BYTES else VALUES.get(field.cpp_type, {})
    if kind is not None and kind.GetOptions().map_entry:
        for each, text in STRINGS.items():
            yield f"key {each}", entries(name, {text: "v"})
            yield f"value {each}", entries(name, {"k": text})
        yield "many", entries(name, {str(number): "" for number in range(MANY)})
    elif kind is not None and kind.full_name.startswith("google.protobuf."):
        for each, fields in (DURATIONS if kind.name == "Duration" else TIMESTAMPS).items():
            yield each, inside(name, fields)
    elif field.is_repeated:
        for each, value in values.items():
            yield each, extend(name, [value])
        if kind is None:
            yield "many", extend(name, [1 if field.cpp_type != FieldDescriptor.CPPTYPE_STRING else "x"] * MANY)
    else:
        for each, value in values.items():
            yield each, put(name, value)
    if name == "page_token":
        for place in ("", "nonsense", "-1", "9" * 40, "\0", "x:-1", "x:" + "9" * 40):
            yield f"forged {place[:8]!r}", forge(place)


def cases(message: Descriptor, path: str = "", reach: Change = lambda request: request) -> Iterator[Case]:
    """Make bad values of every field of a message, and of the messages in it."""
    for field in message.fields:
        for kind, change in bad_values(field):
            yield Case(f"{path}{field.name}", kind, change, reach)
        inner = field.message_type
        if inner is not None and inner.full_name.startswith("hodei.") and not inner.GetOptions().map_entry:

            def into(request: Any, name: str = field.name, repeated: bool = field.is_repeated) -> Any:  # noqa: FBT001
                held = getattr(reach(request), name)
                return held.add() if repeated else held

            yield from cases(inner, f"{path}{field.name}.", into)
    yield Case(f"{path}1007", "unknown field", lambda target: target.MergeFromString(UNKNOWN_FIELD), reach)
