"""Smaller and faster versions of a published ONNX model: one module for each kind, `registry.KINDS` lists them.

A kind writes an artefact beside nothing else; what every kind has in common is done here too: reading the version that
is optimised, its data, scoring, evidence, measuring. Publishing is the verb's work (`modelport.commands.optimise`).
"""

from __future__ import annotations
