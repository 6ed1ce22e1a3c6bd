"""Stands in for torch in these tests, so that tensors can be pickled and read where PyTorch is not installed: the same
names in the pickles, the same persistent ids, and objects that only remember what they were made of."""
import sys
import types
from collections import OrderedDict

DTYPES = {  # name: (storage class, bytes of an element)
    "uint8": ("ByteStorage", 1), "int8": ("CharStorage", 1), "int16": ("ShortStorage", 2), "int32": ("IntStorage", 4),
    "int64": ("LongStorage", 8), "float16": ("HalfStorage", 2), "float32": ("FloatStorage", 4), "float64": ("DoubleStorage", 8),
    "complex64": ("ComplexFloatStorage", 8), "complex128": ("ComplexDoubleStorage", 16), "bool": ("BoolStorage", 1),
    "bfloat16": ("BFloat16Storage", 2), "qint8": ("QInt8Storage", 1), "quint8": ("QUInt8Storage", 1), "qint32": ("QInt32Storage", 4),
    "complex32": (None, 4), "bits1x8": (None, 1), "bits2x4": (None, 1), "bits4x2": (None, 1), "bits8": (None, 1), "bits16": (None, 2),
    "float8_e5m2": (None, 1), "float8_e4m3fn": (None, 1), "float8_e5m2fnuz": (None, 1), "float8_e4m3fnuz": (None, 1),
    "uint16": (None, 2), "uint32": (None, 4), "uint64": (None, 8), "float8_e8m0fnu": (None, 1), "float4_e2m1fn_x2": (None, 1),
    "bcomplex32": (None, 4),
}
FLOATS = [d for d in DTYPES if "float" in d and d != "float4_e2m1fn_x2"]
COMPLEX = [d for d in DTYPES if "complex" in d]


class Dtype:
    """Pickled as a name of torch; so are quantisation schemes."""
    __module__ = "torch"
    def __init__(self, name): self.name = name
    def __reduce__(self): return self.name


class Storage:
    def __init__(self, cls, data): self.cls, self.data = cls, data
    def persistent_id(self, key):
        itemsize = next((size for cls, size in DTYPES.values() if cls == self.cls.__name__), 1)
        return "storage", self.cls, key, "cpu", len(self.data) // itemsize


class Tensor:
    """`how` is the function that rebuilds it; a parameter or one with attributes has an `inner` one."""
    __module__ = "torch"

    def __init__(self, how, storage=None, dtype=None, offset=0, size=(), stride=(), grad=False, conj=False, neg=False, inner=None,
                 extra=None):
        self.how, self.storage, self.dtype, self.offset, self.size, self.stride = how, storage, dtype, offset, size, stride
        self.grad, self.conj, self.neg, self.inner, self.extra = grad, conj, neg, inner, extra

    def view(self):
        return self.storage, self.offset, self.size, self.stride

    def metadata(self):
        return {name: True for name in ("conj", "neg") if getattr(self, name)}

    def __reduce_ex__(self, protocol):
        function, hooks = getattr(utils, self.how, None), OrderedDict()
        if self.how == "_rebuild_tensor_v2":
            return function, (*self.view(), self.grad, hooks) + ((self.metadata(),) if self.metadata() else ())
        if self.how == "_rebuild_tensor_v3":
            return function, (*self.view(), self.grad, hooks, getattr(torch, self.dtype)) + ((self.metadata(),) if self.metadata() else ())
        if self.how == "_rebuild_qtensor":
            return function, (*self.view(), self.extra[0], self.grad, hooks)
        if self.how == "_rebuild_meta_tensor_no_storage":
            return function, (getattr(torch, self.dtype), self.size, self.stride, self.grad)
        if self.how == "_rebuild_parameter":
            return function, (self.inner, self.grad, hooks)
        if self.how == "_rebuild_parameter_with_state":
            return function, (self.inner, self.grad, hooks, self.extra[0])
        inner = self.inner.__reduce_ex__(protocol)
        return tensor_module._rebuild_from_type_v2, (inner[0], self.extra[0], inner[1], self.extra[1])


class Size(tuple):
    __module__ = "torch"
    def __reduce__(self): return Size, (tuple(self),)


class device:
    __module__ = "torch"
    def __init__(self, *args): self.args = args
    def __reduce__(self): return device, self.args


torch, utils, storage_module, tensor_module = (types.ModuleType(n) for n in ("torch", "torch._utils", "torch.storage", "torch._tensor"))


def dtype_of(storage):
    return next((d for d, (cls, _) in DTYPES.items() if cls == storage.cls.__name__), "uint8")


def _rebuild_tensor_v2(storage, offset, size, stride, grad, hooks, metadata=None):
    m = metadata or {}
    return Tensor("_rebuild_tensor_v2", storage, dtype_of(storage), offset, size, stride, grad, m.get("conj", False), m.get("neg", False))


def _rebuild_tensor_v3(storage, offset, size, stride, grad, hooks, dtype, metadata=None):
    m = metadata or {}
    return Tensor("_rebuild_tensor_v3", storage, dtype.name, offset, size, stride, grad, m.get("conj", False), m.get("neg", False))


def _rebuild_qtensor(storage, offset, size, stride, qparams, grad, hooks):
    return Tensor("_rebuild_qtensor", storage, dtype_of(storage), offset, size, stride, grad, extra=(qparams,))


def _rebuild_meta_tensor_no_storage(dtype, size, stride, grad):
    return Tensor("_rebuild_meta_tensor_no_storage", None, dtype.name, 0, size, stride, grad)


def _rebuild_parameter(data, grad, hooks):
    return Tensor("_rebuild_parameter", data.storage, data.dtype, data.offset, data.size, data.stride, grad, data.conj, data.neg, data)


def _rebuild_parameter_with_state(data, grad, hooks, state):
    return Tensor("_rebuild_parameter_with_state", data.storage, data.dtype, data.offset, data.size, data.stride, grad, data.conj,
                  data.neg, data, (state,))


def _rebuild_from_type_v2(function, cls, args, state):
    t = function(*args)
    return Tensor("_rebuild_from_type_v2", t.storage, t.dtype, t.offset, t.size, t.stride, t.grad, t.conj, t.neg, t, (cls, state))


def fill():
    """The names that pickles look for in the modules."""
    for name, (cls, _) in DTYPES.items():
        setattr(torch, name, Dtype(name))
        if cls is not None:
            setattr(torch, cls, type(cls, (), {"__module__": "torch"}))
    for name in ("per_tensor_affine", "per_channel_affine"):
        setattr(torch, name, Dtype(name))
    storage_module.UntypedStorage = type("UntypedStorage", (), {"__module__": "torch.storage"})
    torch.Tensor, torch.Size, torch.device = Tensor, Size, device
    for function in (_rebuild_tensor_v2, _rebuild_tensor_v3, _rebuild_qtensor, _rebuild_meta_tensor_no_storage, _rebuild_parameter,
                     _rebuild_parameter_with_state):
        function.__module__ = "torch._utils"
        setattr(utils, function.__name__, function)
    _rebuild_from_type_v2.__module__ = "torch._tensor"
    tensor_module._rebuild_from_type_v2 = _rebuild_from_type_v2


def install():
    """Takes torch's place in this process."""
    for module in (torch, utils, storage_module, tensor_module):
        sys.modules[module.__name__] = module


fill()
