"""The one entry point: prepare data, pre-train, fine-tune, test, summarise.

    python train.py hparams/llsa.yaml                                      # the embedded corpus, minutes on a CPU
    python train.py hparams/llsa.yaml --scale small --data_folder /path/to/LibriSpeech
    python train.py hparams/llsa.yaml --attention "{lookahead: 2}"         # change an entry
    torchrun --nproc_per_node=4 train.py hparams/llsa.yaml --scale base --data_folder ... --precision bf16

Run again, the same command goes on where it was stopped.
"""

import math
import sys
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.distributed import ddp_barrier, ddp_init_group, if_main_process, run_on_main

from recipes import files, text_table
from recipes.command_line import UserError
from recipes.LibriSpeech import experiment, summary
from recipes.LibriSpeech.data import prepare
from recipes.LibriSpeech.data.dataset import dataset
from recipes.LibriSpeech.data.download import download
from recipes.LibriSpeech.data.synthetic import embedded_corpus
from recipes.LibriSpeech.decoding import beam_search
from recipes.LibriSpeech.decoding.wer import write_utterances
from recipes.LibriSpeech.training import checkpoint, logs
from recipes.LibriSpeech.training.finetune import FinetuneBrain
from recipes.LibriSpeech.training.pretrain import PretrainBrain, Pretraining


def main(arguments):
    """Run an experiment; 0, or 2 after one line about what the user can mend."""
    try:
        path, run_opts, overrides = sb.parse_arguments(arguments)
        ddp_init_group(run_opts)
        run(path, run_opts, overrides, experiment.command(arguments))
    except (UserError, OSError) as error:  # of the latter: no permission, a file where a folder should be, a full disk
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def run(path, run_opts, overrides, command):
    """Prepare, then each stage that is asked for and not done."""
    hparams, config = experiment.load(path, overrides, {name: run_opts[name] for name in run_opts.overridden_args})
    stage, hparams["command"] = hparams["stage"], command
    check_device(run_opts, hparams)
    if hparams["lm"] is not None:
        beam_search.check(hparams["lm"])
    logs.check(hparams)
    if run_opts.debug:  # beside the real run; each one overwrites the last
        hparams["output_folder"] = hparams["output_folder"].with_name(hparams["output_folder"].name + "-debug")
        if stage in ("all", "pretrain"):
            run_on_main(experiment.clear_folder, args=[hparams["output_folder"]])
    experiment.check_folder(hparams["output_folder"], config)  # before the data, which can take long, and with them
    sets, manifests = prepare_data(hparams)
    config["data"] = {split: manifest.sha256 for split, manifest in manifests.items()}
    experiment.check_folder(hparams["output_folder"], config)
    experiment.save_config(hparams["output_folder"], config)
    logs.write_environment(hparams["output_folder"])
    start = hparams["pretrained"] or hparams["weights"]
    if stage in ("all", "pretrain") and hparams["pretrain"]["epochs"] and not start:
        pretrain(hparams, config, run_opts, sets)
    if stage == "pretrain":
        return
    brain = finetune(hparams, config, run_opts, sets)
    if stage == "finetune":
        return
    test(brain, hparams, config, run_opts, sets, manifests)


def check_device(run_opts, hparams):
    """Refuse a device that is not there before anything is done."""
    try:
        torch.zeros(1, device=run_opts.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"no device {run_opts.device}: {str(error).splitlines()[0]}") from error
    if str(run_opts.device).startswith("cpu") and "fp16" in (hparams["precision"], hparams["eval_precision"]):
        raise UserError("fp16 needs a GPU: use --precision bf16 or fp32")


def prepare_data(hparams):
    """The sets of the experiment, and the manifest of each split.

    Returns
    -------
    sets : dict
        `train` and `dev`, a DynamicItemDataset each, and `test`, one for each split.
    manifests : dict
        Manifest of each split.
    """
    folder = hparams["data_folder"]
    groups = {name: hparams[f"{name}_splits"] for name in ("train", "dev", "test")}
    splits = list(dict.fromkeys(split for group in groups.values() for split in group))
    if folder is None:
        folder = hparams["embedded_folder"]
        folder = main_first(embedded_corpus, folder)
    elif hparams["download"]:
        main_first(download, splits, folder)
    saved = hparams["output_folder"] / "manifests"
    manifests = main_first(prepare.prepare, folder, saved, splits, hparams["skip_bad"])
    root = prepare.find_root(folder)
    sets = {name: dataset([manifests[split] for split in groups[name]], root) for name in ("train", "dev")}
    sets["test"] = {split: dataset([manifests[split]], root) for split in groups["test"]}
    return sets, manifests


