"""Image references, as github.com/distribution/reference reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import image_name
from podling.api.image_name import InvalidImageName

D = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("gcr.io/google_containers/busybox", "gcr.io/google_containers/busybox:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:2", "localhost:5000/x:2"),
        ("HOST/x", "HOST/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("registry.example.com:5000/a/b/c:v1", "registry.example.com:5000/a/b/c:v1"),
        (f"nginx@{D}", f"docker.io/library/nginx@{D}"),
        (f"nginx:1.25@{D}", f"docker.io/library/nginx@{D}"),
        ("team/a__b--c.d", "docker.io/team/a__b--c.d:latest"),
        ("dregistry.azurecr.io/acr-auth-example", "dregistry.azurecr.io/acr-auth-example:latest"),
    ],
)
def test_short_names_are_completed(name: str, canonical: str) -> None:
    parsed = image_name.parse(name)
    assert parsed.canonical == canonical
    assert image_name.parse(parsed.canonical).canonical == canonical


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "invalid reference format"),
        ("nginx:", "invalid reference format"),
        (":latest", "invalid reference format"),
        ("nginx latest", "invalid reference format"),
        ("nginx\n", "invalid reference format"),
        ("-nginx", "invalid reference format"),
        ("nginx:" + "a" * 129, "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("https://nginx", "invalid reference format"),
        ("NGINX", "invalid reference format: repository name (library/NGINX) must be lowercase"),
        ("quay.io/Team/app", "invalid reference format: repository name (Team/app) must be lowercase"),
        ("a" * 256, "repository name must not be more than 255 characters"),
        ("0" * 64, f"invalid repository name ({'0' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("nginx@sha256:" + "0" * 40, "invalid checksum digest length"),
        ("nginx@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("nginx@md5:" + "0" * 32, "unsupported digest algorithm"),
    ],
)
def test_wrong_names_are_refused_with_upstreams_message(name: str, message: str) -> None:
    with pytest.raises(InvalidImageName) as error:
        image_name.parse(name)
    assert str(error.value) == message


@given(st.text(alphabet="aZ0.-_:/@ []sh256é", max_size=40))
def test_any_text_is_refused_or_has_a_stable_complete_form(text: str) -> None:
    try:
        parsed = image_name.parse(text)
    except InvalidImageName:
        return
    assert image_name.parse(parsed.canonical).canonical == parsed.canonical
    assert parsed.canonical.startswith(f"{parsed.domain}/{parsed.path}")
