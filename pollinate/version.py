"""The project's version: also known where only a copy of the code is, in a served model."""

VERSION = "0.1.0"
