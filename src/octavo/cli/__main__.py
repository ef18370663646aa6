"""`python -m octavo.cli`: the `octavo` command where the script is not on the path."""

from octavo.cli.main import main

main()
