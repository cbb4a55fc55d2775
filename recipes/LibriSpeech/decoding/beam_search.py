"""A second column of word error rates: CTC beam search with a word n-gram.

Of all sentences of words that the n-gram knows, the search looks for the one with the highest

    ln p(sentence | audio) + weight * log10 p(sentence) + word_score * words

The two weights are those with the lowest word error rate on the dev set. The search is flashlight's, through torchaudio, the
n-gram is read by KenLM. The n-gram is an ARPA file, or estimated from a text (see `ngram`), without the sentences that it
is tested on.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import if_main_process
from tqdm import tqdm

from recipes.command_line import UserError
from recipes.LibriSpeech.data.dataset import spread
from recipes.LibriSpeech.decoding import ngram
from recipes.LibriSpeech.decoding.arpa import is_arpa, read_head
from recipes.LibriSpeech.decoding.wer import Utterance, Words, score, write_utterances
from recipes.LibriSpeech.tokens import LETTERS, Tokens
from recipes.LibriSpeech.training.finetune import FinetuneBrain

BEAM, BEAM_TOKENS, BEAM_THRESHOLD = 200, 10, 20.0
"""The search keeps so many sentences after each frame, tries so many tokens for each, and drops what is so far below the best."""
START, STEPS = (2.0, 0.0), (0.5, 1.0)
"""Where the search for the two weights begins, and its first steps."""
NO_TOKEN = "<none>"
"""What the search is told to be a silence, where no token is one."""
DEV_UTTERANCES = 200
"""The weights are chosen on at most so many utterances."""


def test(
    brain: FinetuneBrain, arpa: Path, description: dict[str, Any], sets: Mapping[str, Any], folder: Path
) -> tuple[dict[str, dict], dict[str, Any], dict[str, list[Utterance]]]:
    """Word error rates of a test with a language model. Call it after `brain.test`, whose checkpoint it uses.

    Arguments
    ---------
    brain : FinetuneBrain
    arpa, description
        As `arpa.find_arpa` returns them.
    sets : dict
        `dev`, a DynamicItemDataset, and `test`, one for each split.
    folder : Path
        Where the utterances of each test split are written.

    Returns
    -------
    scores : dict
        `Score.as_dict()` of each test split.
    description : dict
        Of the language model, its weights, and how they were chosen.
    utterances : dict
        List of Utterance of each test split.
    """
    search = BeamSearch(arpa, brain.hparams.tokens)
    some = set(spread(sets["dev"].data_ids, DEV_UTTERANCES))
    dev, references = log_probs(brain, sets["dev"].filtered_sorted(key_test={"id": some.__contains__}), "dev")
    weight, word_score, dev_wer = choose_weights(search, dev, references)
    description = {**description, "beam": BEAM, "beam_tokens": BEAM_TOKENS, "beam_threshold": BEAM_THRESHOLD}
    description |= {"weight": weight, "word_score": word_score, "dev_wer": round(dev_wer, 3), "dev_utterances": len(dev)}
    scores, utterances = {}, {}
    for split, data in sets["test"].items():
        heard, references = log_probs(brain, data, split)
        total, utterances[split] = score(references, search.decode(heard, weight, word_score, f"{split} with LM"))
        write_utterances(folder / f"utterances-{split}-lm.tsv", utterances[split])
        scores[split] = total.as_dict()
    return scores, description, utterances


def check(path: str | Path, cache: str | Path, tokens: Tokens = LETTERS) -> None:
    """Refuse a language model that cannot be used, before anything else is done, even before `tokens` have learned; see
    `arpa.find_arpa` for the arguments."""
    if not Path(path).is_file():
        raise UserError(f"lm={path} is not a file: give a text or an ARPA file, plain or gzipped")
    if Path(cache).exists() and not Path(cache).is_dir():
        raise UserError(f"lm_folder={cache} is not a folder: give one to keep n-grams in")
    try:
        import flashlight.lib.text.decoder.kenlm  # noqa: F401
    except ImportError as error:
        raise UserError("a language model needs flashlight-text: pip install -e '.[lm]' (Python 3.10 to 3.12)") from error
    if not if_main_process():  # which alone searches
        return
    if is_arpa(path):
        BeamSearch(path, tokens)
    elif odd := ngram.odd_words(*ngram.read_text(path, tokens=tokens)[:2], tokens):
        print(f"WARNING: {path}: {odd[1]}: the search never writes them", file=sys.stderr)


class BeamSearch:
    """CTC beam search over the words of a language model that can be written in `tokens`, in their case.

    Arguments
    ---------
    arpa : str or Path
        An ARPA file, plain or gzipped.
    tokens : Tokens
    """

    def __init__(self, arpa: str | Path, tokens: Tokens = LETTERS):
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary

        words = [word for word in read_head(arpa)[1] if not tokens.foreign.search(tokens.written(word))]
        if not words:
            raise UserError(f"{arpa} has no word that can be written in {tokens.named}")
        if len(set(words)) < len(words):
            raise UserError(f"{arpa} has the word {Counter(words).most_common(1)[0][0]} twice: see what made it")
        self.tokens, self.words = tokens, Dictionary(["<unk>", *words])
        self.texts, self.end = (list(tokens.texts), tokens.separator) if tokens.separator else ([*tokens.texts, NO_TOKEN], -1)
        self.spellings = {word: [self._spelling(word)] for word in words} if tokens.texts else {}
        try:
            self.lm = KenLM(str(arpa), self.words)
        except RuntimeError as error:
            raise UserError(f"{arpa} is not an ARPA file that KenLM reads: {str(error).splitlines()[-1]}") from error

    def _spelling(self, word: str) -> list[str]:
        """The tokens of a word, and the one that ends it, if there is such a one."""
        numbers = self.tokens.encode(self.tokens.written(word)).tolist()
        return [self.texts[number] for number in (*numbers, *filter(None, [self.tokens.separator]))]

    def decode(
        self, log_probs: Mapping[str, torch.Tensor], weight: float, word_score: float, description: str | None = None
    ) -> dict[str, list[str]]:
        """The best words of each utterance.

        Arguments
        ---------
        log_probs : dict
            From utterance id to log-probabilities, (frames, tokens).
        weight, word_score : float
        description : str or None
            Of a progress bar; None: no bar.

        Returns
        -------
        dict
            From utterance id to the list of words.
        """
        from flashlight.lib.text.decoder import CriterionType, LexiconDecoderOptions
        from flashlight.lib.text.dictionary import Dictionary
        from torchaudio.models.decoder import CTCDecoder

        options = LexiconDecoderOptions(
            beam_size=BEAM, beam_size_token=BEAM_TOKENS, beam_threshold=BEAM_THRESHOLD, lm_weight=weight, word_score=word_score,
            unk_score=float("-inf"), sil_score=0.0, log_add=True, criterion_type=CriterionType.CTC,
        )  # fmt: skip
        names, blank, silence = Dictionary(self.texts), self.texts[0], self.texts[self.end]
        decoder = CTCDecoder(1, self.spellings, self.words, names, self.lm, options, blank, silence, "<unk>")
        found: dict[str, list[str]] = {}
        for name, frames in tqdm(log_probs.items(), desc=description, disable=None if description else True, leave=False):
            best = decoder(self._as_searched(frames)[None])[0]
            found[name] = [self.tokens.written(word) for word in best[0].words] if best else []
        return found

    def _as_searched(self, frames: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (frames, tokens) in the form in which the search finds the end of each word.

        A token that ends words stands once more at the end. Where there is none, the search does not let the last token of a
        word last: of frames in which one token is the best all through, one is made, with the sum of their log-probabilities.
        """
        if self.tokens.separator:
            last = torch.full((1, frames.size(1)), -1e4)
            last[0, self.end] = 0.0
            return torch.cat([frames, last])
        best = frames.argmax(dim=-1)
        begins = torch.cat([best[:1] >= 0, (best[1:] == 0) | (best[1:] != best[:-1])])
        joined = torch.zeros(int(begins.sum()), frames.size(1)).index_add(0, begins.cumsum(0) - 1, frames)
        return torch.nn.functional.pad(joined, (0, 1), value=-1e4)  # and the token that is none


