#!/bin/sh
# Makes .venv with everything in requirements.lock and thlib itself (editable). Needs python3 (3.11 to 3.13) and pip.
set -eu

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

python=""
for candidate in ${PYTHON:-python3} python3.12 python3.13 python3.11; do
    if fits "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "No Python 3.11, 3.12 or 3.13 was found: install one, or name it by 'make setup PYTHON=/path/to/python3.12'." >&2
    exit 1
fi

fits .venv/bin/python || rm -rf .venv  # absent, or moved with its folder, or its Python is gone
if [ ! -x .venv/bin/python ]; then
    echo "Making .venv with $("$python" --version)."
    # Debian's python3 has no ensurepip without python3-venv: there pip installs itself from outside.
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        "$python" -m venv --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet pip
    fi
fi

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
torch=$(grep -o '^torch==[0-9.]*' requirements.lock)

if ! pip list --format=freeze 2>/dev/null | grep -q "^$torch"; then
    installed=""
    if [ "$(uname -s)" = Linux ] && [ ! -e /proc/driver/nvidia/version ]; then
        echo "PyTorch for CPU: about 0.2 GB to download, 0.8 GB on disk, 1 to 3 minutes."
        pip install --quiet --no-deps --timeout 5 --retries 0 \
            --index-url https://download.pytorch.org/whl/cpu "$torch" 2>/dev/null && installed=yes
    fi
    if [ -z "$installed" ]; then
        echo "PyTorch from PyPI: on Linux with CUDA, about 3 GB to download, 7 GB on disk, 5 to 15 minutes; else 0.2 GB."
        pip install --quiet "$torch"
    fi
fi
echo "The other packages: about 0.6 GB to download, 1.7 GB on disk, 2 to 5 minutes (the next time: seconds)."
pip install --quiet --no-deps -r requirements.lock
pip install --quiet --no-deps --no-build-isolation --editable .
.venv/bin/python -c "import librosa.util.utils"  # compiles and keeps it; two processes at once would spoil that
touch .venv/ready
echo "Set up: .venv"
