# SPDX-License-Identifier: Apache-2.0
"""The only door to the API server, by kubectl: `Kube` looks, `KubeControl` looks and changes.

A kubeconfig is a program as much as a password: it can name commands that kubectl runs. So one that others may write is
not used. Credentials never come to a command line, and what kubectl says is shown with secrets masked.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from migrator.drain import DELETE_DATA, FORCE, DrainEvent, DrainOptions
from migrator.draining import Draining, Pod
from migrator.host import Host, Output, Reader
from migrator.kubectl import KubeError, check_kubeconfig, find_kubectl, refused, run, shown

__all__ = ["Kube", "KubeControl", "KubeError", "Right", "check_kubeconfig", "find_kubectl"]

ANNOTATION = "cgmigrate/run"
"""On a Node while a run has it."""

MAX_ANSWER = 64 * 1024 * 1024
"""Characters: more than the pods of the largest node; a longer answer is refused, not parsed."""

Right: TypeAlias = tuple[str, str, str, str] | tuple[str, str, str, str, str]
"""(verb, API group, resource or resource/subresource, namespace or empty for all[, name of the one object])."""

_WORD = re.compile(r"\S")
_MARGIN = 3.0  # seconds after a request's own timeout in which kubectl should have told of it


class Kube:
    """Asks the API server of one kubeconfig; `timeout` is in seconds, for each request; `program` is kubectl's path."""

    def __init__(
        self, reader: Reader, kubeconfig: str, timeout: float = 10.0, program: str | None = None
    ) -> None:
        self.kubeconfig = kubeconfig
        self.timeout = timeout
        self._reader = reader
        self._program = program

    def get(self, *argv: str) -> Any:
        """Return the parsed answer of `kubectl get ARGV --output=json`: one object, or a List with `items`.

        Raises:
            KubeError: the API server gave none.
        """
        return _parsed(self._call("get", *argv, "--output=json"))

    def raw(self, path: str) -> str:
        """Return what the API server answers at a path like `/readyz/etcd`.

        Raises:
            KubeError: it did not, or not with success.
        """
        # One request and no discovery: the cheapest way to learn that nobody answers.
        return self._call("get", "--raw", path, limit=self.timeout + _MARGIN).stdout

    @cached_property
    def client_version(self) -> str:
        """The version of kubectl, like `1.20.2`; no API server is needed."""
        return _git_version(_parsed(self._call("version", "--client", "--output=json")).get("clientVersion"))

    def server_version(self) -> str:
        """Return the version of the API server, like `1.20.2`: one request that every user may make.

        Raises:
            KubeError: the API server did not answer.
        """
        answer = None
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(self.raw("/version"))
        return _git_version(answer)

    def server(self) -> str:
        """Return the URL of the API server, without credentials; no API server is needed.

        Raises:
            KubeError: the kubeconfig names none.
        """
        view = _parsed(self._call("config", "view", "--minify", "--output=json"))
        try:
            url = urlsplit(str(view["clusters"][0]["cluster"]["server"]))
        except (LookupError, TypeError, ValueError) as error:
            raise KubeError(
                f"{self.kubeconfig}: its current context names no server", kind="kubeconfig"
            ) from error
        return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment=""))

    def missing(self, rights: Sequence[Right]) -> tuple[str, ...]:
        """Return the rights that the kubeconfig's user lacks, as `create pods/eviction`, `get daemonsets.apps`.

        Raises:
            KubeError: the API server did not say.
        """
        if not rights:
            return ()
        document = {"apiVersion": "v1", "kind": "List", "items": [_review(right) for right in rights]}
        done = self._call(
            "create", "--filename=-", "--validate=false", "--output=json", document=json.dumps(document)
        )
        answers = _documents(done.stdout)
        if len(answers) != len(rights):
            raise KubeError(
                f"asked for {len(rights)} rights with {self.kubeconfig}, kubectl told of {len(answers)}",
                kind="other",
            )
        return tuple(
            _named(right)
            for right, answer in zip(rights, answers, strict=True)
            if not (answer.get("status") or {}).get("allowed")
        )

    @cached_property
    def _kubectl(self) -> str:
        if not self._reader.live:
            raise KubeError(
                f"the API server cannot be asked: {self._reader.root} is an image, not a running node",
                kind="other",
            )
        check_kubeconfig(self._reader, self.kubeconfig)
        return self._program or find_kubectl(self._reader)

    def _argv(self, *words: str) -> tuple[str, ...]:
        return (self._kubectl, f"--kubeconfig={self.kubeconfig}", *words)

    def _call(self, *words: str, document: str | None = None, limit: float | None = None) -> Output:
        argv = self._argv(f"--request-timeout={self.timeout:g}s", *words)
        # Several requests: discovery, and one for each page of a long list.
        done = run(argv, self.kubeconfig, limit=limit or 3 * self.timeout, document=document)
        if len(done.stdout) > MAX_ANSWER:
            raise KubeError(f"`{shown(argv)}` answered more than {MAX_ANSWER} characters", kind="other")
        return done


