"""How the tasks' losses or gradients become one step."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("balancers")
