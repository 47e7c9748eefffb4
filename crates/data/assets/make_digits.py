"""Writes digits.bin beside this file; needs scikit-learn 1.9.1."""
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
labels, images = digits.target.astype(np.uint8), digits.images.astype(np.uint8)
Path(__file__).with_name("digits.bin").write_bytes(labels.tobytes() + images.tobytes())
