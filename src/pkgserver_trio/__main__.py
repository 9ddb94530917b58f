"""`python -m pkgserver_trio`, and the entry point of the zipapp and of the `pkgserver` script."""

from __future__ import annotations

import sys

from pkgserver_trio.cli import run


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
