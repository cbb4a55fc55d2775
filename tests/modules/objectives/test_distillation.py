"""Distillation: what a layer's output is, what the student learns of it, and how late it may be."""

import copy
import math

import pytest
import torch
from cases import ATTENTIONS, BLOCKS, DIM, EDGES, assert_close, build_encoder, every_case, noise
from speech_attention.encoder import Encoder
from speech_attention.front_end import FbankFrontEnd, WhisperFrontEnd
from speech_attention.model import CTCModel, SpeechEncoder
from speech_attention.objectives import CTCDistillation, Distillation
from speech_attention.testing import randomise
from torch import nn

TOKENS, WIDE = 5, 12
SAMPLES, LENGTHS = noise(3, 9000), torch.tensor([9000, 5200, 300])


def model(attention, front_end=FbankFrontEnd, dim=DIM, depth=2, seed=0, **options):
    """A small system in float64, in training mode."""
    torch.manual_seed(seed)
    encoder = Encoder(dim, dim, depth, BLOCKS["Transformer"], {**ATTENTIONS, **EDGES}[attention].factory(), **options)
    made = CTCModel(front_end(dim), randomise(encoder), TOKENS)
    nn.init.normal_(made.head.weight, std=2.0)
    return made.double()


def student_and_teacher():
    """A narrow student that streams, and a teacher that hears all, is wider, and has another layer."""
    return model("LLSA-chunk3"), model("AA", dim=WIDE, depth=3, seed=1)


def distil(kind, student, teacher, **options):
    """An objective in float64."""
    torch.manual_seed(3)
    given = {"dim": DIM} if kind is Distillation else {"head": student.head}
    made = kind(front_end=student.front_end, teacher=teacher, **given, **options)
    return randomise(made).double()  # the heads of layers begin at zero


KINDS = {"layers": (Distillation, {"layers": [1, 2], "teacher_layers": [2, 3]}), "CTC": (CTCDistillation, {"delays": [0, 3]})}
every_kind = pytest.mark.parametrize("kind, options", argvalues=KINDS.values(), ids=KINDS.keys())


def gradients(loss, student, objective):
    """The gradients of a loss, by name; those of the front end, the encoder and the objective."""
    modules = nn.ModuleDict({"front_end": student.front_end, "encoder": student.encoder, "objective": objective})
    modules.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in modules.named_parameters()}


# Outputs of layers


@every_case
def test_outputs_of_a_layer_are_those_of_the_stack_that_ends_with_it(case):
    """Where a layer is the last one, it computes final frames alone; in LLSA the frames around them are left out."""
    encoder = build_encoder(case, BLOCKS["Transformer"])
    x, lengths, outputs = noise(2, 10, DIM), torch.tensor([10, 7]), []
    encoder(x, lengths, outputs)
    assert len(outputs) == len(encoder.blocks) - 1
    for depth, output in enumerate(outputs, 1):
        first = copy.deepcopy(encoder)
        first.blocks, first.norm = first.blocks[:depth], nn.Identity()
        first.blocks[-1].last = True
        assert_close(output, first(x, lengths)[0])


# The losses, as plain loops


def layers_alone(system, samples):
    """(time, dim) for each layer of a system that hears one utterance."""
    x, lengths = system.front_end(samples[None], torch.tensor([len(samples)]))
    outputs = []
    y, _ = system.encoder(x, lengths, outputs)
    return [output[0] for output in (*outputs, y)]


def plain_layers(objective, student, teacher):
    """Frame by frame, channel by channel."""
    losses = []
    for head, mine, theirs in zip(objective.heads, [1, 2], [2, 3]):
        errors = []
        for samples, length in zip(SAMPLES, LENGTHS):
            predicted = head(layers_alone(student, samples[:length])[mine - 1])
            target = layers_alone(teacher, samples[:length])[theirs - 1].detach()
            for channel in range(WIDE):
                values = target[:, channel]
                mean = sum(values) / len(values)
                variance = sum((value - mean) ** 2 for value in values) / len(values)
                for t in range(len(values)):
                    errors.append((predicted[t, channel] - (values[t] - mean) / (variance + 1e-5) ** 0.5) ** 2)
        losses.append(sum(errors) / len(errors))
    return sum(losses) / 2


