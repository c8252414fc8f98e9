"""A package that brings a masker: the entry point is all that taskmask needs to find it."""

from setuptools import setup

setup(
    name="taskmask-first-letters",
    version="0.1.0",
    py_modules=["first_letters"],
    install_requires=["taskmask"],
    entry_points={"taskmask.masker": ["first_letters = first_letters:FirstLetters"]},
)
