"""The edge's configuration in parts: its blocks, servers and locations."""

import re
from functools import cache

from inputs import INPUTS
from render import lines, render

NGINX = INPUTS["nginx"]


def blocks(text: str, opening: str) -> list[str]:
    """Return the blocks with this beginning, up to the closing brace."""
    return [re.split(r"\n    }\n", part)[0] for part in text.split(f"\n    {opening}")[1:]]


@cache
def unchanged() -> str:
    """Return the configuration with unchanged inputs."""
    return render("nginx", "nginx.conf.j2", **NGINX)


def server(listen: str, **changes: object) -> str:
    """Return the first server with this `listen`."""
    text = render("nginx", "nginx.conf.j2", **NGINX | changes) if changes else unchanged()
    servers = blocks(text, "server {")
    return next(each for each in servers if f"\n        listen {listen};" in f"\n{each}")


def location(name: str, listen: str = "443 ssl", **changes: object) -> list[str]:
    """Return the lines of a location of the server with this `listen`."""
    text = server(listen, **changes)
    (block,) = re.findall(rf"location {name} \{{(.*?)\n        \}}", text, re.DOTALL)
    return lines(block)
