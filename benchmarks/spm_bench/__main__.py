"""``spm-bench``, and ``python -m spm_bench``."""

import sys

from spm_rt.terminal import lazy_command

main = lazy_command("spm-bench", "spm_bench.cli", extra="bench")

if __name__ == "__main__":
    sys.exit(main())
