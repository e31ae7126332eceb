"""Run the command line as `python -m coldstart`."""

from coldstart.cli import main

if __name__ == "__main__":
    main()
