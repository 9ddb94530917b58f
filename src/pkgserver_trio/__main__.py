"""`python -m pkgserver_trio`, and what the zipapp runs."""

from __future__ import annotations

from pkgserver_trio.cli import cli


def main() -> None:
    """Run the command line and exit with its code."""
    cli(prog_name="pkgserver")


if __name__ == "__main__":
    main()
