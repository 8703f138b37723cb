# SPDX-License-Identifier: Apache-2.0
"""What a client of a Service sees while something else happens: every request's answer, and how many pods were ready."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .cluster import Cluster
from .members import WEB

# A request every 50 ms with a connection of its own; each line is its status, 000 where there was no answer.
_CLIENT = f"""
while [ ! -e /run/traffic-stop ]; do
    curl --silent --output /dev/null --max-time 3 --write-out '%{{http_code}}\\n' {WEB}
    sleep 0.05
done
"""
_WATCH = """
export KUBECONFIG=/etc/kubernetes/admin.conf
while [ ! -e /run/traffic-stop ]; do
    kubectl get endpoints web --output=json --request-timeout=3s | jq -c '[.subsets[]?.addresses[]?.ip] | length'
    sleep 0.3
done
"""


@dataclass
class Traffic:
    """Answers by status, and the numbers of ready endpoints that were seen."""

    answers: dict[str, int] = field(default_factory=dict)
    ready: list[int] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Return how many were made."""
        return sum(self.answers.values())


@contextmanager
def traffic(cluster: Cluster) -> Iterator[Traffic]:
    """Call the Service `web` from cp1 all the time, and watch its endpoints."""
    node = cluster.nodes["cp1"]
    node.run("rm -f /run/traffic-stop")
    seen = Traffic()
    client, watch = node.popen(_CLIENT), node.popen(_WATCH)
    try:
        yield seen
    finally:
        node.run("touch /run/traffic-stop")
        for line in client.communicate(timeout=30)[0].splitlines():
            seen.answers[line] = seen.answers.get(line, 0) + 1
        seen.ready += [json.loads(line) for line in watch.communicate(timeout=30)[0].splitlines()]
