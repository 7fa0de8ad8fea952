"""The verb `doctor`."""

from __future__ import annotations

import typer

from medcoss_cli.cli import options, terminal

app = typer.Typer(add_completion=False)


@app.command()
def doctor(as_json: options.Json = False) -> None:
    """Show what is installed, what this machine has, and what would be slow.

    Example: medcoss doctor
    """
    from medcoss_cli.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        terminal.result_json(vars(diagnosis))
        return
    for heading in ("versions", "machine", "plugins", "decoders", "disk"):
        terminal.result(heading.capitalize())
        for name, value in getattr(diagnosis, heading).items():
            terminal.result(f"  {name:16s} {value}")
    terminal.result("What would be slow or fail")
    for sentence in diagnosis.slow or ["nothing that is known"]:
        terminal.result(f"  {sentence}")
