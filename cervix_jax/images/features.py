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
    histograms = [_histograms(image, WHOLE_BINS)]
    for band in np.array_split(image, GRID, axis=0):
        histograms += [_histograms(cell, CELL_BINS) for cell in np.array_split(band, GRID, axis=1)]
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


def _histograms(region: UInt8[np.ndarray, "h w 3"], bins: int) -> Float[np.ndarray, "_"]:
    """Fractions of pixels in equal bins of 0 to 255, channel after channel."""
    codes: Int[np.ndarray, "n 3"] = region.reshape(-1, 3).astype(np.int32) * bins // 256
    codes += np.arange(3, dtype=np.int32) * bins
    return np.bincount(codes.ravel(), minlength=3 * bins) / len(codes)
