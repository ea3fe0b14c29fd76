"""Lists, page by page, the latest first: the query of a page, its cursor, and the database query."""

import base64
import binascii
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import Mapped, Session, mapped_column

from tradefleet.platform.http.fields import rfc3339
from tradefleet.platform.http.problems import ProblemError
from tradefleet.platform.postgres.columns import UtcDateTime


class Listed:
    """The columns that order a list, for models with lists."""

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


Row = TypeVar("Row", bound=Listed)


@dataclass(frozen=True)
class Position:
    """Where a page ends: the time and id of its last row."""

    created_at: datetime
    id: uuid.UUID


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]{86,200}$", description="next_cursor of the page before."
    )

    def position(self) -> Position | None:
        """Return where the page begins; None for the first page.

        Raises:
            ProblemError: 404, the cursor names no page of this API.

        """
        if self.cursor is None:
            return None
        padded = self.cursor + "=" * (-len(self.cursor) % 4)
        try:
            # The page may be from another release, with more in its cursor.
            moment, row_id, *_ = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").split(" ")
            return Position(datetime.fromisoformat(moment).astimezone(UTC), uuid.UUID(row_id))
        except (ValueError, OverflowError, binascii.Error) as error:
            raise ProblemError(HTTPStatus.NOT_FOUND, "This cursor names no page; use next_cursor.") from error


def encode_cursor(position: Position) -> str:
    """Return a text that clients send back unchanged."""
    return base64.urlsafe_b64encode(f"{rfc3339(position.created_at)} {position.id}".encode()).decode().rstrip("=")


def page(
    session: Session, model: type[Row], where: ColumnElement[bool], limit: int, after: Position | None
) -> tuple[list[Row], Position | None]:
    """Return up to `limit` of the rows, the latest first, and the cursor of the next page, or None at the end.

    It uses an index on the columns of `where`, created_at and id, in this order, if one exists.
    """
    query = select(model).where(where)
    if after is not None:
        query = query.where(tuple_(model.created_at, model.id) < tuple_(after.created_at, after.id))
    query = query.order_by(model.created_at.desc(), model.id.desc()).limit(limit + 1)
    found = list(session.scalars(query))
    if len(found) <= limit:
        return found, None
    last = found[limit - 1]
    return found[:limit], Position(last.created_at, last.id)
