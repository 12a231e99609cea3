"""What skopeo says (recorded from 1.9.3) and what users are told."""

from __future__ import annotations

import pytest

from podling.api import image_name
from podling.runtime.native import image_errors

NAME = image_name.parse("quay.io/team/app:1")
HEAD = 'failed to pull and unpack image "quay.io/team/app:1": '
RESOLVE = HEAD + 'failed to resolve reference "quay.io/team/app:1": '
DENIED = RESOLVE + "pull access denied, repository does not exist or may require authorization: authorization failed: "
SOURCE = "initializing source docker://quay.io/team/app:1: "


@pytest.mark.parametrize(
    ("skopeo", "message"),
    [
        (
            SOURCE + "reading manifest 1 in quay.io/team/app: manifest unknown: manifest unknown",
            RESOLVE + "quay.io/team/app:1: not found",
        ),
        (
            SOURCE + "reading manifest 1 in quay.io/team/app: unauthorized: authentication required",
            DENIED + "no basic auth credentials",
        ),
        (
            SOURCE + "reading manifest 1 in quay.io/team/app: errors:\ndenied: requested access to the resource is "
            "denied\nunauthorized: authentication required\n",
            DENIED + "no basic auth credentials",
        ),
        (
            SOURCE + 'pinging container registry quay.io: Get "https://quay.io/v2/": dial tcp: lookup quay.io on '
            "10.0.0.53:53: no such host",
            RESOLVE + 'failed to do request: Get "https://quay.io/v2/": dial tcp: lookup quay.io on 10.0.0.53:53: '
            "no such host",
        ),
        (
            SOURCE
            + 'pinging container registry quay.io: Get "https://quay.io/v2/": dial tcp 192.0.2.1:443: i/o timeout',
            RESOLVE + 'failed to do request: Get "https://quay.io/v2/": dial tcp 192.0.2.1:443: i/o timeout',
        ),
        (
            "copying system image from manifest list: choosing an image from manifest list docker://quay.io/team/app:1: "
            'no image found in manifest list for architecture amd64, variant "", OS linux',
            HEAD + "no match for platform in manifest: not found: none for linux/amd64",
        ),
        (
            SOURCE + "(Mirrors also failed: [127.0.0.1:5000/team/app:1: reading manifest 1 in 127.0.0.1:5000/team/app: "
            "unauthorized: authentication required]): quay.io/team/app:1: pinging container registry quay.io: Get "
            '"https://quay.io/v2/": dial tcp: lookup quay.io: no such host',
            DENIED
            + 'no basic auth credentials (registry: Get "https://quay.io/v2/": dial tcp: lookup quay.io: no such host)',
        ),
        (
            'writing blob: storing blob to file "/x/storage1/1": write /x/storage1/1: no space left on device',
            HEAD + 'writing blob: storing blob to file "/x/storage1/1": write /x/storage1/1: no space left on device',
        ),
        (
            SOURCE + "(Mirrors also failed: [127.0.0.1:5000/team/app:1: reading manifest 1 in 127.0.0.1:5000/team/app: "
            "manifest unknown: manifest unknown]\n[127.0.0.1:1/team/app:1: pinging container registry 127.0.0.1:1: Get "
            '"http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused]): quay.io/team/app:1: '
            'pinging container registry quay.io: Get "https://quay.io/v2/": dial tcp: lookup quay.io: no such host',
            RESOLVE + 'failed to do request: Get "https://quay.io/v2/": dial tcp: lookup quay.io: no such host (mirror '
            "[127.0.0.1:5000/team/app:1: reading manifest 1 in 127.0.0.1:5000/team/app: manifest unknown: manifest "
            "unknown] mirror [127.0.0.1:1/team/app:1: pinging container registry 127.0.0.1:1: Get "
            '"http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused])',
        ),
    ],
)
def test_causes_are_told_in_containerds_words(skopeo: str, message: str) -> None:
    error = image_errors.pull_error(NAME, skopeo, with_credentials=False)
    assert error.message == message
    assert error.reason == "ErrImagePull"


@pytest.mark.parametrize(
    ("image", "known", "said"),
    [
        ("quay.io/team/app:1", None, ""),
        ("quay.io/team/app:1", False, ': there is no repository "quay.io/team/app"'),
        ("quay.io/team/app:1", True, ': repository "quay.io/team/app" has no tag "1"'),
        (
            "quay.io/team/app@sha256:" + "0" * 64,
            True,
            f': repository "quay.io/team/app" has no digest "sha256:{"0" * 64}"',
        ),
    ],
)
def test_what_is_not_found_is_told(image: str, known: bool | None, said: str) -> None:
    name = image_name.parse(image)
    text = f"initializing source docker://{image}: reading manifest x in quay.io/team/app: manifest unknown"
    assert image_errors.is_not_found(text)
    error = image_errors.pull_error(name, text, with_credentials=False, repository_known=known)
    assert error.message.endswith(f'failed to resolve reference "{image}": {image}: not found{said}')


def test_rejected_signature_has_its_own_reason() -> None:
    error = image_errors.pull_error(
        NAME,
        "Source image rejected: Running image docker://quay.io/team/app:1 is rejected by policy.",
        with_credentials=False,
    )
    assert error.reason == "SignatureValidationFailed"


@pytest.mark.parametrize(
    ("message", "transient"),
    [
        ("reading blob sha256:0: unexpected EOF", True),
        ("read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer", True),
        ('Get "https://quay.io/v2/": net/http: TLS handshake timeout', True),
        ("received unexpected HTTP status: 503 Service Unavailable", True),
        ("reading manifest 1 in quay.io/team/app: manifest unknown: manifest unknown", False),
        ("unauthorized: authentication required", False),
        ("dial tcp: lookup quay.io: no such host", False),
        ("dial tcp 127.0.0.1:1: connect: connection refused", False),
        ("write /x: no space left on device", False),
    ],
)
def test_only_broken_transfers_are_tried_again_at_once(message: str, transient: bool) -> None:
    assert image_errors.is_transient(message) is transient
