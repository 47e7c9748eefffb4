"""Row 7, reading: a logistic probe by scikit-learn, and torch-fidelity's Frechet distance of given features."""

import torch
from threadpoolctl import threadpool_limits

from shared import written_once

CLASSES = 10
# scikit-learn's `tol` and ours measure the same: the largest entry of the gradient of the mean loss.
TOLERANCE = 1e-6
STRENGTH = 0.01


def features(ask):
    """Two sets of features, the first with labels: classes are apart, columns have unequal scales."""
    n, d = ask["size"]["items"], ask["size"]["width"]

    def make():
        generator = torch.Generator().manual_seed(2)
        labels = torch.randint(0, CLASSES, (n,), generator=generator)
        scale = torch.linspace(0.5, 1.5, d)
        centres = torch.randn(CLASSES, d, generator=generator) * 0.15
        a = (torch.randn(n, d, generator=generator) + centres[labels]) * scale
        b = torch.randn(n, d, generator=generator) * scale * 1.1 + 0.1
        return {"a": a, "b": b, "labels": labels}

    return written_once(ask["folder"], f"features-{n}x{d}.safetensors", make)


def logistic(ask):
    from sklearn.linear_model import LogisticRegression

    threadpool_limits(ask["threads"])
    all_ = features(ask)
    x, y = all_["a"].numpy(), all_["labels"].numpy()

    def run():
        return LogisticRegression(C=STRENGTH, tol=TOLERANCE, max_iter=5000).fit(x, y)

    return run, lambda: run().coef_.flatten()


def frechet(ask):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    torch.set_num_threads(ask["threads"])
    threadpool_limits(ask["threads"])
    all_ = features(ask)

    def run():
        a, b = (fid_features_to_statistics(all_[k]) for k in "ab")
        return list(fid_statistics_to_metric(a, b, verbose=False).values())[0]

    return run, lambda: [run()]
