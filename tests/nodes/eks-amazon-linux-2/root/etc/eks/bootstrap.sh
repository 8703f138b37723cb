#!/usr/bin/env bash
# left out
