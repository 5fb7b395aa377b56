"""`python -m detrec`."""

from detrec.main import main

main()
