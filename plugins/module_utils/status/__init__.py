"""What the running services reported, as cells of a table and warnings (plugins/filter/status_table.py)."""

from .services import SERVICES, Host, Lines, Stated, nested, text

__all__ = ["SERVICES", "Host", "Lines", "Stated", "nested", "text"]
