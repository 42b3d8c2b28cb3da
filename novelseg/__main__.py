"""``python -m novelseg``: the command without its script."""

import sys

from novelseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
