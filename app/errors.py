"""The errors that services raise; only `app.http.problem` turns them into HTTP responses.

AppError
├── Forbidden           403
├── NotFound            404
├── Conflict            409
├── InvalidInput        422   with `errors`: where and what
├── MalformedBody       400
├── TooLarge            413   with `errors`
├── UnsupportedMedia    415
├── QueueFull           429
├── DamagedData         500   a stored blob that does not match its sha256
├── DiskQuotaExceeded   507
└── Unavailable         503   try again later
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """One error in the input: its place (`#/a/0` in the body, `?name` in the query) and its description."""

    pointer: str
    detail: str


class AppError(Exception):
    """An error that is reported to the client.

    Args:
        detail: Sentence that tells the client what happened.
        slug: Stable name for programs, the end of the problem's `type`; default: the class's `default_slug`.
        headers: HTTP headers of the response.
        errors: Errors in the input, one for each place.
    """

    status: ClassVar[int] = 500
    default_slug: ClassVar[str] = "internal-error"

    def __init__(
        self,
        detail: str,
        *,
        slug: str | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.slug = slug or self.default_slug
        self.headers = dict(headers or {})
        self.errors = tuple(errors)


class Forbidden(AppError):
    status = 403
    default_slug = "forbidden"


class NotFound(AppError):
    status = 404
    default_slug = "not-found"


class Conflict(AppError):
    status = 409
    default_slug = "conflict"


class InvalidInput(AppError):
    status = 422
    default_slug = "invalid-input"


class MalformedBody(AppError):
    status = 400
    default_slug = "malformed-json"


class TooLarge(AppError):
    status = 413
    default_slug = "pictures-too-large"


class UnsupportedMedia(AppError):
    status = 415
    default_slug = "unsupported-media-type"


class QueueFull(AppError):
    status = 429
    default_slug = "queue-full"


class DamagedData(AppError):
    status = 500
    default_slug = "damaged-data"


class DiskQuotaExceeded(AppError):
    status = 507
    default_slug = "disk-quota-exceeded"


class Unavailable(AppError):
    status = 503
    default_slug = "unavailable"
