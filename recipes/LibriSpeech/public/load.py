"""The weights of a public encoder in a model of this project."""

import re
from collections.abc import Iterator

import torch
from speech_attention.model import SpeechEncoder
from torch import Tensor

from recipes.command_line import UserError
from recipes.LibriSpeech import processes
from recipes.LibriSpeech.public import folder
from recipes.LibriSpeech.public.families import Names
from recipes.LibriSpeech.public.shape import family

NEW = re.compile(r"encoder\.blocks\.(\d+)\.attention\.")
"""What the names of tensors begin with that may start anew: those of an attention that the public encoder has not."""


def sources(names: Names, own: str) -> list[str]:
    """The names there of what a tensor here is made of; none if it has nothing there.

    Example
    -------
    >>> sources({r"blocks\\.(\\d+)\\.qkv": [r"layers.\\1.q", r"layers.\\1.k", r"layers.\\1.v"]}, "blocks.7.qkv")
    ['layers.7.q', 'layers.7.k', 'layers.7.v']
    """
    for pattern, there in names.items():
        if match := re.fullmatch(pattern, own):
            return [match.expand(source) for source in there]
    return []


@torch.no_grad()
def load(model: SpeechEncoder, name: str) -> None:
    """Give the front end and the encoder of a model the weights of a public encoder, and say what starts anew.

    Arguments
    ---------
    model : SpeechEncoder
        Of an experiment with `start`.
    name : str
        See `folder.find`.

    Raises
    ------
    UserError
        If a tensor is missing, or has another shape.
    """
    described, _ = family(name)
    there, own = folder.tensors(name), model.state_dict()
    wanted = {key: found for key in own if (found := sources(described.names, key))}
    every = [source for found in wanted.values() for source in found]
    if missing := [source for source in every if source not in there and not re.fullmatch(described.zeros, source)]:
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise UserError(f"start={name} lacks {missing[0]}{more}: its {folder.CONFIG} and its weights belong to two encoders")
    state = {key: torch.cat(list(_parts(there, found, own[key], name))) for key, found in wanted.items()}
    if bad := next((key for key, tensor in state.items() if not tensor.isfinite().all()), None):
        raise UserError(f"start={name} has weights that are not finite, the first in {wanted[bad][0]}: put a sound copy there")
    model.load_state_dict({**own, **state})
    new = {NEW.sub("", key): None for key in own if key not in wanted and NEW.match(key)}
    if new:
        processes.tell(f"{len(new)} tensors of each layer start anew: attention.{', attention.'.join(new)}")


def _parts(there: dict[str, Tensor], wanted: list[str], own: Tensor, name: str) -> Iterator[Tensor]:
    """The tensors of which one here is made, laid end to end, with its type; zeros for what isn't there."""
    shape = torch.Size([own.size(0) // len(wanted), *own.shape[1:]])
    for source in wanted:
        part = there.get(source, own.new_zeros(shape))
        if part.squeeze().shape != shape and part.shape != shape:
            raise UserError(
                f"start={name}: {source} is {tuple(part.shape)}, and {tuple(shape)} by its {folder.CONFIG}: "
                "its files belong to two encoders"
            )
        yield part.reshape(shape).to(own.dtype)
