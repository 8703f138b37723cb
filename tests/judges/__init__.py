# SPDX-License-Identifier: Apache-2.0
"""Real daemons as judges of what cgmigrate writes into configuration files."""
