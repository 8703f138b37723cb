# SPDX-License-Identifier: Apache-2.0
"""Throwaway Kubernetes nodes: real systemd, Docker or containerd, and kubelet 1.20.2, in systemd-nspawn."""
