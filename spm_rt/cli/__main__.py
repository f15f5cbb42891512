"""``python -m spm_rt.cli`` is ``spm-track``."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
