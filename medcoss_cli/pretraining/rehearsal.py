"""Which samples of a stage enter the rehearsal buffer (Ye et al. 2024, sec. 3.3.1)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

CENTERS = 0.01
"""Cluster centres as a share of the data, in the paper."""


def buffer_size(samples: int, ratio: float) -> int:
    """Samples to keep of a stage: round(ratio x n), at least one of a stage that has any."""
    return min(samples, max(1, round(ratio * samples))) if ratio > 0 else 0


def _seed(key: tuple[int | str, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "little")


def choose_random(samples: int, keep: int, key: tuple[int | str, ...]) -> Array:
    """`keep` of n sample numbers, uniformly without replacement, sorted."""
    return np.sort(np.random.default_rng(_seed(key)).choice(samples, keep, replace=False))


def choose_kmeans(features: Array, keep: int, centers: float, key: tuple[int | str, ...]) -> Array:
    """The samples nearest to k-means centres: K of each of C clusters, topped up to exactly `keep`.

    C = `centers` x n (1 % in the paper), at least one and at most `keep`; K = keep // C. Clusters with fewer than K
    members leave room, which goes to the next nearest of all clusters.

    Args:
        features: (n, D) float32, one pooled feature a sample.
        keep: samples to choose, at most n.
        centers: clusters as a share of n.
        key: of the random start, so that the same features give the same choice.

    Returns: (keep,) sample numbers, sorted.
    """
    from sklearn.cluster import KMeans, kmeans_plusplus

    if keep == 0:
        return np.empty(0, np.int64)
    n = len(features)
    clusters = min(keep, max(1, int(centers * n)), len(np.unique(features, axis=0)))
    # k-means++ over everything costs six times the clustering itself; a tenth of the samples gives as good a start
    sample = choose_random(n, max(clusters, n // 10), (*key, "start")) if n > 10_000 else np.arange(n)
    start, _ = kmeans_plusplus(features[sample], clusters, random_state=_seed((*key, "plusplus")))
    fitted = KMeans(clusters, init=start, n_init=1, random_state=_seed((*key, "kmeans"))).fit(features)
    distance = np.linalg.norm(features - fitted.cluster_centers_[fitted.labels_], axis=1)
    order = np.lexsort((np.arange(n), distance, fitted.labels_))  # cluster by cluster, nearest first
    sizes = np.bincount(fitted.labels_, minlength=clusters)
    place = np.empty(n, np.int64)  # 0 for the nearest of its cluster, 1 for the next, ...
    place[order] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = place < keep // clusters
    ranking = np.lexsort(
        (np.arange(n), distance, ~first)
    )  # the K nearest of each cluster, then the next nearest of all
    return np.sort(ranking[:keep])
