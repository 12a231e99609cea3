"""oom_score_adj of the processes of a cluster."""

from __future__ import annotations

import pytest
from tests.support.cluster import Cluster
from tests.support.oom_scores import read

from podling.runtime.native import capability


@pytest.mark.parametrize(("name", "score"), [("server", -997), ("agent", -999)])
def test_components_have_the_scores_of_upstreams_or_say_why_not(cluster: Cluster, name: str, score: int) -> None:
    log = (cluster.data_dir / "logs" / f"{name}.log").read_text()
    told = [line for line in log.splitlines() if "oom_score_adj stays" in line]
    if "SYS_RESOURCE" in capability.available():
        assert (read(cluster.pid(name)), told) == (score, [])
    else:
        starts = log.count(f"podling: {name} is ready")
        assert len(told) == starts
        assert f"is not lowered to {score}, which needs CAP_SYS_RESOURCE" in told[0]
