"""``python -m pointsman.cli``: the same as the command ``pointsman``."""

from pointsman.cli import main

if __name__ == "__main__":
    main()
