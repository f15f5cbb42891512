#!/usr/bin/env bash
# An editable installation in the "compat" mode, the usual advice for type checkers, cannot import packages from several folders.
#
# Packages:    setuptools 84.2.1, mypy 2.4.1, pip 26.3
# Expectation: a project whose packages lie in two folders (package-dir in pyproject.toml) is imported and type-checked in every
#              editable mode, or an installation that cannot work fails. Where the default mode hides packages from type checkers,
#              compat helps: that is the usual advice, also of Pylance's manual, which names it besides strict.
# Behaviour:   the default mode maps the packages by an import hook, which mypy does not run (pypa/setuptools#3518). compat
#              reports success, but puts the project's own folder on the path, where neither package lies: nothing can be
#              imported at all. Only strict, which makes a folder of links, serves both. The manual of setuptools and a warning
#              while it installs call compat transitional, but do not name this limit; pypa/setuptools#3767 reports the like.
# Seen:        ordinary installation: imported, seen by mypy; lenient: imported, not seen; compat: neither; strict: both
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH MYPYPATH
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check pip==26.3
"$folder/env/bin/python" -m pip install --quiet setuptools==84.2.1 mypy==2.4.1
cd "$folder"
"$folder/env/bin/python" - <<'END'
import subprocess
import sys
from pathlib import Path

Path("use.py").write_text("import alpha\nimport beta\n\ntotal: int = alpha.ONE + beta.TWO\n")


def lay_out(project: Path) -> None:
    """A project with the packages alpha and beta in folders of their own."""
    for package, constant in (("core/alpha", "ONE: int = 1\n"), ("extra/beta", "TWO: int = 2\n")):
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").write_text(constant)
        (project / package / "py.typed").touch()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "two-folders"\nversion = "1"\n'
        '[tool.setuptools]\npackages = ["alpha", "beta"]\n'
        'package-dir = {alpha = "core/alpha", beta = "extra/beta"}\n'
    )


def works(*arguments: str) -> bool:
    """Whether a program finds the packages; any other failure ends this script."""
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    said = ended.stdout + ended.stderr
    if ended.returncode and "No module named 'alpha'" not in said and 'module named "alpha"' not in said:
        sys.exit(f"changed: {said}")
    return ended.returncode == 0


def seen_after(mode: str) -> tuple[bool, bool]:
    """Whether the packages can be imported and whether mypy finds them."""
    project = Path("project", mode)
    lay_out(project)
    editable = [] if mode == "ordinary" else ["--config-settings", f"editable_mode={mode}", "--editable"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--force-reinstall"]
    subprocess.run([*pip, *editable, f"./{project}"], check=True)
    return works("use.py"), works("-m", "mypy", "--cache-dir", "/dev/null", "use.py")


seen = {mode: seen_after(mode) for mode in ("ordinary", "lenient", "compat", "strict")}
for mode, (imported, checked) in seen.items():
    print(f"{mode}: {'imported' if imported else 'not imported'}, {'seen' if checked else 'not seen'} by mypy")
if list(seen.values()) != [(True, True), (True, False), (False, False), (True, True)]:
    sys.exit("changed: lenient was expected to hide the packages from mypy, compat from everybody, strict from nobody")
END
