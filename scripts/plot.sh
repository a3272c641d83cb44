#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run plot_replay.py, plot_churn.py or plot_shift.py with a Python that has matplotlib: the first in PATH, the system's, or the one in build/venv.
#
#   scripts/plot.sh --probe                  exit code 0: there is one
#   scripts/plot.sh ROWS -o PICTURE          as plot_replay.py
#   scripts/plot.sh --churn ROWS -o PICTURE  as plot_churn.py
#   scripts/plot.sh --shift ROWS -o PICTURE  as plot_shift.py
set -eu
here=$(dirname "$0")
script=plot_replay.py
if [ "${1:-}" = --churn ]; then
    script=plot_churn.py
    shift
elif [ "${1:-}" = --shift ]; then
    script=plot_shift.py
    shift
fi
for python in python3 /usr/bin/python3 "$here/../build/venv/bin/python3"; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -c 'import matplotlib' >/dev/null 2>&1; then
        [ "${1:-}" = --probe ] && exit 0
        exec "$python" "$here/$script" "$@"
    fi
done
echo "plot.sh: no Python with matplotlib: apt-get install python3-matplotlib" >&2
exit 1
