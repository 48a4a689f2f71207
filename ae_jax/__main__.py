"""`python -m ae_jax`."""

from .app.cli import main

if __name__ == "__main__":
    main()
