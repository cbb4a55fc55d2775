"""The one entry point: read an experiment, prepare its data, pre-train, fine-tune, test, summarise.

    python train.py hparams/llsa.yaml                                      # the embedded corpus, minutes on a CPU
    python train.py hparams/llsa.yaml --scale small --data_folder /path/to/LibriSpeech
    python train.py hparams/llsa.yaml --attention "{lookahead: 2}"         # change an entry
    python train.py hparams/llsa.yaml --stage show                         # the whole experiment in one YAML; nothing is run
    python train.py --help                                                 # all keys
    torchrun --nproc_per_node=4 -- train.py hparams/llsa.yaml --scale base --data_folder ... --precision bf16

Run again, the same command goes on where it was stopped.
"""

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import recipes

if __name__ == "__main__":
    recipes.end_silently_at_ctrl_c()
    if "WORLD_SIZE" in os.environ:  # else torch says in 25 lines of C++ that another process has ended
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import speechbrain as sb
from speechbrain.utils.distributed import ddp_barrier, if_main_process, run_on_main

from recipes import files, text_table
from recipes.command_line import exit_code
from recipes.LibriSpeech import experiment, options, processes, run_folder, saved, summary, trial
from recipes.LibriSpeech.checks import check_device
from recipes.LibriSpeech.data.dataset import load_sets
from recipes.LibriSpeech.decoding import arpa, beam_search
from recipes.LibriSpeech.decoding.wer import write_utterances
from recipes.LibriSpeech.training import checkpoint, logs, teacher
from recipes.LibriSpeech.training.finetune import FinetuneBrain
from recipes.LibriSpeech.training.pretrain import PretrainBrain, Pretraining, pretrains
from recipes.lock import lock


def main(arguments: Sequence[str]) -> int:
    """Run an experiment; 0, or 2 after one line about what the user can mend."""
    return exit_code(run, arguments, interrupted="stopped: the same command goes on from the last checkpoint")


def run(arguments: Sequence[str]) -> None:
    """The experiment from its YAML to its summary: each stage that is asked for and not done."""
    if {"-h", "--help"} & set(arguments):
        return print(options.help_text())
    several = processes.check()  # before SpeechBrain reads the same variables
    path, run_opts, overrides = options.parse(arguments)
    if several:
        processes.join(run_opts.distributed_backend)
    text = experiment.resolve(path, overrides)
    hparams, config = experiment.build(text, path)
    check_device(run_opts.device, hparams)
    hparams["teacher"] = teacher.find(hparams, run_opts.debug)
    trial.run(hparams)
    stage, hparams["command"] = hparams["stage"], run_folder.command(arguments)
    if stage == "show":  # as the folder of a run has it
        return print(text.replace("\nstage: show", "\nstage: all ", 1), end="")
    if run_opts.debug:  # beside the real run; each one overwrites the last
        hparams["output_folder"] = Path(f"{hparams['output_folder']}-debug")
    if hparams["lm"] is not None:
        beam_search.check(hparams["lm"], hparams["lm_folder"], hparams["tokens"])
    logs.check(hparams)
    with lock(hparams["output_folder"]):
        sets, manifests = prepare(hparams, config, text, run_opts)
        if pretrains(hparams):
            pretrain(hparams, config, run_opts, sets)
        if stage != "pretrain":
            brain = finetune(hparams, config, run_opts, sets)
            if stage != "finetune":
                test(brain, hparams, config, sets, manifests)


