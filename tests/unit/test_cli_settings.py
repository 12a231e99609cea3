"""Flags, defaults and what is remembered of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from podling.cli import main as cli
from podling.cli import settings
from podling.cli.errors import CommandError
from podling.cli.settings import Settings
from podling.kubelet.image_pull_manager import VerificationPolicy


def parse(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    settings.add_flags(parser)
    return parser.parse_args(flags)


def test_defaults_serve_a_single_cluster() -> None:
    made = settings.wanted(parse("--node-name", "n"), None)
    assert made == Settings(node_name="n")
    assert (made.data_dir, made.run_dir, made.port) == (Path("/var/lib/podling"), Path("/run/podling"), 6443)


def test_clusters_in_two_directories_have_two_run_directories(tmp_path: Path) -> None:
    first, second = (settings.wanted(parse("--data-dir", str(tmp_path / name)), None) for name in "ab")
    assert len({first.run_dir, second.run_dir, Path("/run/podling")}) == 3


def test_the_policies_are_those_that_the_agent_knows() -> None:
    assert tuple(VerificationPolicy) == settings.VERIFICATION_POLICIES
    default = settings.wanted(parse("--node-name", "n"), None).image_pull_credentials_verification_policy
    assert default == VerificationPolicy.NEVER_PRELOADED


def test_flags_are_remembered(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path), "--port", "7443", "--pod-cidr", "10.9.0.7/16", "--oci-runtime", "runc")
    made = settings.wanted(parse(*flags), None)
    settings.save(made)
    again = settings.wanted(parse("--data-dir", str(tmp_path)), settings.load(tmp_path))
    assert again == made
    assert (again.port, again.pod_cidr, again.oci_runtime) == (7443, "10.9.0.0/16", "runc")


def test_ports_may_change_and_what_pods_depend_on_may_not(tmp_path: Path) -> None:
    saved = settings.wanted(parse("--data-dir", str(tmp_path)), None)
    assert settings.wanted(parse("--data-dir", str(tmp_path), "--port", "7443"), saved).port == 7443
    for flag, value in (("--bridge", "other0"), ("--pod-cidr", "10.9.0.0/24"), ("--node-name", "other")):
        with pytest.raises(CommandError, match=f"{flag} .* only `podling reset --data-dir"):
            settings.wanted(parse("--data-dir", str(tmp_path), flag, value), saved)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--port", "7000", "--agent-port", "7000"), "--port and --agent-port are both 7000"),
        (("--pod-cidr", "10.96.4.0/24"), "10.96.4.0/24 and --service-cidr 10.96.0.0/16 overlap"),
        (("--pod-cidr", "10.9.0.0/31"), "must be /30 or larger"),
        (("--registries-conf", "/no/such/file"), "no such file"),
        (("--run-dir", "/" + "x" * 120), "too long for a socket's path"),
        (("--auth-file", "/no/such/file"), "--auth-file /no/such/file: no such file"),
        (("--image-credential-provider-config", "/etc"), "go together: one is missing"),
        (("--image-credential-provider-bin-dir", "/no/such"), "--image-credential-provider-bin-dir /no/such: no such"),
        (
            ("--preloaded-images-verification-allowlist", "reg.io/*"),
            "needs --image-pull-credentials-verification-policy",
        ),
        (
            ("--image-gc-high-threshold", "50", "--image-gc-low-threshold", "60"),
            "--image-gc-low-threshold 60 is higher than --image-gc-high-threshold 50",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        settings.wanted(parse(*flags), None)


@pytest.mark.parametrize(
    "argv",
    [
        ["up", "--port", "0"],
        ["up", "--port", "70000"],
        ["up", "--pod-cidr", "10.0.0.0"],
        ["up", "--pod-cidr", "fd00::/64"],
        ["up", "--bridge", "a/b"],
        ["up", "--bridge", "sixteen-letters-"],
        ["up", "--node-name", "Upper"],
        ["up", "--no-such-flag"],
        ["up", "--data", "/x"],
        ["up", "--allowed-unsafe-sysctls", "vm.*"],
        ["up", "--allowed-unsafe-sysctls", "net.core.*,kernel.core_pattern"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(argv)
    assert left.value.code == 2
    assert "usage: podling" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--pod-cidr", "--service-cidr"])
@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("10.0.0.0", 'the length of the prefix, "/0" to "/32", must follow the address'),
        ("10.0.0.0/33", 'the length of the prefix, "/0" to "/32", must follow the address'),
        ("10.0.0.0/255.0.0.0", 'the length of the prefix, "/0" to "/32", must follow the address'),
        ("10.0.0/8", '"10.0.0" is not four numbers from 0 to 255 without leading zeros'),
        ("010.0.0.0/8", '"010.0.0.0" is not four numbers from 0 to 255 without leading zeros'),
        ("fd00::/64", '"fd00::" is not four numbers from 0 to 255 without leading zeros'),
    ],
)
def test_a_wrong_range_is_told_in_words(flag: str, text: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["up", flag, text])
    said = f'argument {flag}: "{text}" is not an IPv4 range such as 10.244.0.0/24: {wrong}\n'
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize("command", ["down", "status", "kubeconfig"])
def test_a_command_for_a_cluster_that_is_not_there_says_so_in_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"podling {command}: no cluster in {tmp_path} (`podling up --data-dir {tmp_path}` makes one)\n"
    )


@pytest.mark.parametrize("content", ["{", "[]", "7", '{"run_dir": 7}', '{"port": "x"}', '{"bridge": null}', "\udcff"])
def test_a_broken_config_file_is_told(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(content, errors="surrogateescape")
    assert cli.main(["status", "--data-dir", str(tmp_path)]) == 1
    said = "cannot be read: it does not hold the settings that `podling up` wrote; restore it from a copy\n"
    assert capsys.readouterr().err == f"podling status: {tmp_path}/config.json {said}"


def test_a_config_file_that_is_a_directory_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").mkdir()
    assert cli.main(["status", "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"podling status: {tmp_path}/config.json cannot be read: Is a directory\n"
