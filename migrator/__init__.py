# SPDX-License-Identifier: Apache-2.0
"""cgmigrate: move a Kubernetes node from the cgroupfs to the systemd cgroup driver."""

__version__ = "0.1.0"
