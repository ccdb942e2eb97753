# Sourced by the other shell scripts. `prepare_environment` creates .venv with the project installed
# in it, or reuses it; `python` is its interpreter. PYTHON names the interpreter to create it with.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"

fail() {
  echo "error: $*" >&2
  exit 1
}

# Prints the first interpreter that is Python 3.11 or later.
find_python() {
  local candidate found=""
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if version="$("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null)"
    then
      found="$found $candidate is $version;"
      if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "$candidate"
        return
      fi
    fi
  done
  fail "Python 3.11 or later is needed;${found:- ${PYTHON:-python3} does not run;} install one," \
    "or set PYTHON=/path/to/python3.11"
}

# What an installation depends on: the path of the clone, the interpreter, the requirements.
installation() {
  echo "$root"
  "$python" --version
  cksum < "$root/setup.py"
}

prepare_environment() {
  local venv="$root/.venv"
  local stamp="$venv/installed.txt"    # says what is installed; written last
  local unfinished="$venv/unfinished"  # created first, removed last

  if [ -n "${PYTHON:-}" ] && [ -e "$stamp" ] \
    && [ "$("$PYTHON" --version)" != "$("$python" --version)" ]; then
    fail "$venv has $("$python" --version); remove it to create it with $PYTHON"
  fi
  if [ -e "$stamp" ] && [ "$(installation 2>&1)" = "$(cat "$stamp")" ]; then
    echo "using the environment $venv"
    return
  fi
  if [ -e "$unfinished" ] || { [ -e "$stamp" ] && ! "$python" --version > /dev/null 2>&1; }; then
    rm -rf "$venv"  # created here, but not completed, or its interpreter is gone
  fi
  if [ ! -e "$venv" ]; then
    local base
    base="$(find_python)"
    "$base" -c 'import ensurepip, venv' 2> /dev/null || fail "$base has no venv module;" \
      "on Debian or Ubuntu: sudo apt install python3-venv"
    echo "creating the environment $venv with $("$base" --version)"
    mkdir "$venv"
    touch "$unfinished"
    "$base" -m venv "$venv"
  fi
  echo "installing the project; TensorFlow is a download of about 600 MB"
  "$python" -m pip install --editable "$root[test]"
  installation > "$stamp.tmp"
  mv "$stamp.tmp" "$stamp"
  rm -f "$unfinished"
}
