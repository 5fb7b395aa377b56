"""`python -m detrec`."""

from detrec.cli import main

main()
