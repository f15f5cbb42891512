"""``spm-export``, and ``python -m spm_export``."""

import sys

from spm_rt.terminal import lazy_command

main = lazy_command("spm-export", "spm_export.cli", extra="export")

if __name__ == "__main__":
    sys.exit(main())
