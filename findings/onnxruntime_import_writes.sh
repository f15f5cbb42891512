#!/usr/bin/env bash
# Importing ONNX Runtime writes an identifier and a database of usage events into the user's cache, but not where CI is set.
#
# Packages:    onnxruntime 1.32.0, numpy 2.4.6
# Expectation: an import leaves no files, at least none where onnxruntime.disable_telemetry_events() follows, and what a job of
#              continuous integration sees is what users get.
# Behaviour:   the import alone makes "deviceid", which later runs use again, and "onnxruntime.db", where events wait to be sent,
#              in Microsoft/DeveloperTools/.onnxruntime of the cache folder. disable_telemetry_events() cannot be called before
#              the import, so both are there already. With ORT_DISABLE_TELEMETRY=1 in the environment there are none. With CI=true
#              there are none either: a test for stray files passes in CI and fails at home. The package's Privacy.md documents
#              that events are on by default on Linux, an identifier, the variable, and that the function may come too late for a
#              first event; it names neither the place of the files nor CI. (This script lets the library run as delivered.)
# Seen:        import: deviceid onnxruntime.db; import and disable_telemetry_events(): the same;
#              ORT_DISABLE_TELEMETRY=1: no files; CI=true: no files
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import os
import subprocess
import sys
from pathlib import Path

unset = {"CI", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}
usual = {name: value for name, value in os.environ.items() if name not in unset}


def left_by(case: str, code: str, **variables: str) -> set[str]:
    """Names of the files in a fresh home folder after a program has run there."""
    home = Path(case.replace(" ", "_")).absolute()
    home.mkdir()
    environment = {**usual, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    files = [path for path in home.rglob("*") if path.is_file()]
    print(f"{case}:", *(sorted(str(path.relative_to(home)) for path in files) or ["no files"]))
    return {path.name for path in files}


plain = left_by("import", "import onnxruntime")
late = left_by("switched off in the program", "import onnxruntime as o; o.disable_telemetry_events()")
variable = left_by("ORT_DISABLE_TELEMETRY", "import onnxruntime", ORT_DISABLE_TELEMETRY="1")
ci = left_by("CI", "import onnxruntime", CI="true")
if not all({"deviceid", "onnxruntime.db"} <= names for names in (plain, late)):
    sys.exit("changed: an import no longer makes both files, or switching off in the program prevents them")
if variable or ci:
    sys.exit("changed: there are files in spite of ORT_DISABLE_TELEMETRY=1 or CI=true")
END