def main_first(function, *arguments):
    """The result of `function` on every process: the main one makes it, the others then find it made."""
    if not if_main_process():
        ddp_barrier()
    result = function(*arguments)
    if if_main_process():
        ddp_barrier()
    return result


def architecture(config):
    """What a pre-trained encoder must share with the experiment that loads it."""
    keys = ("block", "front_end", "dim", "ffn_dim", "num_layers", "owners")
    return {"attention": checkpoint.attention(config), **{key: config[key] for key in keys}}


def fit_front_end(hparams, train, utterances=300):
    """Normalise features by statistics of some training utterances, spread over all."""
    some = range(0, len(train), max(1, len(train) // utterances))
    hparams["front_end"].fit(train[index]["sig"] for index in some)


def pretrain(hparams, config, run_opts, sets):
    """Pre-train unless done; leaves `pretrain/encoder.ckpt`."""
    model, done = hparams["model"], hparams["output_folder"] / "pretrain" / "encoder.ckpt"
    if done.exists():
        print(f"pre-training is done: {done}")
        return
    fit_front_end(hparams, sets["train"])
    try:
        objective = hparams["objective"](front_end=model.front_end, dim=hparams["dim"])
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"objective: {' '.join(str(error).split())}") from error
    modules = {"pretraining": Pretraining(model, objective)}
    PretrainBrain("pretrain", modules, hparams, run_opts, sets["train"], sets["dev"]).run()
    if if_main_process():
        checkpoint.save_encoder(done, model, architecture(config))
    ddp_barrier()


def finetune(hparams, config, run_opts, sets):
    """Fine-tune from the pre-trained encoder or other weights, or go on with it, unless only a test is asked for; the Brain."""
    folder, model = hparams["output_folder"], hparams["model"]
    brain = FinetuneBrain("finetune", {"model": model}, hparams, run_opts, sets["train"], sets["dev"])
    if hparams["stage"] == "test":
        if not brain.checkpointer.find_checkpoint(min_key="WER"):  # of the end of an epoch
            raise UserError(f"nothing to test in {folder}: fine-tune first (--stage finetune, or no --stage)")
        return brain
    if brain.checkpointer.list_checkpoints():
        pass  # fit goes on from the last one
    elif hparams["weights"]:
        checkpoint.load_weights(hparams["weights"], model, architecture(config), hparams["any_attention"])
    elif hparams["pretrained"] or hparams["pretrain"]["epochs"]:
        source = Path(hparams["pretrained"] or folder / "pretrain" / "encoder.ckpt")
        checkpoint.load_encoder(source, model, architecture(config), hparams["any_attention"])
    else:
        fit_front_end(hparams, sets["train"])
    brain.run()
    return brain


def test(brain, hparams, config, run_opts, sets, manifests):
    """Test every test split, offline and streaming, write `summary.json` and files of utterances, print the table."""
    folder = hparams["output_folder"]
    offline = {split: brain.test(data) for split, data in sets["test"].items()}  # by all processes
    if not if_main_process():
        return
    for split, (_, utterances, *_) in offline.items():
        write_utterances(folder / f"utterances-{split}.tsv", utterances)
    streaming, with_lm = None, None
    if math.isfinite(hparams["model"].encoder.lookahead):
        streaming = {split: brain.test_streaming(data, offline[split][1]) for split, data in sets["test"].items()}
        for split, (_, utterances, _) in streaming.items():
            write_utterances(folder / f"utterances-{split}-streaming.tsv", utterances)
    if hparams["lm"] is not None:
        with_lm = beam_search.test(brain, hparams["lm"], hparams["lm_folder"], sets, folder)
    start = experiment.origin(hparams["weights"] or hparams["pretrained"])
    tested = summary.Tested(offline, streaming, with_lm)
    result = summary.build(hparams, experiment.identity(config), start, brain, tested, manifests)
    files.write_json(folder / "summary.json", result)
    print("\n" + text_table.table(summary.summary_rows(summary.Summary(result))))
    print(f"\nsummary: {folder / 'summary.json'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