class KubeControl(Kube):
    """Asks the API server, and has it change things."""

    def __init__(
        self, host: Host, kubeconfig: str, timeout: float = 10.0, program: str | None = None
    ) -> None:
        super().__init__(host, kubeconfig, timeout, program)

    def cordon(self, node: str) -> None:
        """Keep new pods off a node; fine when it is so already.

        Raises:
            KubeError: the API server did not do it.
        """
        self._schedule("cordon", node)

    def uncordon(self, node: str) -> None:
        """Let new pods come to a node; fine when it is so already.

        Raises:
            KubeError: the API server did not do it.
        """
        self._schedule("uncordon", node)

    def mark(self, node: str, run_name: str) -> None:
        """Write on a Node which run has it.

        Raises:
            KubeError: the API server did not do it.
        """
        self._call("annotate", "node", node, f"{ANNOTATION}={run_name}", "--overwrite", "--output=name")

    def unmark(self, node: str) -> None:
        """Take the mark of a run off a Node; fine when there is none.

        Raises:
            KubeError: the API server did not do it.
        """
        self._call("annotate", "node", node, f"{ANNOTATION}-", "--output=name")

    def replace(self, document: Mapping[str, Any]) -> None:
        """Replace an object as a whole, unless it changed since it was read (its `resourceVersion`).

        Raises:
            KubeError: it changed (kind `conflict`), or the API server did not do it.
        """
        if not document["metadata"].get("resourceVersion"):
            raise KubeError(
                "an object without resourceVersion would replace whatever is there now", kind="other"
            )
        text = json.dumps(dict(document))
        self._call("replace", "--filename=-", "--validate=false", "--output=name", document=text)

    def drain(
        self,
        node: str,
        options: DrainOptions,
        *,
        tell: Callable[[DrainEvent], None],
        check: Callable[[], None],
        decide: Callable[[DrainEvent], str],
        held: Collection[Pod] = (),
    ) -> None:
        """Run `kubectl drain` to its end; `tell` is told every line.

        `check` is called five times a second, and ends the drain by raising. `decide` is asked about a pod whose eviction
        is refused for now, and answers `wait`, `skip` or `abort`: about one of `held`, whose budget allowed nothing before
        the drain began, at once; about any other when it is refused for 30 s; about none more than once in 30 s.

        Raises:
            StepError: the answer was `skip`, pods are still there at the deadline, or kubectl gave up.
            InterruptedRunError: the answer was `abort`.
            KubeError: kubectl cannot be used.
        """
        words = ["drain", node, "--ignore-daemonsets", f"--timeout={options.timeout_seconds}s"]
        words += [FORCE] if options.force else []
        words += [self._delete_data()] if options.delete_emptydir_data else []
        Draining(self, node, options).run(
            self._argv(*words), tell=tell, check=check, decide=decide, held=held
        )

    def _schedule(self, verb: str, node: str) -> None:
        done = self._call(verb, node)
        # kubectl tells of a patch that was refused, and ends with 0 all the same.
        if re.search(r"^error: ", done.stderr, re.MULTILINE):
            raise refused(done, self.kubeconfig)

    def _delete_data(self) -> str:
        found = re.match(r"(\d{1,9})\.(\d{1,9})", self.client_version)
        return (
            DELETE_DATA
            if found is None or (int(found[1]), int(found[2])) >= (1, 20)
            else "--delete-local-data"
        )


def _parsed(done: Output) -> dict[str, Any]:
    answer = None
    with contextlib.suppress(ValueError, RecursionError):
        answer = json.loads(done.stdout)
    if not isinstance(answer, dict):
        raise KubeError(f"`{shown(done.argv)}` gave an answer of unknown form", kind="other")
    return answer


def _git_version(answer: object) -> str:
    version = answer.get("gitVersion", "") if isinstance(answer, dict) else ""
    return str(version).removeprefix("v")


def _review(right: Right) -> dict[str, Any]:
    verb, group, resource, namespace, *name = right
    kind, _, sub = resource.partition("/")
    given = {"verb": verb, "group": group, "resource": kind, "subresource": sub, "namespace": namespace}
    attributes = {key: value for key, value in {**given, "name": "".join(name)}.items() if value}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }


def _named(right: Right) -> str:
    verb, group, resource, namespace, *_ = right
    where = f" in {namespace}" if namespace else ""
    return f"{verb} {resource}{f'.{group}' if group else ''}{where}"


def _documents(text: str) -> list[dict[str, Any]]:
    """Return the JSON documents that stand one after the other, as kubectl prints several objects."""
    return list(_each_document(text))


def _each_document(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    while found := _WORD.search(text, at):
        try:
            document, at = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            return
        yield from document.get("items", [document]) if isinstance(document, dict) else ()
