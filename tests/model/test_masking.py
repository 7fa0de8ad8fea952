import torch
from hypothesis import given, settings
from hypothesis.strategies import integers

from medcoss_cli.model.masking import choose_words, hide_words, random_keep, removed
from medcoss_cli.randomness import generator


def test_a_quarter_of_the_patches_is_visible_at_the_papers_sizes():
    assert random_keep(torch.rand(3, 14 * 14), 0.75).shape == (3, 49)
    assert random_keep(torch.rand(3, 1 * 12 * 12), 0.75).shape == (3, 36)


@given(n=integers(1, 5), length=integers(1, 40), seed=integers(0, 999))
def test_kept_and_removed_patches_are_every_patch_once(n, length, seed):
    keep = random_keep(torch.rand(n, length, generator=generator(seed)), 0.75)
    gone = removed(keep, length)
    assert gone.sum(1).tolist() == [length - keep.shape[1]] * n
    assert not gone.gather(1, keep).any()


def greedy(word, real, noise, ratio):
    """The choice as one would write it for one sentence: words in random order, skip what would exceed the budget."""
    words = {}
    for place, number in enumerate(word):
        if real[place]:
            words.setdefault(number, []).append(place)
    order = sorted(words, key=lambda number: noise[number])
    budget = max(1, round(sum(real) * ratio))
    chosen: list[int] = []
    for number in order:
        if len(chosen) + len(words[number]) <= budget:
            chosen += words[number]
    return set(chosen or words[order[0]]) if order else set()


@settings(deadline=None)
@given(seed=integers(0, 9999), length=integers(3, 30))
def test_chosen_words_are_the_greedy_choice_written_as_a_loop(seed, length):
    draw = generator(seed)
    starts = torch.rand(4, length, generator=draw) < 0.6
    word = starts.long().cumsum(1) - starts[:, :1].long()
    real = torch.arange(length) < torch.randint(1, length + 1, (4, 1), generator=draw)
    noise = torch.rand(4, length, generator=draw)
    chosen = choose_words(word, real, noise, 0.15)
    for row in range(4):
        expected = greedy(word[row].tolist(), real[row].tolist(), noise[row].tolist(), 0.15)
        assert set(chosen[row].nonzero()[:, 0].tolist()) == expected


def test_hidden_words_are_80_percent_mask_10_percent_random_10_percent_kept():
    n = 200_000
    ids = torch.full((1, n), 7)
    substitute = torch.full((1, n), 9)
    hidden = hide_words(
        ids, torch.ones(1, n, dtype=torch.bool), torch.rand(1, n, generator=generator(0)), substitute, 4
    )
    shares = [float((hidden == value).float().mean()) for value in (4, 9, 7)]
    assert torch.allclose(torch.tensor(shares), torch.tensor([0.8, 0.1, 0.1]), atol=0.005)


def test_words_that_are_not_chosen_stay_as_they_are():
    ids = torch.arange(20).view(1, -1)
    hidden = hide_words(ids, torch.zeros(1, 20, dtype=torch.bool), torch.rand(1, 20), ids * 0, 4)
    assert torch.equal(hidden, ids)
