"""`python -m pixeldetective.cli`, as the supervisor starts workers."""

from pixeldetective.cli import main

main()
