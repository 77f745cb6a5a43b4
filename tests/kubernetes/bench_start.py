"""How much later a pod is ready for its sidecar. It takes a quiet machine, so no test run collects it: make bench-sidecar."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..harness.processes import wait_until
from .cluster import kubectl
from .conftest import Cluster

ROUNDS = 5
BOUND = 1.5
"""seconds"""


@pytest.mark.timeout(600)
def test_a_sidecar_delays_its_pod_little(cluster: Cluster) -> None:
    """Median of pods with and without, by turns."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(ROUNDS):
        for on in (True, False):
            seconds[on].append(until_ready(cluster, f"cost-{'on' if on else 'off'}-{number}", on))
    medians = {on: sorted(values)[ROUNDS // 2] for on, values in seconds.items()}
    print(f"\nready after {medians[True]:.2f} s with, {medians[False]:.2f} s without ({seconds})")
    assert medians[True] - medians[False] < BOUND


def until_ready(cluster: Cluster, user: str, on: bool) -> float:
    """Seconds from the request to the Hub until Kubernetes calls the pod ready; the Jupyter server in it takes longer."""
    pod = cluster.namespace.pod(f"jupyter-{user}")
    with ThreadPoolExecutor(1) as pool:
        cluster.hub.create_user(user)
        began = time.monotonic()
        started = pool.submit(cluster.server, user, enable_ssh=on)
        wait_until(pod.exists, 60)
        kubectl("wait", "--for=condition=Ready", f"pod/{pod.name}", "--namespace", pod.namespace, "--timeout=60s", timeout=90)
        elapsed = time.monotonic() - began
        assert started.result().name == pod.name
    assert ("sshd" in pod.containers()) is on
    return elapsed
