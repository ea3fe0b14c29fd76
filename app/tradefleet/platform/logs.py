"""Structured logs: one JSON object per line on standard error."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from flask import g, has_request_context

# Attributes that every record has; all others come from `extra` and belong in the line.
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as {"ts", "level", "logger", "message", ...extra, "exception"?}."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; values that JSON cannot represent become text."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if has_request_context():
            line.setdefault("request_id", g.get("request_id"))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def config(level: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`; gunicorn takes it as `logconfig_dict`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        # Alembic logs each query of the database's revision at INFO.
        "loggers": {"alembic.runtime.migration": {"level": "WARNING"}},
        "root": {"level": level, "handlers": ["stderr"]},
    }
