"""Removes what no image needs: of images that were removed, and of pulls that were interrupted.

What comes from a registry is not waited for: it has a place of its own, with links to the blobs that it needs. But what an
image has brought is its own before it is named, so nothing is swept while somebody changes the storage (Skopeo.sole_writer).
"""

from __future__ import annotations

import os

from podling.runtime.native.image_layers import Layers
from podling.runtime.native.image_metadata import Metadata
from podling.runtime.native.image_skopeo import Skopeo


def sweep(skopeo: Skopeo, metadata: Metadata, layers: Layers) -> None:
    """Does nothing while somebody changes the storage. Blocks."""
    with skopeo.sole_writer() as alone:
        if not alone:
            return
        images = metadata.snapshot().images.values()
        diff_ids = {key for image in images for key in image.directories()}
        for diff_id in layers.present():
            if diff_id not in diff_ids:
                layers.remove(diff_id)
        blobs = {blob for image in images for blob in image.blobs()}
        directory = metadata.blobs / "sha256"
        for name in os.listdir(directory):
            if f"sha256:{name}" not in blobs:
                (directory / name).unlink(missing_ok=True)
        skopeo.remove_leftovers()
