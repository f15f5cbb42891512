"""``spm-page``, and ``python -m spm_rt.pipelines.page``."""

import sys

from ...terminal import lazy_command

main = lazy_command("spm-page", "spm_rt.pipelines.page.cli", extra="page")

if __name__ == "__main__":
    sys.exit(main())
