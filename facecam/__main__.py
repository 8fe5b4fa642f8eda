"""``python -m facecam`` is the ``facecam`` command."""

from facecam.cli import main

if __name__ == "__main__":
    main()
