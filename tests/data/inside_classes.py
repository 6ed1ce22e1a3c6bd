"""Classes of make_inside.py, in a module of their own: pickles name the module that a reader must import."""
import collections
import enum

import torch


class Mode(enum.Enum):
    TRAIN = 1


class Easy(dict):
    """A dict whose entries are attributes too, as EasyDict has them."""

    def __init__(self, **entries):
        super().__init__(**entries)
        self.__dict__.update(entries)


class Plain:
    def __init__(self, **fields):
        self.__dict__.update(fields)


class Slots:
    __slots__ = ("weight", "name")

    def __init__(self, weight, name):
        self.weight, self.name = weight, name


class Listed:
    """Everything that __reduce_ex__ can give: arguments, state, list items, dict items."""

    def __init__(self, *args):
        self.args, self.items, self.pairs = args, [], {}

    def append(self, item):
        self.items.append(item)

    def extend(self, items):
        self.items.extend(items)

    def __setitem__(self, key, item):
        self.pairs[key] = item

    def __reduce_ex__(self, protocol):
        return Listed, self.args, self.state, iter(self.items), iter(self.pairs.items())


class Keyword:
    def __new__(cls, *, weight):
        made = super().__new__(cls)
        made.weight = weight
        return made

    def __getnewargs_ex__(self):
        return (), {"weight": self.weight}

    def __getstate__(self):
        return None


Point = collections.namedtuple("Point", "x y")


class Sub(torch.Tensor):
    pass
