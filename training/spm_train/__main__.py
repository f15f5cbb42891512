"""``spm-train``, and ``python -m spm_train``: its modules are imported where Ctrl-C is one line already."""

import sys

from spm_rt.terminal import run_command


def main() -> int:
    """The command; returns the exit status."""

    def command() -> int:
        from .cli import main

        return main()

    return run_command("spm-train", command, extra="train")


if __name__ == "__main__":
    sys.exit(main())
