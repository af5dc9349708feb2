#!/usr/bin/env bash
# Tests and measures the local engine on a machine with a GPU, in at most 8 minutes:
#
#     benchmarks/gpu.sh                       # a random model of 7 billion weights
#     benchmarks/gpu.sh --size tiny --quick   # to try the script itself, also without a GPU
#
# Base models are taken from REVIEWTUNE_HOME (or the user's cache folder); parts whose weights are missing are left out,
# so no network is needed. Every part has its own time limit and goes on if another one fails. Output: one log per part,
# in the folder that is printed first (--out FOLDER sets it), and a summary at the end. Exit status 1 if a part failed.
set -uo pipefail

size=7b
quick=
out=
while (($#)); do
    case $1 in
        --size) size=$2; shift 2 ;;
        --quick) quick=yes; shift ;;
        --out) out=$2; shift 2 ;;
        *) echo "gpu.sh: unknown option $1; allowed: --size tiny|0.5b|1.5b|3b|7b|8b, --quick, --out FOLDER" >&2; exit 2 ;;
    esac
done

out=${out:-$(mktemp -d)}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1 # before the next cd: a relative folder is the caller's
cd "$(dirname "$0")/.." || exit 1
export PYTHONPATH=$PWD OMP_WAIT_POLICY=passive HF_HUB_OFFLINE=1 PIP_NO_INDEX=1
python=${PYTHON:-python}
began=$SECONDS
total=470 # seconds for everything; the summary takes the rest of the 8 minutes
failed=0
summary=()

# part NAME LIMIT PATTERN COMMAND...: run the command with a time limit, and put the lines with PATTERN into the summary.
part() {
    local name=$1 limit=$2 pattern=$3
    shift 3
    local left=$((total - (SECONDS - began))) start=$SECONDS
    ((limit < left)) || limit=$left
    if ((limit < 5)); then
        summary+=("$name: left out, no time left")
        failed=1
        return
    fi
    echo "-- $name (at most $limit s)"
    # What a part that is stopped leaves behind goes with its folder: a random model of 7 billion weights has 15 GB.
    local work
    work=$(mktemp -d "$out/.work-XXXXXX")
    TMPDIR="$work" timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1
    local status=$? note=
    rm -rf "$work"
    ((status == 124 || status == 137)) && note=", stopped at the limit of $limit s"
    ((status == 0)) || failed=1
    summary+=("$name: status $status in $((SECONDS - start)) s$note")
    while read -r line; do summary+=("    $line"); done < <(grep -E "$pattern" "$out/$name.log" | tail -12)
    ((status == 0)) || while read -r line; do summary+=("    | $line"); done < <(tail -4 "$out/$name.log")
}

weights=$("$python" -c "from reviewtune.core.user_dirs import cache_folder; print(cache_folder())") || exit 1
has() { [[ -f $weights/$1/model.safetensors ]]; }

echo "logs: $out"
part environment 40 . "$python" -c '
import platform, subprocess, torch, transformers
print("python", platform.python_version(), "torch", torch.__version__, "transformers", transformers.__version__)
from reviewtune.local_server.engine.model_loading import device, fast_precision
from reviewtune.local_server.engine.training.memory import available_memory
place = device()
print("device", place, "precision", fast_precision(place), "memory", (available_memory(place) or 0) // 10**9, "GB")
if torch.cuda.is_available():
    print(torch.cuda.get_device_name(), "CUDA", torch.version.cuda, "capability", torch.cuda.get_device_capability())
    query = "--query-gpu=name,driver_version,memory.total,power.limit"
    print(subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True).stdout.strip())
else:
    print("torch sees no CUDA device: what follows runs on", place)
'

small=smollm2-135m-instruct
steps=20 rows=64 tests=tests/local_server/engine ways=(fine_tuned few_shot) memory_steps=2
if [[ $quick ]]; then
    steps=3 rows=8 tests=tests/local_server/engine/training/test_memory.py ways=(zero_shot) memory_steps=1
fi

if has $small; then
    # The large model comes early: it is what a GPU is for.
    part "random-$size" 150 "weights|written|training|opened|answers|memory" \
        "$python" benchmarks/random_model.py --size "$size" --tokenizer "$weights/$small" --steps $steps --rows $rows
    part tests 120 "passed|failed|error" "$python" -m pytest $tests -p no:cacheprovider
else
    summary+=("random-$size, tests: left out, no $small in $weights")
    failed=1
fi
for base in $small gemma-3-270m qwen2.5-coder-1.5b-instruct; do
    if ! has "$base"; then
        summary+=("$base: left out, not in $weights")
    elif [[ ! $quick ]]; then
        part "accuracy-$base" 70 "accuracy" "$python" benchmarks/accuracy.py --base "$weights/$base"
    elif [[ $base == "$small" ]]; then
        part "accuracy-$base" 90 "accuracy" "$python" benchmarks/accuracy.py --base "$weights/$base" \
            --train data/raw/reviews_en.csv --test data/raw/reviews_en.csv --labels 2 --per-label 4
    fi
done
for base in gemma-3-270m $small; do # the first one at hand
    has "$base" || continue
    part "speed-$base" 100 "training|epoch|/s by" "$python" benchmarks/engine_speed.py \
        --base "$weights/$base" --rows $((3 * rows)) --only "${ways[@]}"
    break
done
has $small && part memory 100 "estimated" \
    "$python" benchmarks/memory.py --base "$weights/$small" --steps $memory_steps

echo
echo "== summary, $((SECONDS - began)) s =="
printf '%s\n' "${summary[@]}"
exit $failed
