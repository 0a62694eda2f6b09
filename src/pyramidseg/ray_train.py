"""`python -m pyramidseg.ray_train`: the same as `pyramidseg ray-train`."""

import sys

from pyramidseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["ray-train", *sys.argv[1:]]))
