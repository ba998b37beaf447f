#!/usr/bin/env bash
# From scans to a shipped model: Training/recipes/train.sh NAME WORK   (DATA in $CLMORPH_DATA)
# Every step is a command that a user has too. A training that was interrupted goes on when this is called again.
set -euo pipefail
name=$1 work=$2 recipe=$(dirname "$0")/$1
mkdir -p "$work"
manifest=$work/manifest.csv
python -m "Training.recipes.$name.prepare" "$CLMORPH_DATA" "$manifest"
names=(--label-names "$recipe/labels.csv")

# 1. the affine average: what every scan is aligned with
[ -f "$work/affine/image.nii.gz" ] || clmorph build-atlas --data "$manifest" -o "$work/affine" "${names[@]}"
# 2. the network, without labels
resume=(); [ -f "$work/run/checkpoint.safetensors" ] && resume=(--resume)
clmorph train "$recipe/config.toml" --data "$manifest" -o "$work/run" \
    --set "data.reference=$work/affine/image.nii.gz" "${resume[@]}"
# … and on, with random views, where the recipe has them: the network for other contrasts
if [ -f "$recipe/views.toml" ]; then
    resume=(); [ -f "$work/views/checkpoint.safetensors" ] && resume=(--resume)
    clmorph train "$recipe/views.toml" --data "$manifest" -o "$work/views" --initial "$work/run/model/weights.safetensors" \
        --set "data.reference=$work/affine/image.nii.gz" "${resume[@]}"
    cp "$work/views/model/weights.safetensors" "$work/run/model/other_contrasts.safetensors"
fi
# 3. the atlas: mean shape, voted labels
model=$work/run/model
margin=(); [ "$name" = heart ] && margin=(--margin 25)  # a cine stack is mostly chest
clmorph build-atlas --data "$manifest" --model "$model" -o "$model/atlases/average" "${names[@]}" "${margin[@]}"
# 4. whether, and how, labels follow the scan's own tissue: chosen on validation
python -m Training.tissue --model "$model" --data "$manifest" --figures "$work/tissue-validation.json"
# 5. what Dice to expect of a case, and what is none: fitted on train and validation, with scans of another organ
other=brain; [ "$name" = brain ] && other=hippocampus
others=()
if python -m "Training.recipes.$other.prepare" "$CLMORPH_DATA" "$work/other.csv"; then others=(--others "$work/other.csv"); fi
python -m Training.quality fit --model "$model" --data "$manifest" "${others[@]}" --most 60 --corrupt-every 4 \
    --figures "$work/quality-validation.json"
python -m Training.quality measure --model "$model" --data "$manifest" "${others[@]}" --figures "$work/quality-test.json"
# 6. accuracy: validation to choose by, test to report
for split in validation test; do
    clmorph evaluate --model "$model" --data "$manifest" --split "$split" -o "$work/$split"
done
# 7. into the project, with its card
python -m Training.recipes.install "$name" "$work"
