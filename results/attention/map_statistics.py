"""The attention maps of a trained encoder, and what they say.

A map A (.., T, T) has a row for each frame: A[i, j] is the weight that frame i gives to frame j, and each row sums to 1. A
number about maps means something only beside that of a map without content: the diagonality of a uniform map, for example, is
not 0 but almost 2/3.
"""

import torch
from speech_attention.attention.base import Attention
from speech_attention.model import SpeechEncoder
from torch import Tensor


def has_maps(model: SpeechEncoder) -> bool:
    """Whether all blocks of a model make attention maps. Those of SummaryMixing, for example, make none."""
    return all(isinstance(block.attention, Attention) for block in model.encoder.blocks)


@torch.no_grad()
def attention_maps(model: SpeechEncoder, samples: Tensor) -> Tensor:
    """The map of each layer and head, computed by the attention's own code.

    The output of an attention is linear in its values. If the values are the identity matrix, the output is the map. Each
    block's `mix` is therefore called again with columns of the identity in place of values, as many columns at a time as a
    value is wide. Where LLSA computes a frame several times, from different amounts of look-ahead, all of these count as that
    frame.

    Arguments
    ---------
    model : SpeechEncoder
        See `has_maps`.
    samples : torch.Tensor
        (samples,) of one utterance.

    Returns
    -------
    torch.Tensor
        (layers, heads, time, time), of the final version of each frame.

    Example
    -------
    >>> from functools import partial
    >>> from speech_attention.attention import SA
    >>> from speech_attention.blocks import TransformerBlock
    >>> from speech_attention.encoder import Encoder
    >>> from speech_attention.front_end import FbankFrontEnd
    >>> from speech_attention.model import SpeechEncoder
    >>> attention = partial(SA, num_heads=2, left_context=1, lookahead=0)
    >>> model = SpeechEncoder(FbankFrontEnd(8), Encoder(8, 16, 3, TransformerBlock, attention))
    >>> maps = attention_maps(model, torch.rand(4 * 640))
    >>> maps.shape
    torch.Size([3, 2, 4, 4])
    >>> maps[0, 0].count_nonzero(dim=1)  # frames that each frame sees
    tensor([1, 2, 2, 2])
    """
    maps, attentions = [], [block.attention for block in model.encoder.blocks]
    length = -(-len(samples) // model.front_end.hop)

    def watched(mix, layout):
        def mix_too(*parts, **options):
            v = parts[-1]  # (1, groups, frames, heads, head_dim)
            time, width = (v.size(1) - 1) * layout.chunk + layout.lookahead + 1, v.size(-1)
            identity = torch.eye(time, -(-time // width) * width, dtype=v.dtype)
            identity = layout.expand(identity[None])[:, :, :, None]  # (1, groups, frames, 1, time and a little)
            columns = [mix(*parts[:-1], some.expand_as(v), **options)[0] for some in identity.split(width, dim=-1)]
            rows = torch.cat(columns, dim=-1)[0, :, : layout.chunk].flatten(0, 1)  # (time, heads, time)
            maps.append(rows[:length, :, :length].transpose(0, 1))
            return mix(*parts, **options)

        return mix_too

    for attention in attentions:
        attention.mix = watched(attention.mix, attention.layout)
    try:
        model(samples[None], torch.tensor([len(samples)]))
    finally:
        for attention in attentions:
            del attention.mix  # the method is there again
    return torch.stack(maps)


def seen(maps: Tensor) -> Tensor:
    """Which frames each frame sees: those to which some map gives any weight. (.., T, T) -> (T, T) bool

    Example
    -------
    >>> seen(torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]]]))
    tensor([[ True, False],
            [ True,  True]])
    """
    return (maps > 0).flatten(0, -3).any(dim=0)


def uniform(visible: Tensor) -> Tensor:
    """The map that is uniform over what each frame sees. (T, T) bool -> (T, T)"""
    return visible / visible.sum(dim=-1, keepdim=True)


def distance_profile(maps: Tensor) -> Tensor:
    """How much attention goes how far: p(d) = (1/T) sum of A[i, j] over |i - j| = d.

    Its cumulative sum is the cumulative attention diagonality of Shim, Choi and Sung (ICLR 2022), C(r) at r = d / (T - 1).

    Arguments
    ---------
    maps : torch.Tensor
        (.., T, T).

    Returns
    -------
    torch.Tensor
        (.., T), p(0) .. p(T - 1); they sum to 1.
    """
    time = maps.size(-1)
    index = torch.arange(time)
    distance = (index[:, None] - index).abs().flatten()
    profile = maps.new_zeros(*maps.shape[:-2], time)
    return profile.index_add_(-1, distance, maps.flatten(-2)) / time


def diagonality(profile: Tensor) -> Tensor:
    """The area under the cumulative attention diagonality: D = integral of C(r) over r = 1 - E|i - j| / (T - 1).

    It is 1 for the identity, and (2T - 1) / (3T) for a uniform map, because E|i - j| = (T^2 - 1) / (3T) there. Diagonalities are
    comparable only at equal T.

    Arguments
    ---------
    profile : torch.Tensor
        (.., T), of `distance_profile`.

    Returns
    -------
    torch.Tensor
        (..)

    Example
    -------
    >>> diagonality(distance_profile(torch.stack([torch.eye(5), torch.full((5, 5), 0.2)])))
    tensor([1.0000, 0.6000])
    """
    distance = torch.arange(profile.size(-1))
    return 1 - (profile * distance).sum(dim=-1) / (profile.size(-1) - 1)


def overlaps(maps: Tensor) -> Tensor:
    """Overlap of each two maps: the mean over frames i of sum_j min(A[i, j], B[i, j]), which is 1 - total variation.

    Arguments
    ---------
    maps : torch.Tensor
        (layers, heads, T, T).

    Returns
    -------
    torch.Tensor
        (layers, layers, heads, heads): 1 for equal maps, 0 for those that look at nothing in common.
    """
    flat = maps.flatten(0, 1)
    rows = [torch.minimum(one, flat).sum(dim=(-2, -1)) / maps.size(-1) for one in flat]  # one at a time: memory
    return torch.stack(rows).unflatten(1, maps.shape[:2]).unflatten(0, maps.shape[:2]).transpose(1, 2)


def matched(overlap: Tensor) -> float:
    """The mean overlap of two layers' heads, paired greedily: the best pair first, then the best of what is left.

    Heads of layers that were trained apart have no common order, so each is compared with the head that resembles it.

    Arguments
    ---------
    overlap : torch.Tensor
        (heads, heads), of `overlaps`.

    Returns
    -------
    float

    Example
    -------
    >>> matched(torch.tensor([[0.2, 1.0], [0.5, 0.9]]))
    0.75
    """
    overlap, pairs = overlap.clone(), []
    for _ in range(len(overlap)):
        row, column = divmod(int(overlap.argmax()), len(overlap))
        pairs.append(overlap[row, column].item())
        overlap[row], overlap[:, column] = -1, -1
    return sum(pairs) / len(pairs)


def phone_attention(maps: Tensor, visible: Tensor, phones: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `lift` needs to know of one utterance. The results of several utterances are added up.

    The run of equal phones in which frame i stands is left out of what the frame sees. Let m_i be the attention that goes to
    the n_i frames that remain. If it were spread evenly, each of them would get m_i / n_i.

    Arguments
    ---------
    maps : torch.Tensor
        (layers, T, T).
    visible : torch.Tensor
        (T, T) bool, see `seen`.
    phones : torch.Tensor
        (T,) the number of each frame's phone; -1 where it is not known.
    number : int
        How many phones there are, P.

    Returns
    -------
    attention, even, pairs : torch.Tensor
        Sums over all pairs of a frame i of phone p and a frame j of phone q outside the run of i: of A[i, j], (layers, P, P); of
        m_i / n_i, (layers, P, P); and the number of these pairs, (P, P).
    """
    run = torch.cat([phones.new_zeros(1), phones.diff().ne(0).cumsum(0)])
    others = (visible & (run[:, None] != run)).double()
    maps = maps * others
    even = maps.sum(dim=-1, keepdim=True) / others.sum(dim=-1, keepdim=True).clamp(min=1) * others
    member = (phones[:, None] == torch.arange(number)).double()
    return tuple(member.T @ of @ member for of in (maps, even, others))


def lift(attention: Tensor, even: Tensor, pairs: Tensor, least: int = 1000) -> Tensor:
    """The phoneme attention relationship of Shim, Choi and Sung (ICLR 2022), as a ratio.

    It is the attention from phone p to phone q, over what the same attention would give to q if it were spread evenly over
    the frames that the frames of p see. It is 1 everywhere for a map that is uniform over what it sees.

    Arguments
    ---------
    attention, even, pairs
        Sums of `phone_attention`.
    least : int
        Two phones with fewer pairs of frames than this get NaN.

    Returns
    -------
    torch.Tensor
        (layers, P, P): from p (row) to q (column).
    """
    return (attention / even).masked_fill((pairs < max(least, 1)) | (even == 0), torch.nan)
