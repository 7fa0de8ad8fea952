"""A verb whose look-ups and connections are written down, for the part `sockets`. Imports nothing that a verb does not."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

EVENTS = ("getaddrinfo", "gethostby", "getnameinfo", "getservby", "connect", "bind", "sendto", "sendmsg")
"""Of Python's module `socket`: look-ups, and what is done with a socket."""
TO = ("socket.connect", "socket.bind", "socket.send")
"""Their second argument is the address."""


def watch(asked: Path) -> None:
    """Write down every look-up and connection, with who asks."""

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if not event.startswith("socket.") or not event.removeprefix("socket.").startswith(EVENTS):
            return
        if event.startswith(TO) and (arguments[1] is None or isinstance(arguments[1], str | bytes)):
            return  # within the machine: the path of an AF_UNIX socket, or one of a pair
        with asked.open("a") as file:
            file.write(f"{event} {arguments[1:]!r:.200}\n" + "".join(traceback.format_stack(limit=6)[:-1]))

    sys.addaudithook(listen)


def main(asked: str, *arguments: str) -> None:
    """One verb, watched from within."""
    watch(Path(asked))
    from medcoss_cli.cli import app

    if arguments[0] == "--telemetry":
        arguments = arguments[1:]
        os.environ.pop("ORT_DISABLE_TELEMETRY", None)
    if arguments[0] == "demo":  # takes minutes otherwise
        from medcoss_cli import demo
        from tests.test_demo import COUNTS, RECIPE

        Path("demo.yaml").write_text(RECIPE)
        assert demo.demo.__kwdefaults__ is not None
        demo.demo.__kwdefaults__.update(recipe="demo.yaml", counts=COUNTS)
    sys.argv = ["medcoss", *arguments]
    app.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
