"""The application for a WSGI server: `gunicorn tradefleet.wsgi:app`."""

from tradefleet import create_app

app = create_app()
