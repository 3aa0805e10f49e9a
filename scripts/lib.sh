# Shell functions that the scripts of this folder share. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=$root/build/logs
started=$SECONDS

# say TEXT...: prints a progress line with the time since the script started.
say() {
  local elapsed=$((SECONDS - started))
  printf '[%2d:%02d] %s\n' $((elapsed / 60)) $((elapsed % 60)) "$*"
}

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# quietly NAME COMMAND...: runs the command with its output in build/logs/NAME.log, and shows the end of that file if the
# command fails. Returns the command's exit status.
quietly() {
  local log=$logs/$1.log status=0
  shift
  mkdir -p "$logs"
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if ((status != 0)); then
    printf '%s\n' "--- $*: exit status $status, the last lines of its output:" >&2
    tail -n 40 "$log" >&2
    printf '%s\n' "--- complete log: $log" >&2
  fi
  return $status
}

# as_root COMMAND...: runs the command directly if the user is root, otherwise through sudo.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "not root, and no sudo: cannot run: $*"
  fi
}

# configure_and_build PRESET [CMAKE OPTION...] [-- TARGET...]: configures and builds, with several sources in each
# compilation unit, and with ccache if it is installed.
configure_and_build() {
  local preset=$1 options=()
  shift
  while (($#)) && [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  (($# == 0)) || shift
  if command -v ccache >/dev/null; then
    export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
    # Required for caching units that use precompiled headers.
    export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
  fi
  quietly "configure-$preset" cmake -S "$root" --preset "$preset" -DCMAKE_UNITY_BUILD=ON "${options[@]}" || return
  quietly "build-$preset" cmake --build "$root/build/$preset" --parallel "$(nproc)" ${1:+--target "$@"}
}
