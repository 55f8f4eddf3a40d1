"""`python -m app.cli`: the same as `digitlab`."""

from app.cli import main

main()