def plain_ctc(objective, student, teacher):
    """Delay by delay, frame by frame, token by token."""
    total = 0
    for samples, length in zip(SAMPLES, LENGTHS):
        q = student.head(layers_alone(student, samples[:length])[-1]).softmax(dim=-1)
        p = teacher.head(layers_alone(teacher, samples[:length])[-1]).softmax(dim=-1).detach()
        losses = []
        for delay in range(4):
            weighted, weights = 0, 0
            for t in range(len(q)):
                told = p[t - delay] if t >= delay else torch.eye(TOKENS, dtype=torch.float64)[0]
                weight = told[0] * 0.25 + (1 - told[0])
                weighted = weighted + weight * sum(a * (a / b).log() for a, b in zip(told, q[t]) if a > 0)
                weights = weights + weight
            losses.append(weighted / weights)
        total = total + min(losses, key=torch.Tensor.item)
    return total / len(SAMPLES)


@pytest.mark.parametrize("kind, options, plain", [(*KINDS["layers"], plain_layers), (*KINDS["CTC"], plain_ctc)], ids=KINDS)
def test_loss_and_gradients_are_those_of_a_plain_loop(kind, options, plain):
    """In a padded batch with NaN in the padding, for a student of another width and depth than the teacher's."""
    student, teacher = student_and_teacher()
    objective, samples = distil(kind, student, teacher, **options), SAMPLES.clone()
    for row, length in zip(samples, LENGTHS):
        row[length:] = math.nan
    loss, _ = objective(student.front_end, student.encoder, samples, LENGTHS)
    expected = plain(objective, student, teacher)
    assert_close(loss, expected)
    actual, expected = gradients(loss, student, objective), gradients(expected, student, objective)
    for name in expected:
        assert_close(actual[name], expected[name])
    assert all(gradient.abs().max() > 1e-9 for gradient in actual.values())  # no parameter is left out, for DDP


# The teacher


@every_kind
def test_the_teacher_is_frozen_and_no_part_of_the_objective(kind, options):
    student, teacher = student_and_teacher()
    objective = distil(kind, student, teacher, **options)
    objective.train()
    assert not any(module.training for module in teacher.modules())
    loss, _ = objective(student.front_end, student.encoder, SAMPLES, LENGTHS)
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert len(objective.state_dict()) == (2 if kind is CTCDistillation else 8)  # of the heads alone
    objective.to(torch.float32)
    assert next(teacher.parameters()).dtype == torch.float32  # it moves along


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mixed_precision(kind, options, dtype):
    student, teacher = student_and_teacher()
    objective = distil(kind, student.float(), teacher.float(), **options).float()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss, stats = objective(student.front_end, student.encoder, SAMPLES.float(), LENGTHS)
    exact, _ = distil(kind, student.double(), teacher.double(), **options)(student.front_end, student.encoder, SAMPLES, LENGTHS)
    assert loss.dtype == torch.float32 and all(map(math.isfinite, stats.values()))
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4 if dtype == torch.float32 else 0.1)


def whisper(form, pool=1):
    return lambda dim: WhisperFrontEnd(dim, num_mels=4, form=form, pool=pool)


