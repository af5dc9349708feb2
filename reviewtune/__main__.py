"""`python -m reviewtune`: the same as the command `reviewtune`."""

from reviewtune.commands.main import main

if __name__ == "__main__":
    main()
