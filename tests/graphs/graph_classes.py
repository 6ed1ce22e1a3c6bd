"""The classes of the random graphs: one for each way in which Python's objects tell a pickler how to remake them."""
import collections
import enum


class Node:
    """New-style, state is its __dict__, hashed by identity. `serial` sorts it in a set."""


class Slots:
    __slots__ = ("a", "b")


class SlotsAndDict(Slots):
    """State is (dict, slots)."""


class Outer:
    class Inner:
        """Its name has a dot: GLOBAL cannot say it before protocol 4."""


class Getstate:
    """State of any kind, false ones too; None is no state for a pickler."""
    state = None
    def __init__(self, state): self.state = state
    def __getstate__(self): return self.state
    def __setstate__(self, state): self.state = state


NO_STATE = object()


class Reduced:
    """Made by a function from its arguments; `args` is one tuple, which others may hold too."""
    def __init__(self, args): self.args, self.state = args, NO_STATE
    def __reduce__(self):
        return (make_reduced, self.args) if self.state is NO_STATE else (make_reduced, self.args, self.state)
    def __setstate__(self, state): self.state = state


def make_reduced(*args): return Reduced(args)


class Iterated:
    """Items and pairs that are neither a list's nor a dict's, after arguments."""
    def __init__(self, first=None): self.first, self.items, self.pairs = first, [], []
    def __reduce__(self): return Iterated, (self.first,), None, iter(self.items), iter(self.pairs)
    def append(self, item): self.items.append(item)
    def extend(self, items): self.items.extend(items)
    def __setitem__(self, key, value): self.pairs.append((key, value))


class NewArgs:
    def __new__(cls, *args):
        self = super().__new__(cls)
        self.args = args
        return self
    def __getnewargs__(self): return self.args
    def __getstate__(self): return None


class NewArgsEx:
    __slots__ = ("args", "key")
    def __new__(cls, *args, key=None):
        self = super().__new__(cls)
        self.args, self.key = args, key
        return self
    def __getnewargs_ex__(self): return self.args, {"key": self.key}
    def __getstate__(self): return None


class MyList(list): __slots__ = ()
class MyDict(dict): __slots__ = ()
class ListWithState(list): pass
class DictWithState(dict): pass
class MyOrderedDict(collections.OrderedDict): pass
class MySet(set): pass
class MyTuple(tuple): pass
class MyInt(int): pass
class MyFloat(float): pass
class MyStr(str): pass
class MyError(Exception): pass


class ByValue:
    """Python 3.11 alone has pickled members in three ways; this is the one of most releases."""
    def __reduce_ex__(self, protocol): return type(self), (self.value,)


class Color(ByValue, enum.Enum):
    RED, GREEN = 1, "g"


class Bits(ByValue, enum.IntFlag):
    A, B = 1, 2


Point = collections.namedtuple("Point", "x y")


class Singleton:
    def __reduce__(self): return "SINGLETON"


SINGLETON = Singleton()