@pytest.mark.parametrize("samples", [9000, 9100])
def test_the_teacher_hears_what_a_late_front_end_hears(samples):
    """Whisper's streaming form hears the audio 200 samples later: with one ceiling and one set of weights, layers that read a
    single frame agree in all frames but the first and the last one, where the original form mirrors the audio."""
    student, teacher = model("SA-alone", whisper("streaming")), model("SA-alone", whisper("original"))
    objective = distil(Distillation, student, teacher, layers=[2])
    sounds, lengths = SAMPLES[:1, :samples], torch.tensor([samples])
    student.front_end.fit([nn.functional.pad(sounds[0], (400, 400))])  # with 200 samples to the first window's centre
    (target,), valid = objective.ask(sounds, lengths, -(-samples // 320), [2])
    assert valid.all()
    assert_close(target[0, 1:-1], layers_alone(student, sounds[0])[-1][1:-1], 1e-6)  # the ceiling is fitted in float32


def test_each_frame_of_the_student_counts_and_no_other():
    """After 200 samples of silence 5100 fill one frame more of the teacher than of the student."""
    student, teacher = model("SA", whisper("streaming")), model("AA", whisper("original"), seed=1)
    objective, lengths = distil(Distillation, student, teacher, layers=[2]), torch.tensor([9000, 5100])
    both, first, second = (
        objective(student.front_end, student.encoder, SAMPLES[rows, : lengths[rows].max()], lengths[rows])[0]
        for rows in (slice(0, 2), slice(0, 1), slice(1, 2))
    )
    assert_close(both, (29 * first + 16 * second) / 45)


@pytest.mark.parametrize("lengths", [(9000, 100), (199, 1)])
def test_a_late_teacher_hears_the_audio_so_much_earlier(lengths):
    student, teacher = model("SA"), model("AA", whisper("streaming", 2), pool=2, seed=1)
    objective, samples = distil(Distillation, student, teacher, layers=[2]), SAMPLES[:2, : lengths[0]].clone()
    samples[1, lengths[1] :] = math.nan
    (target,), valid = objective.ask(samples, torch.tensor(lengths), -(-lengths[0] // 640), [2])
    for row, length in enumerate(lengths):
        heard = samples[row, 200:length] if length > 200 else torch.zeros(1, dtype=torch.float64)
        assert_close(target[row][valid[row]], layers_alone(teacher, heard)[-1])


def test_a_long_frame_gets_the_mean_of_the_teachers():
    student, teacher = model("LLSA", whisper("original", 2), pool=2), model("AA", whisper("original"), seed=1)
    objective = distil(Distillation, student, teacher, layers=[2])
    (target,), valid = objective.ask(SAMPLES, LENGTHS, 15, [2])
    for row, (samples, length) in enumerate(zip(SAMPLES, LENGTHS)):
        *_, y = layers_alone(teacher, samples[:length])
        pairs = y.split(2)
        assert_close(target[row][valid[row]], torch.stack([pair.mean(dim=0) for pair in pairs]))


# Delays of CTC


@pytest.mark.parametrize("delay, allowed", [(0, True), (3, True), (4, False)])
def test_a_student_that_is_late_by_an_allowed_delay_has_no_loss(delay, allowed, monkeypatch):
    student, teacher = model("SA"), model("AA", seed=1)
    said = torch.full((1, 20, TOKENS), -20.0, dtype=torch.float64)
    said[..., 0] = 20.0
    for t, token in ((3, 2), (7, 4), (12, 1)):
        said[0, t, [0, token]] = said[0, t, [token, 0]]
    late = torch.cat([said[:, :1].expand(-1, delay, -1), said], dim=1)[:, :20]
    monkeypatch.setattr(teacher, "read_out", lambda y: said.log_softmax(dim=-1))
    objective = distil(CTCDistillation, student, teacher, delays=[0, 3])
    objective.head = nn.Identity()
    loss, stats = objective(student.front_end, lambda x, frames: (late, frames), noise(1, 20 * 640), torch.tensor([20 * 640]))
    assert (loss.item() < 1e-6) == allowed
    if allowed:
        assert stats == {"delay": delay, "accuracy": 1.0}


# What does not fit


@pytest.mark.parametrize(
    "kind, options, words",
    [
        (Distillation, {"layers": [2, 1]}, "rising order"),
        (Distillation, {"layers": [0, 2]}, "counted from 1"),
        (Distillation, {"layers": []}, "such as"),
        (Distillation, {"layers": [1, 4]}, "the teacher has 3 layers, and no layer 4"),
        (Distillation, {"layers": [1, 2], "teacher_layers": [3]}, "an entry for each"),
        (Distillation, {"layers": [2], "weight": 0.0}, "above 0"),
        (Distillation, {"layers": [1]}, "must end with the last layer of the student, 2"),
        (CTCDistillation, {"delays": [3, 1]}, "smallest and the largest"),
        (CTCDistillation, {"delays": 4}, "smallest and the largest"),
        (CTCDistillation, {"blank_weight": 0.0}, "at most 1"),
        (CTCDistillation, {"head": nn.Linear(DIM, 7)}, "the teacher has 5 tokens, and the student 7"),
    ],
)
def test_entries_that_do_not_fit(kind, options, words):
    student, teacher = student_and_teacher()
    given = {"dim": DIM} if kind is Distillation else {"head": student.head}
    with pytest.raises(ValueError, match=words):
        objective = kind(**{"front_end": student.front_end, "teacher": teacher, **given, **options}).double()
        objective(student.front_end, student.encoder, SAMPLES, LENGTHS)


def test_teachers_that_do_not_fit():
    student, teacher = student_and_teacher()
    with pytest.raises(ValueError, match="frames of 40 ms, and the student of 20 ms"):
        distil(Distillation, model("SA", whisper("streaming")), teacher, layers=[2])
    with pytest.raises(ValueError, match="2 times as long"):
        distil(CTCDistillation, student, model("AA", whisper("original"), seed=1))
    with pytest.raises(ValueError, match="a CTC head"):
        distil(CTCDistillation, student, SpeechEncoder(teacher.front_end, teacher.encoder))
