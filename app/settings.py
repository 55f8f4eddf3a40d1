"""`Settings`: where the service runs, with its addresses, paths and limits. `RunConfig` says what is trained."""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.api_keys import ApiKey, parse_keys

if TYPE_CHECKING:
    from sqlalchemy import URL

# An origin as browsers write it (https://www.rfc-editor.org/rfc/rfc6454#section-6): in lower case, without a path.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?/?")

# A name as browsers write it in a Host header: labels of ASCII, and an optional dot at the end.
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")
# The segments of a path, none of them percent-encoded.
_PREFIX = re.compile(r"(/[\w.~!$&'()*+,;=:@-]+)*", re.ASCII)

Device = Literal["auto", "cpu", "cuda", "mps"]


class Settings(BaseSettings):
    """Read once at start, from `DIGITLAB_*` variables or the options of the same name, and passed in from there."""

    model_config = SettingsConfigDict(
        env_prefix="DIGITLAB_", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(Path("digitlab-data"), description="Folder of the SQLite file.")
    database_url: str = Field("", description="SQLAlchemy URL; empty: `digitlab.db` in the data folder.")
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on.")
    root_path: str = Field(
        "", description="Prefix that a proxy strips from paths, as in `/digitlab`; links and `/docs` carry it."
    )
    allow_unauthenticated: bool = Field(False, description="Permit an address beyond loopback, open to everyone there.")
    api_keys: SecretStr = Field(SecretStr(""), description="Who may use the API: `predict:KEY,admin:KEY`; empty: all.")
    cors_origins: Annotated[list[str], NoDecode] = Field(
        [], description="Origins of browser apps that may call the API, as a JSON list."
    )
    allowed_hosts: str = Field(
        "", description="Names of the service beside `localhost` and addresses, separated by commas; `*`: any."
    )
    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="Largest request body that is read.")
    max_header_bytes: int = Field(32 * 2**10, ge=1024, description="Largest request head that is read.")
    max_buffered_bytes: int = Field(
        256 * 2**20, ge=1024, description="Request bodies that an API process holds at once, together."
    )
    max_connections: int = Field(2000, ge=1, description="Connections that an API process accepts at once.")
    request_timeout_seconds: float = Field(
        20.0, gt=0, le=3600, description="How long a client may be silent, or let an answer lie, before it is cut off."
    )
    log_format: Literal["text", "json"] = Field("text", description="Of the logs: `text` or `json`.")
    log_requests: Literal["changes", "all"] = Field(
        "changes", description="Log what changes something or fails, or `all` requests."
    )
    max_queued_runs: int = Field(10_000, ge=1, description="Queued runs beyond which a submission is refused.")
    disk_quota_bytes: int = Field(
        32 * 2**30, ge=0, description="Size of the database beyond which a submission is refused; 0: any."
    )
    max_trials: int = Field(2000, ge=1, description="Trials that a sweep may have.")
    max_parameters: int = Field(64, ge=1, description="Fields of a configuration that a sweep may search.")
    max_loaded_model_bytes: int = Field(
        512 * 2**20, ge=0, description="Memory for models beside the champion that an API process keeps loaded."
    )
    max_waiting_pictures: int = Field(16, ge=0, description="Pictures that wait for their turn; more are refused.")
    max_waiting_reads: int = Field(
        200, ge=0, description="Reports, histories and files that wait for their turn; more are refused."
    )
    champion_poll_seconds: float = Field(0.25, gt=0, le=60, description="How often the API looks for a new champion.")
    event_poll_seconds: float = Field(0.25, gt=0, le=60, description="How often open event streams are served.")
    device: Device = Field("auto", description="Where runs with `device: auto` train: `auto` is CUDA, MPS, then CPU.")
    cuda_engine: Literal["auto", "fused", "batched"] = Field(
        "auto",
        description="What trains on CUDA. `auto`, `fused`: one kernel, where it can; `batched`: torch operations.",
    )
    max_stack_bytes: int = Field(
        128 * 2**20, ge=0, description="Memory for the runs that are trained together; 0: each alone."
    )
    lease_seconds: float = Field(
        6.0, ge=1, le=3600, description="Without a renewal, a worker's runs are free after this."
    )
    heartbeat_seconds: float = Field(0.5, gt=0, le=600, description="How often a worker renews its leases.")
    commit_seconds: float = Field(1.0, gt=0, le=600, description="How often metrics and checkpoints are committed.")
    poll_seconds: float = Field(0.25, gt=0, le=60, description="How often an idle worker looks for a run.")
    stall_seconds: float = Field(
        60.0, ge=1, le=86_400, description="A trainer without any progress for so long is stuck, and is killed."
    )
    fork_server: bool = Field(
        True, description="On Linux, fork trainers from a process that has loaded torch; `false`: each loads it anew."
    )
    last_checkpoint_retention_seconds: float = Field(
        7 * 86_400, ge=0, description="How long a finished run keeps its `last` checkpoint; `best` stays."
    )
    event_retention_seconds: float = Field(30 * 86_400, ge=0, description="How long events are kept.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            raise ValueError("DIGITLAB_LEASE_SECONDS must be at least three times DIGITLAB_HEARTBEAT_SECONDS")
        return self

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _parse_origins(cls, value: object) -> list[str]:
        origins = value
        if isinstance(value, str):
            try:
                origins = json.loads(value) if value.strip() else []
            except ValueError:
                origins = None
        if not isinstance(origins, list) or not all(
            isinstance(each, str) and _ORIGIN.fullmatch(each) for each in origins
        ):
            raise ValueError('write a JSON list of origins, as in ["http://localhost:5173"]')
        return [origin.rstrip("/") for origin in origins]

    @field_validator("allowed_hosts")
    @classmethod
    def _check_names(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")] if value.strip() else []
        if not all(name == "*" or _is_name(name) for name in names):
            raise ValueError(
                "write names separated by commas, without http:// and without a port, as in digits.example,api"
            )
        return value

    @field_validator("root_path")
    @classmethod
    def _clean_prefix(cls, value: str) -> str:
        prefix = f"/{value.strip().strip('/')}".rstrip("/")
        if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
            raise ValueError("write the beginning of a path, as in /digitlab")
        return prefix

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        try:
            return value.expanduser()
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    @field_validator("api_keys")
    @classmethod
    def _parse_keys(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        return parse_keys(self.api_keys.get_secret_value())

    @property
    def checked_hosts(self) -> list[str] | None:
        """Host names that the API accepts; None: any name, since requests need keys and `allowed_hosts` is empty."""
        names = [name.strip() for name in self.allowed_hosts.split(",") if name.strip()]
        return [*names, self.host] if names or not self.keys else None

    @property
    def resolved_database_url(self) -> str | URL:
        from sqlalchemy import URL  # imported here, since the client commands do not need it

        # The URL is not built as text: a folder's name may contain a `?` or a `%`.
        return self.database_url or URL.create("sqlite", database=str((self.data_dir / "digitlab.db").resolve()))

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def _is_name(text: str) -> bool:
    """Whether the text is a host name or an address, and nothing else."""
    try:
        ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return bool(_HOST_NAME.fullmatch(text))
    return True


def describe_invalid(error: ValidationError) -> list[str]:
    """Describe each error in the settings, in a sentence that names the variable."""
    return [f"{_variable(each['loc'])}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()]


def _variable(location: tuple[int | str, ...]) -> str:
    return f"DIGITLAB_{'_'.join(map(str, location)).upper()}" if location else "Settings"
