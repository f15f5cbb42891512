#!/usr/bin/env bash
# Virtual environments for the components that tests/pipelines runs against and that do not go with each other or with
# ours: one in .venvs/NAME for each tests/pipelines/requirements/NAME.txt, made once, and again when that file changes.
# Each sees our own packages behind its own. Arguments: the names to be made; by default all.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh"
ours=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
shopt -s nullglob

make() {  # the environment of a file, in a place, with the stamp that says it is whole
    echo "== setting up $2"
    rm -rf "$2"
    python -m venv "$2"
    printf '%s\n' "$root" "$ours" > "$("$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/spm_rt.pth"
    # A comment `# pip: OPTIONS` in the file has options that a requirement cannot say, such as --no-deps.
    "$2/bin/python" -m pip install --quiet --disable-pip-version-check $(sed -n 's/^# pip: //p' "$1") -r "$1"
    touch "$3"
}

# Side by side: an installation waits for the network half of the time.
running=() status=0
for file in "$root"/tests/pipelines/requirements/*.txt; do
    name=$(basename "$file" .txt)
    [ $# = 0 ] || [[ " $* " = *" $name "* ]] || continue
    place="${SPM_VENVS:-$root/.venvs}/$name"
    stamp="$place/.made_$(cat "$file" <(python --version) | cksum | cut -d' ' -f1)"
    [ -f "$stamp" ] && continue
    make "$file" "$place" "$stamp" &
    running+=($!)
done
for process in "${running[@]}"; do wait "$process" || status=1; done
exit $status
