"""`python -m wave_async` is the command `wave`."""

from wave_async.cli import main

main()
