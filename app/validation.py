"""Turns pydantic's validation errors into the service's. Every place points into the document as the client sent it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, StringConstraints, ValidationError

from app.errors import FieldError, InvalidInput
from app.wording import as_json

TEXT = r"^[^\x00]*$"  # text that every database can store
MAX_ERRORS = 100  # places that a problem body names; its detail counts the others
MAX_SHOWN = 80  # characters of a wrong value in a message
MAX_INTEGER = 2**63 - 1  # largest integer that every database can store and compare
MAX_WHOLE_FLOAT = 2**53  # up to this value, each whole float stands for one integer only
Id = Annotated[str, StringConstraints(max_length=36, pattern=TEXT)]

_SURROGATES = re.compile("[\ud800-\udfff]")

Model = TypeVar("Model", bound=BaseModel)


def is_text(value: str) -> bool:
    """Whether a text can be stored and sent: it has no NUL and no lone surrogate, both of which JSON can express."""
    return "\0" not in value and not _SURROGATES.search(value)


def printable(text: str) -> str:
    """Return the text with its lone surrogates, which no response can contain, written as JSON escapes."""
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def whole_number(value: Any) -> Any:
    """Return a whole float such as 3.0 as an `int`: JSON has only one kind of number.

    A float beyond 2^53 stays a float, since it may stand for several integers.
    """
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= MAX_WHOLE_FLOAT
    return int(value) if is_whole else value


def parse_query(model: type[Model], query: bytes) -> Model:
    """Parse a query, whose names `app.http.query` has checked, into a pydantic model.

    Raises:
        InvalidInput: A value does not fit the model.
    """
    try:
        return model.model_validate(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise invalid_places(details, lambda each: f"?{each['loc'][0]}") from error


def invalid_document(error: ValidationError, document: Any) -> InvalidInput:
    """Return the error for a body that a pydantic model rejected."""
    details = error.errors(include_url=False)
    return invalid_places(details, lambda each: "#" + json_pointer(each["loc"], document))


def invalid_places(details: Sequence[Mapping[str, Any]], place: Callable[[Any], str]) -> InvalidInput:
    """Return the error for pydantic's findings. Only the first `MAX_ERRORS` are described: there may be thousands."""
    named = [FieldError(place(each), explain(each)) for each in details[:MAX_ERRORS]]
    return invalid_input(named, num_errors=len(details))


def invalid_input(errors: Iterable[FieldError], *, num_errors: int = 0) -> InvalidInput:
    """Return the error for one or more wrong places; its detail describes the first one and counts the others.

    Args:
        errors: Errors that were found; the response names the first `MAX_ERRORS`.
        num_errors: Number of all errors, if it exceeds `MAX_ERRORS` and `errors` therefore lacks some.
    """
    found = list(dict.fromkeys(errors))
    number = num_errors if num_errors > MAX_ERRORS else len(found)
    first = f"{found[0].pointer}: {found[0].detail}"
    return InvalidInput(first if number == 1 else f"{first} (and {number - 1} more)", errors=found[:MAX_ERRORS])


def wrong_place(pointer: str, detail: str) -> InvalidInput:
    """The error for a single wrong place."""
    return invalid_input([FieldError(pointer, detail)])


def explain(error: Mapping[str, Any]) -> str:
    """Describe an error in words. A wrong value is shown shortened, a wrong object or array by its type only."""
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        return "There is no such field."
    message = _in_words_of_json(error)
    if kind in ("missing", "value_error", "union_tag_not_found"):
        return message
    if kind == "union_tag_invalid":
        given = given[error["ctx"]["discriminator"].strip("'")]  # pydantic's `tag` is always a text
    if isinstance(given, dict | list):
        is_of_wrong_type = kind.endswith("_type") or kind == "union_tag_invalid"
        return f"{message}; got an {'object' if isinstance(given, dict) else 'array'}" if is_of_wrong_type else message
    got = as_json(given[: MAX_SHOWN + 1] if isinstance(given, str) else given)
    return f"{message}; got {got if len(got) <= MAX_SHOWN else got[: MAX_SHOWN - 1] + '…'}"


def _in_words_of_json(error: Mapping[str, Any]) -> str:
    """Return pydantic's message with JSON's names of types in place of Python's."""
    message: str = error["msg"].removeprefix("Value error, ")
    context = error.get("ctx", {})
    match error["type"]:
        case "dict_type" | "mapping_type" | "model_type" | "model_attributes_type":
            return "Input should be an object"
        case "list_type" | "tuple_type" | "set_type":
            return "Input should be an array"
        case "none_required":
            return "Input should be null"
        case "union_tag_not_found":
            return f"The field {_quoted(context['discriminator'])} is required"
        case "union_tag_invalid":
            *others, last = _quoted(context["expected_tags"]).split(", ")
            expected = f"{', '.join(others)} or {last}"
            return f"The field {_quoted(context['discriminator'])} should be {expected}"
        case "literal_error" | "enum":
            return _quoted(message)
        case "too_long" | "too_short":
            words = {"Dictionary": "Object", "List": "Array", "Tuple": "Array", "Set": "Array"}
            first, _, rest = message.partition(" ")
            rest = rest.replace(" after validation", "").replace("not more", f"not {len(error['input'])}")
            return f"{words.get(first, first)} {rest}"
    return message


def _quoted(names: str) -> str:
    """Put names of the service, which contain no quotes, into double quotes."""
    return names.replace("'", '"')


def json_pointer(location: Sequence[str | int], document: Any) -> str:
    """Return the JSON pointer (RFC 6901) for pydantic's `loc`, without pydantic's names of union members."""
    pointer = ""
    here = document
    for step in location:
        if isinstance(here, dict) and step not in here and step == here.get("kind"):
            continue
        if not isinstance(here, dict | list):
            break
        inside = step in here if isinstance(here, dict) else isinstance(step, int) and step < len(here)
        here = here[step] if inside else None  # type: ignore[index]
        pointer += write_pointer([step])
    return pointer


def write_pointer(path: Iterable[str | int]) -> str:
    """Return a path as a JSON pointer (RFC 6901)."""
    return "".join("/" + escape_step(str(step)) for step in path)


def escape_step(step: str) -> str:
    """One step of a JSON pointer (RFC 6901, 3)."""
    return step.replace("~", "~0").replace("/", "~1")
