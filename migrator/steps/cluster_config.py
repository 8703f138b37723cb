# SPDX-License-Identifier: Apache-2.0
"""The cluster's own answer to which driver a kubelet uses: the ConfigMap that kubeadm writes node files from (F18)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, ClassVar

from migrator.cgroups import Driver
from migrator.configs import kubelet
from migrator.configs.text import ConfigSyntaxError
from migrator.errors import StepError
from migrator.kube import KubeError
from migrator.steps import Hands, Params, Sight, Undo, Where
from migrator.steps.cluster import patiently
from migrator.steps.file import digest

NAMESPACE = "kube-system"
KEY = "kubelet"


class ClusterConfig:
    """Change `cgroupDriver` in the YAML text inside the ConfigMap, and nothing around it.

    The old text is kept with the run. kubeadm's signature of the ConfigMap (annotation component-config.hash) is left as
    it is: that it no longer fits tells kubeadm that the text is the operator's own, and is to be kept.
    """

    kind: ClassVar[str] = "cluster-config"
    volatile: ClassVar[bool] = False
    offline: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.name: str = params["name"]
        self.kubeconfig: str = params["kubeconfig"]
        self.before: str = params["before"]["sha256"]
        self.after: str = params["after"]["sha256"]
        self.patience: float = params["api_timeout_seconds"]

    def where(self, look: Sight, undo: Undo | None) -> Where:  # noqa: ARG002
        """Compare the digest of the text with the plan's two."""
        match digest(self._text(self._found(look)).encode()):
            case self.after:
                return Where.AFTER
            case self.before:
                return Where.BEFORE
            case _:
                return Where.ELSEWHERE

    def capture(self, look: Sight) -> Undo:
        """Return the digest of the text; the text itself is a blob of the run."""
        return {"sha256": digest(self._text(self._found(look)).encode())}

    def apply(self, hands: Hands) -> None:
        """Replace the text, unless the ConfigMap changed since it was read.

        Raises:
            StepError: somebody else changed it.
        """
        found = self._found(hands)
        now = digest(self._text(found).encode())
        if now == self.after:
            return
        if now != self.before:
            raise StepError(
                f"the ConfigMap {NAMESPACE}/{self.name} was changed by somebody else since the plan",
                hint="make the plan again: `cgmigrate plan -o FILE`",
            )
        self._replace(hands, found, hands.blob(self.after).decode())
        hands.say(f"ConfigMap {NAMESPACE}/{self.name}: cgroupDriver is changed")

    def revert(self, hands: Hands, undo: Undo) -> None:  # noqa: ARG002
        """Put the old text back; in a text that somebody else changed since, put the old driver back."""
        patiently(
            hands, f"ConfigMap {self.name}", self.patience, lambda: self._restore(hands), self._by_hand()
        )

    def _by_hand(self) -> str:
        words = ("kubectl", "--kubeconfig", self.kubeconfig, "-n", NAMESPACE, "edit", "configmap", self.name)
        return shlex.join(words)

    def _restore(self, hands: Hands) -> None:
        try:
            found = self._found(hands)
        except KubeError as error:
            if error.kind != "not-found":
                raise
            hands.say(f"the ConfigMap {NAMESPACE}/{self.name} is gone: there is nothing to put back")
            return
        text = self._text(found)
        old = hands.blob(self.before)
        if digest(text.encode()) == self.before:
            return
        if digest(text.encode()) == self.after:
            self._replace(hands, found, old.decode())
            hands.say(f"ConfigMap {NAMESPACE}/{self.name} is as it was")
            return
        driver = kubelet.read(old).cgroup_driver
        try:
            edited = kubelet.set_driver(text.encode(), Driver(driver or "")).text.decode()
        except (ConfigSyntaxError, ValueError):  # the old text named none, or the new one cannot be edited
            hands.say(f"ConfigMap {NAMESPACE}/{self.name} was changed since, and is left as it is")
            hands.left(self._by_hand())
            return
        if edited != text:
            self._replace(hands, found, edited)
        hands.say(
            f"ConfigMap {NAMESPACE}/{self.name} was changed since; only cgroupDriver is back at {driver}"
        )

    def _found(self, look: Sight) -> Mapping[str, Any]:
        found: Mapping[str, Any] = look.kube(self.kubeconfig).get(
            "configmap", self.name, "--namespace", NAMESPACE
        )
        return found

    def _text(self, found: Mapping[str, Any]) -> str:
        return str(found.get("data", {}).get(KEY, ""))

    def _replace(self, hands: Hands, found: Mapping[str, Any], text: str) -> None:
        hands.kube_control(self.kubeconfig).replace({**found, "data": {**found["data"], KEY: text}})
