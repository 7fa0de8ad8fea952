import pytest
import torch

from medcoss_cli.model.losses import feature_distance, masked_pixels, masked_words, normalise_patches
from medcoss_cli.randomness import generator


def test_masked_pixels_is_the_formula_of_the_paper_written_as_a_loop():
    draw = generator(0)
    pred, patches = torch.randn(2, 5, 7, generator=draw), torch.rand(2, 5, 7, generator=draw)
    loop = [
        (p - (t - t.mean()) / (t.var() + 1e-6).sqrt()).square().mean()
        for p, t in zip(pred.flatten(0, 1), patches.flatten(0, 1), strict=True)
    ]
    total, count = masked_pixels(pred, patches)
    assert count == 10
    assert (total / count).item() == pytest.approx(torch.stack(loop).mean().item(), rel=1e-5)


def test_a_constant_patch_has_target_zero():
    assert torch.equal(normalise_patches(torch.full((1, 8), 0.3)), torch.zeros(1, 8))


def test_feature_distance_is_the_mean_square_over_real_tokens_only():
    draw = generator(1)
    a, b = torch.randn(2, 3, 4, generator=draw), torch.randn(2, 3, 4, generator=draw)
    valid = torch.tensor([[True, True, False], [True, False, False]])
    total, count = feature_distance(a, b, valid)
    loop = [((a[n, i] - b[n, i]) ** 2).mean() for n in range(2) for i in range(3) if valid[n, i]]
    assert count == 3
    assert (total / count).item() == pytest.approx(torch.stack(loop).mean().item(), rel=1e-6)


def test_distillation_gives_the_teacher_no_gradient():
    student, teacher = (torch.ones(1, 2, 3, requires_grad=True) for _ in range(2))
    total, _ = feature_distance(student, teacher * 2)
    total.backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_masked_words_is_cross_entropy_summed():
    logits, ids = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    total, count = masked_words(logits, ids)
    assert count == 2
    assert total.item() == pytest.approx(-sum(row.log_softmax(0)[0].item() for row in logits), rel=1e-6)
