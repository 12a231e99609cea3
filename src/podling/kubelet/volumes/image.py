"""image: the files of an image, read-only.

Source: Kubernetes documentation "Volumes" (image), "Use an Image Volume With a Pod"; KEP-4639. There is nothing to set up on
the node: the image is pulled as a container's own image is, and the runtime mounts its layers.
"""

from __future__ import annotations

from podling.api.core.v1 import Container, ImageVolumeSource, Pod


def image_volumes(pod: Pod, container: Container) -> dict[str, ImageVolumeSource]:
    """The image volumes that the container mounts, by name."""
    mounted = {mount.name for mount in container.volume_mounts}
    return {v.name: v.image for v in pod.spec.volumes if v.image is not None and v.name in mounted}
