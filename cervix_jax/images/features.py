"""Features of a photograph that cleaning and quality control use: colours by place, and sharpness (report section 10).

Both are computed at 320 x 240 whatever size networks see, so that they compare between runs. Pure NumPy.
"""

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

FEATURE_SIZE = (320, 240)  # height, width in pixels
WHOLE_BINS = 17  # bins a channel over the whole picture
CELL_BINS = 15  # bins a channel in each cell of a grid
GRID = 3
NUM_FEATURES = 3 * WHOLE_BINS + GRID * GRID * 3 * CELL_BINS  # 456


def colour_histograms(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "456"]:
    """Histograms of R, G and B: 17 bins for the whole picture, then 15 bins for each cell of a 3 x 3 grid, row by row.

    Each of the 30 histograms sums to one, so cells of unequal size weigh the same, and a covariance of these vectors
    has rank 426 at most.
    """
    channels = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    cells = [cell for band in np.array_split(channels, GRID, axis=1) for cell in np.array_split(band, GRID, axis=2)]
    counts = np.array([[np.bincount(channel.ravel(), minlength=256) for channel in cell] for cell in cells])
    histograms = [_in_bins(counts.sum(axis=0), WHOLE_BINS), *(_in_bins(of_cell, CELL_BINS) for of_cell in counts)]
    return np.concatenate(histograms).astype(np.float32)


def sharpness(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Largest absolute response of the 2D Laplacian over channels and pixels of the central half of each side.

    The kernel is [[0, 1, 0], [1, -4, 1], [0, 1, 0]], in float: 8 bits would wrap around. 0 to 1020 (4 x 255).
    """
    height, width = image.shape[:2]
    top, left = height // 4, width // 4
    x = image[top : height - top, left : width - left].astype(np.float32)
    inner = x[1:-1, 1:-1]
    response = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * inner
    return float(np.abs(response).max(initial=0))


def _in_bins(counts: Int[np.ndarray, "3 256"], bins: int) -> Float[np.ndarray, "_"]:
    """Fractions of pixels in equal bins of 0 to 255, channel after channel, from how many pixels have each value."""
    least_values = -(np.arange(bins) * -256 // bins)  # of each bin, rounded up
    return (np.add.reduceat(counts, least_values, axis=1) / counts.sum(axis=1, keepdims=True)).ravel()
