"""Flags that every command has."""

FLAGS = {
    "--help": "this page",
    "--print-config": "print the composed configuration, run nothing",
    "--config-dir": "DIR with configs of your own, searched before the shipped ones; repeatable",
    "--debug": "show the traceback of an error",
}