def log_probs(
    brain: FinetuneBrain, data: DynamicItemDataset, description: str
) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """What the model hears in a set: log-probabilities (frames, tokens) on the CPU, and words, of each utterance by its id."""
    model = brain.model  # itself: only the main process is here
    heard: dict[str, torch.Tensor] = {}
    references: dict[str, list[str]] = {}
    for batch in tqdm(brain.eval_loader(data), desc=f"{description} log-probabilities", disable=None, leave=False):
        samples, lengths = brain.audio(batch, sb.Stage.TEST)
        with torch.inference_mode(), brain.evaluation_ctx:
            rows, frames = model(samples, lengths)
        heard |= {name: row[:n].to("cpu", torch.float32, copy=True) for name, row, n in zip(batch.id, rows, frames.tolist())}
        references |= {name: text.split() for name, text in zip(batch.id, batch.words)}
    return heard, references


def choose_weights(search: BeamSearch, log_probs: Mapping[str, torch.Tensor], references: Words) -> tuple[float, float, float]:
    """The weights with the lowest word error rate on a set: from `START` to the best neighbour, until none is better.

    Arguments
    ---------
    search : BeamSearch
    log_probs, references : dict
        As the function `log_probs` returns them.

    Returns
    -------
    weight, word_score, wer : float
        Of equally good pairs the one that was tried first.
    """
    found: dict[tuple[float, float], float] = {}
    best, before = START, None
    with tqdm(desc="weights of the language model", unit=" pairs", disable=None, leave=False) as bar:
        while best != before:
            before = best
            for a, b in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
                pair = best[0] + a * STEPS[0], best[1] + b * STEPS[1]
                if pair[0] >= 0 and pair not in found:
                    words = search.decode(log_probs, *pair)
                    found[pair] = score(references, words, resamples=1)[0].wer
                    bar.update()
            best = min(found, key=found.__getitem__)
    return *best, found[best]
