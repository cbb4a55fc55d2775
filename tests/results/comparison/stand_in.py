"""What reproduce.py needs of a training, without one: steps of a few milliseconds, checkpoints, a log, a summary.

It is copied to a folder as train.py. `configs/<run>.json` there is what a run is configured as, for its summary. What it does,
it writes to `<run folder>/steps`, a line for each step with its process, and `device`; `overlap` appears where two are at it.
"""

import json
import os
import sys
import time
from pathlib import Path

STEPS, EVERY = 12, 3  # steps, steps from one checkpoint to the next
SECONDS = float(os.environ.get("STEP_SECONDS", 0.03))

options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
run = f"{options['--name']}-{options['--scale']}-librispeech-seed{options['--seed']}"
folder = Path("results/runs", run)
(folder / "finetune").mkdir(parents=True, exist_ok=True)
(folder / "device").write_text(options.get("--device", ""))
(folder / "hyperparams.yaml").write_text(f"pretrain: {{epochs: 0}}\nfinetune: {{epochs: {STEPS // EVERY}}}\ndata: {{}}\n")

alive = folder / "alive"
if alive.exists() and Path("/proc", alive.read_text() or "0", "cwd").exists():
    (folder / "overlap").touch()
alive.write_text(str(os.getpid()))
if "--weights" in options:
    assert Path(options["--weights"], "summary.json").exists()

checkpoint = folder / "checkpoint"
done = int(checkpoint.read_text()) if checkpoint.exists() else 0
for step in range(done, STEPS):
    time.sleep(SECONDS)
    with open(folder / "steps", "a") as steps:
        steps.write(f"{step} {os.getpid()}\n")
    if (step + 1) % EVERY == 0:
        with open(folder / "finetune" / "log.jsonl", "a") as log:
            log.write("{}\n")
        partial = checkpoint.with_suffix(".partial")
        partial.write_text(str(step + 1))
        os.replace(partial, checkpoint)
if options["--name"] == "broken":
    sys.exit("something\nerror: out of luck")
config, partial = json.loads(Path("configs", f"{run}.json").read_text()), folder / "summary.partial"
score = {"wer": 9.0, "low": 8.0, "high": 10.0}
partial.write_text(json.dumps({"config": config, "utterances": {}, "wer": {"test-clean": score}, "lm": options.get("--lm")}))
os.replace(partial, folder / "summary.json")
