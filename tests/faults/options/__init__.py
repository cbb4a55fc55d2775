"""The command line of train.py and the values of an experiment."""
