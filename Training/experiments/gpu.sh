#!/bin/sh
# As much of the paper's comparison as fits in BUDGET minutes on one GPU, in the order of its worth; what is not done then
# goes on with the next call.
#
#   Training/experiments/gpu.sh BUDGET [FOLDER]
#
# FOLDER (default: gpu) holds the data sets, DATASET.pack of `python -m Training.experiments.pack`, and, as they come back
# from an earlier call, results.tar.gz and unfinished-*.tar.gz. It gets (or OUT, where that is set):
#   results.tar.gz       runs.csv, regions.csv, deformations.csv, encoders.csv, curves.csv, examples/: merge it with
#                        `python -m Training.experiments.merge UNPACKED Training/results`
#   unfinished-*.tar.gz  trainings that the time ended, at most MAX_UNFINISHED, the longest first
#   log.txt              what was said
#
# Settings, by environment: PYTHON, DEVICE (cuda), PROCESSES side by side (7), MINUTES of each training (3) and of the
# U-Nets (UNET_MINUTES, 10), THREADS of each process (2), SITE: a .tar.gz or .tar.xz of Python packages that the machine
# lacks (SimpleITK).
set -eu
BUDGET=${1:?usage: gpu.sh BUDGET [FOLDER]}
FOLDER=${2:-gpu}
OUT=${OUT:-$FOLDER}
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} PROCESSES=${PROCESSES:-7} THREADS=${THREADS:-2}
MINUTES=${MINUTES:-3} UNET_MINUTES=${UNET_MINUTES:-10} MAX_UNFINISHED=5
RESERVED=20 # seconds, to pack the results
RESULTS=$FOLDER/results
BEGAN=$(date +%s)
export OMP_NUM_THREADS="$THREADS" PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$RESULTS" "$OUT"

if [ -n "${SITE:-}" ]; then
    mkdir -p "$FOLDER/site"
    tar xf "$SITE" -C "$FOLDER/site"
    PYTHONPATH="$PYTHONPATH:$PWD/$FOLDER/site"
fi
for file in "$FOLDER"/results.tar.gz "$FOLDER"/unfinished-*.tar.gz; do
    if [ -f "$file" ]; then tar xzf "$file" -C "$RESULTS"; fi
done

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
        --stop-after "$rest" --no-report "$@" || echo "$dataset $experiment: not all was done, see above"
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

cd "$RESULTS"
set --
for name in runs.csv regions.csv deformations.csv encoders.csv curves.csv examples; do
    if [ -e $name ]; then set -- "$@" $name; fi
done
cd - > /dev/null
if [ $# -gt 0 ]; then tar czf "$OUT/results.tar.gz" -C "$RESULTS" "$@"; fi
rm -f "$OUT"/unfinished-*.tar.gz
"$PYTHON" -m Training.experiments.performing "$RESULTS" | head -n $MAX_UNFINISHED | while read -r run; do
    tar czf "$OUT/unfinished-$(echo "$run" | tr '/+=,' '____').tar.gz" -C "$RESULTS" \
        "work/$run/checkpoint.safetensors" "work/$run/log.jsonl"
done
