# SPDX-License-Identifier: Apache-2.0
"""A kubectl that gives recorded answers: a real program, so that all of ours is run; what it was sent is kept.

The recordings in data/kubectl-1.20 are of a kubeadm 1.20.2 cluster, with the fields left out that nobody reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from migrator.host import Host
from migrator.kube import KubeControl

DATA = Path(__file__).parent / "data" / "kubectl-1.20"

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- name: dev
  cluster: {server: "https://10.99.0.2:6443"}
"""

SCRIPT = """\
#!/bin/sh
key=
for word; do
  case $word in --kubeconfig=*|--request-timeout=*) ;; *) key="$key $word" ;; esac
done
answer="{answers}/$(printf %s "$key" | tr -c 'A-Za-z0-9=.,-' _)"
echo "$*" >> "{answers}/asked"
case $key in *" --filename=-"*) cat > "$answer.input" ;; esac
[ -e "$answer.code" ] || {{ echo "Error from server (NotFound): not recorded:$key" >&2; exit 1; }}
cat "$answer.out"
cat "$answer.err" >&2
exit "$(cat "$answer.code")"
"""

Answer: TypeAlias = tuple[int, object, str]
"""Exit code, standard output (a text, a document, or several one after the other), standard error."""


@dataclass(frozen=True)
class Recorded:
    """Where the program and its kubeconfig are, and what it was asked and sent."""

    program: str
    kubeconfig: str
    answers: Path

    def kube(self, timeout: float = 10) -> KubeControl:
        return KubeControl(Host(), self.kubeconfig, timeout, self.program)

    def asked(self) -> list[str]:
        """What the program was called with, without what is the same in all calls."""
        lines = (self.answers / "asked").read_text().splitlines()
        return [re.sub(r"--(?:kubeconfig|request-timeout)=\S+ ?", "", line) for line in lines]

    def sent(self, command: str) -> Any:
        """The document that a command was sent."""
        return json.loads((self.answers / f"{_file(command)}.input").read_text())


def recorded(name: str) -> dict[str, Answer]:
    """The answers of a recording, by command."""
    found = json.loads((DATA / f"{name}.json").read_text())
    return {" ".join(each["argv"]): (each["code"], each["stdout"], each["stderr"]) for each in found}


def kubectl(folder: Path, answers: Mapping[str, Answer], kubeconfig: str = KUBECONFIG) -> Recorded:
    """A kubectl in this folder that gives these answers."""
    place = folder / "answers"
    place.mkdir()
    for command, (code, out, err) in answers.items():
        file = place / _file(command)
        file.with_name(f"{file.name}.code").write_text(str(code))
        file.with_name(f"{file.name}.out").write_text(_text(out))
        file.with_name(f"{file.name}.err").write_text(err)
    program = folder / "kubectl"
    program.write_text(SCRIPT.format(answers=place))
    program.chmod(0o755)
    config = folder / "kube.conf"
    config.write_text(kubeconfig)
    config.chmod(0o600)
    return Recorded(str(program), str(config), place)


def script(folder: Path, *lines: str) -> str:
    """A program of these shell lines."""
    program = folder / "program"
    program.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    program.chmod(0o755)
    return str(program)


def _text(out: object) -> str:
    if isinstance(out, str):
        return out
    documents: Sequence[object] = out if isinstance(out, list) else [out]
    return "".join(json.dumps(each, indent=4) + "\n" for each in documents)


def _file(command: str) -> str:
    return re.sub(r"[^A-Za-z0-9=.,-]", "_", f" {command}")
