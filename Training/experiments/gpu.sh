#!/bin/sh
# As much of the paper's comparison as fits in BUDGET minutes on one GPU, in the order of its worth; what is not done then
# goes on with the next call.
#
#   Training/experiments/gpu.sh BUDGET [FOLDER]
#
# FOLDER (default: gpu) holds the data sets, DATASET.pack of `python -m Training.experiments.pack`, and, as they come back
# from an earlier call, results.tar.gz and unfinished-*.tar.gz: what FOLDER/results lacks of them is added to it, what it
# has stays as it is, for a call that was killed has left more there than in the archives. FOLDER gets (or OUT, where
# that is set):
#   results.tar.gz       runs.csv, regions.csv, deformations.csv, encoders.csv, curves.csv, examples/: merge it with
#                        `python -m Training.experiments.merge UNPACKED Training/results`
#   unfinished-*.tar.gz  trainings that the time ended, at most MAX_UNFINISHED, the longest first
#   log.txt              what was said
#
# Settings, by environment: PYTHON, DEVICE (cuda), PROCESSES side by side (7), MINUTES of each training (3) and of the
# U-Nets (UNET_MINUTES, 10), THREADS of each process (2), SITE: a .tar.gz or .tar.xz of Python packages that the machine
# lacks (SimpleITK).
#
# Exit code 2 for bad input, 1 where nothing that was tried went well.
set -eu
fail() { # MESSAGE [CODE]
    echo "gpu.sh: $1" >&2
    exit "${2:-2}"
}
BUDGET=${1:?usage: gpu.sh BUDGET [FOLDER]}
FOLDER=${2:-gpu}
OUT=${OUT:-$FOLDER}
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} PROCESSES=${PROCESSES:-7} THREADS=${THREADS:-2}
MINUTES=${MINUTES:-3} UNET_MINUTES=${UNET_MINUTES:-10} MAX_UNFINISHED=5
RESERVED=20 # seconds, to pack the results
RESULTS=$FOLDER/results
UNPACKED=$FOLDER/.unpacked NEW=$OUT/.new # of this call alone
BEGAN=$(date +%s)

awk -v budget="$BUDGET" 'BEGIN { exit !(budget ~ /^[0-9]*[.]?[0-9]*$/ && budget > 0) }' ||
    fail "BUDGET $BUDGET: expected minutes above zero, such as 9 or 2.5"
packs=
for dataset in mindboggle101 acdc hippocampus; do
    if [ -f "$FOLDER/$dataset.pack" ]; then packs=1; fi
done
[ "$packs" ] || fail "$FOLDER holds no mindboggle101.pack, acdc.pack or hippocampus.pack; expected one of them at least; \
make it with python -m Training.experiments.pack, or name its folder: gpu.sh BUDGET FOLDER"

export OMP_NUM_THREADS="$THREADS" PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
rm -rf "$UNPACKED" "$NEW"
trap 'rm -rf "$UNPACKED" "$NEW"' EXIT
mkdir -p "$RESULTS" "$NEW"

unpack() { # FILE FOLDER
    mkdir -p "$2"
    tar xf "$1" -C "$2" 2> /dev/null ||
        fail "$1 cannot be unpacked; expected a whole .tar archive; copy it again, or delete it to go on without it"
}

# The finished runs of results.tar.gz go to those that are there, of which none is replaced.
add_results() {
    unpack "$FOLDER/results.tar.gz" "$UNPACKED/results"
    if [ ! -f "$UNPACKED/results/runs.csv" ]; then return; fi
    if [ -f "$RESULTS/runs.csv" ]; then
        "$PYTHON" -m Training.experiments.merge "$UNPACKED/results" "$RESULTS"
    else
        mv "$UNPACKED/results/runs.csv" "$UNPACKED" # which says that runs are done, so it goes there last
        cp -R "$UNPACKED/results/." "$RESULTS"
        mv "$UNPACKED/runs.csv" "$RESULTS"
    fi
}

