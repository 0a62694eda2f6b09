"""`python -m pyramidseg`, which is also what `torchrun -m pyramidseg` starts."""

from pyramidseg.cli.main import run

if __name__ == "__main__":
    run()
