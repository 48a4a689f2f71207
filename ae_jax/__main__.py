"""`python -m ae_jax`."""

from .cli import main

if __name__ == "__main__":
    main()