# Of the unfinished trainings those that have no checkpoint here: one that is here may be further on.
add_unfinished() {
    find "$UNPACKED/unfinished" -name checkpoint.safetensors | while read -r state; do
        from=${state%/*}
        to=$RESULTS${from#"$UNPACKED/unfinished"}
        if [ -f "$to/checkpoint.safetensors" ]; then continue; fi
        mkdir -p "$to"
        mv "$from/log.jsonl" "$to"
        mv "$state" "$to"
    done
}

if [ -n "${SITE:-}" ]; then
    unpack "$SITE" "$UNPACKED/site"
    PYTHONPATH="$PYTHONPATH:$(cd "$UNPACKED/site" && pwd)"
fi
for file in "$FOLDER"/unfinished-*.tar.gz; do
    if [ -f "$file" ]; then unpack "$file" "$UNPACKED/unfinished"; fi
done
if [ -f "$FOLDER/results.tar.gz" ]; then add_results; fi
if [ -d "$UNPACKED/unfinished" ]; then add_unfinished; fi

# Minutes that are left for trainings and their measuring.
left() {
    awk -v budget="$BUDGET" -v spent="$(($(date +%s) - BEGAN))" -v reserved="$RESERVED" \
        'BEGIN { print budget - (spent + reserved) / 60 }'
}

# phase DATASET EXPERIMENT MINUTES [OPTION …]: passed over where the data set is not there or the time is over.
phase() {
    dataset=$1 experiment=$2 minutes=$3
    shift 3
    rest=$(left)
    if [ ! -f "$FOLDER/$dataset.pack" ] || awk -v rest="$rest" 'BEGIN { exit rest > 0 }'; then return; fi
    "$PYTHON" -m Training.experiments "$experiment" --packed "$FOLDER/$dataset.pack" --datasets "$dataset" \
        --out "$RESULTS" --device "$DEVICE" --budget "$minutes" --processes "$PROCESSES" --threads "$THREADS" \
        --stop-after "$rest" --no-report "$@" && became=well || became=badly
    : > "$NEW/$became" # the pipe to the log keeps variables from what follows
    if [ $became = badly ]; then echo "$dataset $experiment: not all was done, see above"; fi
}

main() {
    date
    phase mindboggle101 table3 "$MINUTES" --seeds 0 1 2
    phase mindboggle101 table1 "$UNET_MINUTES" --systems unet
    phase acdc table1 "$UNET_MINUTES" --systems unet
    phase hippocampus table1 "$UNET_MINUTES" --systems unet
    for dataset in mindboggle101 acdc hippocampus; do phase $dataset table1 "$MINUTES"; done
    phase hippocampus contrast "$MINUTES" --seeds 0 1 2
    phase mindboggle101 contrast "$MINUTES" --seeds 0 1 2
    phase acdc table3 "$MINUTES" --seeds 0 1 2
    phase hippocampus table3 "$MINUTES" --seeds 0 1 2
    date
}
main 2>&1 | tee "$OUT/log.txt"

# pack NAME FILE …: files of the results as an archive, whole or not at all.
pack() {
    name=$1
    shift
    tar czf "$NEW/$name" -C "$RESULTS" "$@"
    mv "$NEW/$name" "$OUT/$name"
}

set --
for name in runs.csv regions.csv deformations.csv encoders.csv curves.csv examples; do
    if [ -e "$RESULTS/$name" ]; then set -- "$@" $name; fi
done
if [ $# -gt 0 ]; then pack results.tar.gz "$@"; fi
"$PYTHON" -m Training.experiments.performing "$RESULTS" > "$NEW/unfinished"
rm -f "$OUT"/unfinished-*.tar.gz
head -n $MAX_UNFINISHED "$NEW/unfinished" | while read -r run; do
    pack "unfinished-$(echo "$run" | tr '/+=,' '____').tar.gz" "work/$run/checkpoint.safetensors" "work/$run/log.jsonl"
done
if [ -e "$NEW/badly" ] && [ ! -e "$NEW/well" ]; then
    fail "no phase went well; expected one at least; see $OUT/log.txt for what each one said" 1
fi
