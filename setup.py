"""Packaging of taskmask: everything is in pyproject.toml."""

from setuptools import setup

setup()
