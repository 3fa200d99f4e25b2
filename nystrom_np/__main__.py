"""``python -m nystrom_np`` is the command ``nystrom-np``."""

import sys

from nystrom_np.cli import main

if __name__ == "__main__":
    sys.exit(main())
