"""The evaluation: repeatable, offline, without a judge model. `python -m eval --help`; it imports `assistant`, never the
other way round."""
