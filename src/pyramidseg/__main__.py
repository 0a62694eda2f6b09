"""Run the command line by `python -m pyramidseg`, or under `torchrun -m pyramidseg`."""

from pyramidseg.cli.main import run

if __name__ == "__main__":
    run()
