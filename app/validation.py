"""From pydantic's validation errors to ours: every place points into the document as the client sent it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, StringConstraints, ValidationError

from app.errors import FieldError, InvalidInput
from app.wording import as_json

TEXT = r"^[^\x00]*$"  # what every database can hold
MAX_ERRORS = 100  # places that a problem body names; how many more there are, its detail says
MAX_SHOWN = 80  # characters of a wrong value
MAX_INTEGER = 2**63 - 1  # that every database can hold and compare with
MAX_WHOLE_FLOAT = 2**53  # up to here a float is one integer
Id = Annotated[str, StringConstraints(max_length=36, pattern=TEXT)]

_SURROGATES = re.compile("[\ud800-\udfff]")

Model = TypeVar("Model", bound=BaseModel)


def is_text(value: str) -> bool:
    """Whether it can be stored and sent: without NUL, and without halves of surrogate pairs, which JSON can write."""
    return "\0" not in value and not _SURROGATES.search(value)


def printable(text: str) -> str:
    """The same, with what no answer can hold written as JSON writes it."""
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def whole_number(value: Any) -> Any:
    """JSON knows one kind of number: 3.0 is as whole as 3. Beyond 2^53 a float may stand for several integers."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= MAX_WHOLE_FLOAT
    return int(value) if is_whole else value


def parse_query(model: type[Model], query: bytes) -> Model:
    """A query as a pydantic model; its names are those of the model, each once (`app.http.query`).

    Raises:
        InvalidInput: A value is not what it should be.
    """
    try:
        return model.model_validate(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise invalid_places(details, lambda each: f"?{each['loc'][0]}") from error


def invalid_document(error: ValidationError, document: Any) -> InvalidInput:
    """The error for a body that a pydantic model refused."""
    details = error.errors(include_url=False)
    return invalid_places(details, lambda each: "#" + json_pointer(each["loc"], document))


def invalid_places(details: Sequence[Mapping[str, Any]], place: Callable[[Any], str]) -> InvalidInput:
    """The error for what pydantic found; of thousands of errors, only those that are named are put into words."""
    named = [FieldError(place(each), explain(each)) for each in details[:MAX_ERRORS]]
    return invalid_input(named, num_errors=len(details))


def invalid_input(errors: Iterable[FieldError], *, num_errors: int = 0) -> InvalidInput:
    """The error for one or more wrong places; its detail is the first of them, and says how many there are.

    Args:
        errors: What is wrong; the first `MAX_ERRORS` are named.
        num_errors: How many there are, if more than `MAX_ERRORS`, and thus not all in `errors`.
    """
    found = list(dict.fromkeys(errors))
    number = num_errors if num_errors > MAX_ERRORS else len(found)
    first = f"{found[0].pointer}: {found[0].detail}"
    return InvalidInput(first if number == 1 else f"{first} (and {number - 1} more)", errors=found[:MAX_ERRORS])


def wrong_place(pointer: str, detail: str) -> InvalidInput:
    """The error for a single wrong place."""
    return invalid_input([FieldError(pointer, detail)])


def explain(error: Mapping[str, Any]) -> str:
    """What is wrong, in words; and what was got, where that is short."""
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        return "There is no such field."
    message = _in_words_of_json(error)
    if kind in ("missing", "value_error", "union_tag_not_found"):
        return message
    if kind == "union_tag_invalid":
        given = given[error["ctx"]["discriminator"].strip("'")]  # its own `tag` is a text, whatever was sent
    if isinstance(given, dict | list):
        is_of_wrong_type = kind.endswith("_type") or kind == "union_tag_invalid"
        return f"{message}; got an {'object' if isinstance(given, dict) else 'array'}" if is_of_wrong_type else message
    got = as_json(given[: MAX_SHOWN + 1] if isinstance(given, str) else given)
    return f"{message}; got {got if len(got) <= MAX_SHOWN else got[: MAX_SHOWN - 1] + '…'}"


def _in_words_of_json(error: Mapping[str, Any]) -> str:
    """Pydantic's message, which speaks of Python's types."""
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
    """Names of ours, which hold no quotes."""
    return names.replace("'", '"')


def json_pointer(location: Sequence[str | int], document: Any) -> str:
    """A JSON pointer (RFC 6901) for pydantic's `loc`, without the names that it adds of a union's members."""
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
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + escape_step(str(step)) for step in path)


def escape_step(step: str) -> str:
    """One step of a JSON pointer (RFC 6901, 3)."""
    return step.replace("~", "~0").replace("/", "~1")