def prepare(hparams: dict, config: dict, text: str, run_opts: sb.RunOptions) -> tuple[dict, dict]:
    """Check what is in the folder, prepare the data, and take the folder for this experiment; data sets and manifests."""
    if run_opts.debug and hparams["stage"] in ("all", "pretrain"):
        run_on_main(run_folder.clear, args=[hparams["output_folder"]])
    run_folder.check(hparams["output_folder"], config)  # before the data, which can take long, and with them
    checkpoint.check(hparams, config, run_opts.debug)
    teacher.check(hparams["output_folder"], hparams["teacher"])
    sets, manifests, learned = load_sets(hparams, teacher.tokens_from(hparams))
    config["data"] = {split: manifest.sha256 for split, manifest in manifests.items()} | learned
    run_folder.check(hparams["output_folder"], config)
    evaluated = {split: config["data"][split] for split in (*hparams["dev_splits"], *hparams["test_splits"])}
    for start in (hparams["weights"] or hparams["pretrained"], config["teacher"]):
        run_folder.check_start(start, evaluated)
    if hparams["lm"] is not None and hparams["stage"] in ("all", "test") and if_main_process():
        hparams["arpa"] = arpa.find_arpa(hparams["lm"], hparams["lm_folder"], arpa.evaluated(sets), hparams["tokens"])
    run_folder.save(hparams["output_folder"], text, config["data"], hparams["command"])
    logs.write_environment(hparams["output_folder"])
    return sets, manifests


def pretrain(hparams: dict, config: dict, run_opts: sb.RunOptions, sets: dict) -> None:
    """Pre-train unless done; leaves `pretrain/encoder.ckpt`."""
    model, done = hparams["model"], hparams["output_folder"] / "pretrain" / "encoder.ckpt"
    if done.exists():
        try:
            checkpoint.load_encoder(done, model, checkpoint.architecture(config, hparams["tokens"].texts))
            return processes.tell(f"pre-training is done: {done}")
        except saved.Damaged:
            processes.tell(f"{done} is damaged: it is written anew from the last checkpoint")
    checkpoint.fit_front_end(model.front_end, sets["train"])
    objective = teacher.make_objective(hparams, hparams["teacher"])
    modules = {"pretraining": Pretraining(model, objective)}
    brain = PretrainBrain("pretrain", modules, hparams, run_opts, sets["train"], sets["dev"])
    if hparams["teacher"]:
        teacher.write(hparams["output_folder"], hparams["teacher"])
    brain.run()
    if if_main_process():
        trained = getattr(objective, "head", None) is model.head
        checkpoint.save_encoder(done, model, checkpoint.architecture(config, hparams["tokens"].texts), head=trained)
    ddp_barrier()


def finetune(hparams: dict, config: dict, run_opts: sb.RunOptions, sets: dict) -> FinetuneBrain:
    """Fine-tune from the starting weights, or go on with it, unless only a test is asked for; the Brain."""
    brain = FinetuneBrain("finetune", {"model": hparams["model"]}, hparams, run_opts, sets["train"], sets["dev"])
    if hparams["stage"] == "test":
        return brain
    # Where there are checkpoints, `run` goes on from the last one.
    if not brain.checkpointer.list_checkpoints() and not checkpoint.starting_weights(hparams, config):
        checkpoint.fit_front_end(hparams["model"].front_end, sets["train"])
    brain.run()
    return brain


def test(brain: FinetuneBrain, hparams: dict, config: dict, sets: dict, manifests: dict) -> None:
    """Test every test split, offline and streaming, write `summary.json` and files of utterances, print the table."""
    folder = hparams["output_folder"]
    offline = {split: brain.test(data) for split, data in sets["test"].items()}  # by all processes
    if not if_main_process():
        return
    for split, (_, utterances, *_) in offline.items():
        write_utterances(folder / f"utterances-{split}.tsv", utterances)
    streaming, with_lm = None, None
    if math.isfinite(hparams["model"].lookahead):
        streaming = {split: brain.test_streaming(data, offline[split][1]) for split, data in sets["test"].items()}
        for split, (_, utterances, _) in streaming.items():
            write_utterances(folder / f"utterances-{split}-streaming.tsv", utterances)
    if hparams["lm"] is not None:
        lm, description = hparams["arpa"]
        with_lm = beam_search.test(brain, lm, description, sets, folder)
    start = run_folder.origin(hparams)
    tested = summary.Tested(offline, streaming, with_lm)
    result = summary.build(hparams, experiment.identity(config), start, teacher.record(folder), brain, tested, manifests)
    files.write_json(folder / "summary.json", result)
    print("\n" + text_table.table(summary.summary_rows(summary.Summary(result))))
    print(f"\nsummary: {folder / 'summary.json'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
