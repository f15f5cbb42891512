"""``spm-train``, and ``python -m spm_train``."""

import sys

from spm_rt.terminal import lazy_command

main = lazy_command("spm-train", "spm_train.cli", extra="train")

if __name__ == "__main__":
    sys.exit(main())
